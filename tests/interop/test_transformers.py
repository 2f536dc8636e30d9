"""transformers' directories, both ways."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import layerwise as lw
from layerwise.api.models import load_pretrained
from layerwise.core.errors import CheckpointError
from layerwise.interop.layouts import recognise

Randomised = Callable[[nn.Module], nn.Module]
VIT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8, "num_labels": 7,
}  # fmt: skip
RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [32, 48], "depths": [2, 1], "num_labels": 7}
CASES: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "vit": ("ViT", VIT, (32, 32)),
    "vit-grey-no-bias": ("ViT", {**VIT, "qkv_bias": False, "num_channels": 1, "layer_norm_eps": 1e-3}, (32, 32)),
    "resnet-bottleneck": ("ResNet", RESNET, (33, 50)),
    "resnet-2015": ("ResNet", {**RESNET, "downsample_in_bottleneck": True, "num_channels": 1}, (40, 37)),
    "resnet-basic": ("ResNet", {**RESNET, "hidden_sizes": [8, 12], "layer_type": "basic"}, (40, 37)),
}


@pytest.fixture
def save(randomised: Randomised, tmp_path: Path) -> Callable[..., nn.Module]:
    """`save(kind, **options)`: a classifier of transformers in `checkpoint`, as it saves itself."""
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()

    def write(kind: str, body: bool = False, **options: Any) -> nn.Module:
        config = getattr(transformers, f"{kind}Config")(**options)
        network = getattr(transformers, f"{kind}{'Model' if body else 'ForImageClassification'}")(config)
        randomised(network).save_pretrained(tmp_path / "checkpoint")
        return network

    return write


@pytest.mark.parametrize("case", CASES)
def test_a_directory_of_transformers_loads_and_is_saved_back(
    case: str, save: Callable[..., nn.Module], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    kind, options, size = CASES[case]
    theirs: Any = save(kind, **options)
    images = torch.randn(2, options.get("num_channels", 3), *size)
    ours = lw.from_pretrained(tmp_path / "checkpoint")
    assert_same(ours(images), theirs(images).logits)
    lw.save_pretrained(ours, tmp_path / "back", "transformers")
    back = type(theirs).from_pretrained(tmp_path / "back").eval()
    assert torch.equal(back(images).logits, theirs(images).logits)
    assert_same(ours.double()(images.double()), theirs.double()(images.double()).logits, torch.float64)


@pytest.mark.parametrize("kind", ["ViT", "ResNet"])
def test_the_body_alone_gets_a_new_head(kind: str, save: Callable[..., nn.Module], tmp_path: Path) -> None:
    theirs: Any = save(kind, body=True, **(VIT if kind == "ViT" else RESNET))
    ours, report = load_pretrained(tmp_path / "checkpoint", num_classes=4)
    report.check(extra=False)
    assert len(report.replaced) == 2
    images = torch.randn(2, 3, 32, 32)
    features = ours.forward_features(images)
    found = theirs(images)
    wanted = found.last_hidden_state[:, 0] if kind == "ViT" else found.pooler_output.flatten(1)
    assert torch.allclose(features, wanted, atol=1e-5)


def test_layers_norms_have_the_eps_of_the_library(save: Callable[..., nn.Module], tmp_path: Path) -> None:
    save("ViT", **VIT)
    assert lw.from_pretrained(tmp_path / "checkpoint").config.eps == 1e-12
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((tmp_path / "checkpoint" / "model.safetensors").read_bytes())
    sizes = {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_ff": 64, "patch_size": 8, "image_size": (32, 32)}
    assert lw.from_pretrained(bare, model="vit_base_patch16_224", **sizes).config.eps == 1e-12


def test_weights_in_several_files_load(save: Callable[..., nn.Module], tmp_path: Path) -> None:
    theirs: Any = save("ViT", **VIT)
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(lw.from_pretrained(tmp_path / "parts")(images), theirs(images).logits, atol=1e-5)
    next((tmp_path / "parts").glob("model-00002*")).unlink()
    with pytest.raises(CheckpointError, match="model-00002"):
        lw.from_pretrained(tmp_path / "parts")


def test_class_names_and_preprocessing_are_read(save: Callable[..., nn.Module], tmp_path: Path) -> None:
    save("ViT", **{**VIT, "num_labels": 2}, id2label={0: "cat", 1: "dog"})
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "resample": 3}
    (tmp_path / "checkpoint" / "preprocessor_config.json").write_text(json.dumps(processor))
    found = recognise(tmp_path / "checkpoint")
    assert found.class_names == ("cat", "dog")
    assert found.preprocessing is not None
    assert (found.preprocessing.fit.mode, found.preprocessing.fit.interpolation) == ("squash", "bicubic")


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("hidden_act", "relu", "hidden_act='relu'"),
        ("model_type", "deit", "'ViTForImageClassification'"),
        ("layer_scale", 0.1, "layer_scale=0.1"),
        ("num_attention_heads", 5, "num_heads=5"),
        ("hidden_size", "wide", "d_model=wide"),
    ],
)
def test_a_configuration_that_is_not_implemented_is_named(
    key: str, value: Any, word: str, save: Callable[..., nn.Module], tmp_path: Path
) -> None:
    save("ViT", **VIT)
    path = tmp_path / "checkpoint" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=word):
        lw.from_pretrained(tmp_path / "checkpoint")
