"""timm's directories, both ways: what it saved is loaded, what is saved it loads, with equal outputs."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import layerwise as lw
from layerwise.api.models import load_pretrained
from layerwise.core.errors import CheckpointError, UnsupportedError
from layerwise.interop import timm_vgg
from layerwise.interop.layouts import recognise
from layerwise.interop.rules import to_ours, to_theirs

VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
CASES: dict[str, dict[str, Any]] = {
    "vit_base_patch16_224": VIT,
    "vit_small_patch32_224": {**VIT, "mlp_ratio": 3, "qkv_bias": False, "in_chans": 1},
    "deit_tiny_patch16_224": {"img_size": 48, "depth": 1},
    "resnet18": {"layers": (1, 1, 1, 1), "channels": (64, 16, 16, 16)},
    "resnet50": {"layers": (1, 2, 1, 1), "channels": (64, 16, 24, 16), "in_chans": 1},
    "efficientnet_b0": {},
    "tf_efficientnet_b0": {"in_chans": 1},
}
Randomised = Callable[[nn.Module], nn.Module]


@pytest.fixture
def save(timm: ModuleType, randomised: Randomised, tmp_path: Path) -> Callable[..., nn.Module]:
    """`save(name, **arguments)`: a network of timm in `checkpoint`, as timm itself saves it."""

    def write(name: str, **arguments: Any) -> nn.Module:
        network = randomised(timm.create_model(name, **{"num_classes": 7, **arguments}))
        timm.models.save_for_hf(network, tmp_path / "checkpoint", safe_serialization=True)
        return network

    return write


def pictures(network: nn.Module, size: int = 32) -> torch.Tensor:
    channels = 1 if "in_chans" in json.dumps(getattr(network, "pretrained_cfg", {})) else 3
    channels = next(m.in_channels for m in network.modules() if isinstance(m, nn.Conv2d)) or channels
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CASES)
def test_a_directory_of_timm_loads_and_is_saved_back(
    name: str, timm: ModuleType, save: Callable[..., nn.Module], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    theirs = save(name, **CASES[name])
    images = pictures(theirs, 48 if "img_size" in CASES[name] and CASES[name]["img_size"] == 48 else 32)
    ours = lw.from_pretrained(tmp_path / "checkpoint")
    assert_same(ours(images), theirs(images))
    assert_same(ours.double()(images.double()), theirs.double()(images.double()), torch.float64)
    lw.save_pretrained(ours.float(), tmp_path / "back", "timm")
    back = timm.create_model(f"local-dir:{tmp_path / 'back'}", pretrained=True).eval()
    assert torch.equal(back(images), theirs.float()(images))


def test_preprocessing_and_class_names_come_from_the_file(
    save: Callable[..., nn.Module], timm: ModuleType, tmp_path: Path
) -> None:
    save("vit_base_patch16_224", **VIT)
    path = tmp_path / "checkpoint" / "config.json"
    tree = json.loads(path.read_text())
    tree["label_names"] = list("abcdefg")
    path.write_text(json.dumps(tree))
    found = recognise(tmp_path / "checkpoint")
    assert found.class_names == tuple("abcdefg")
    assert found.preprocessing is not None
    wanted = timm.data.resolve_data_config({}, pretrained_cfg=tree["pretrained_cfg"])
    assert found.preprocessing.fit.size == tuple(wanted["input_size"][1:])
    assert found.preprocessing.fit.interpolation == wanted["interpolation"]
    assert found.preprocessing.mean == tuple(wanted["mean"])


def test_the_older_single_dictionary_is_read_too(save: Callable[..., nn.Module], tmp_path: Path) -> None:
    theirs = save("deit_tiny_patch16_224", depth=12)
    path = tmp_path / "checkpoint" / "config.json"
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({"architecture": tree["architecture"], **tree["pretrained_cfg"], "num_classes": 7}))
    images = pictures(theirs, 224)
    assert torch.allclose(lw.from_pretrained(tmp_path / "checkpoint")(images), theirs(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "word"),
    [
        ("vit_base_patch16_224", {**VIT, "init_values": 1e-5}, "init_values"),
        ("vit_base_patch16_224", {**VIT, "global_pool": "avg"}, "global_pool"),
        ("resnet18", {"layers": (1, 1, 1, 1), "avg_down": True}, "avg_down"),
        ("resnet18d", {}, "resnet18d"),
    ],
)
def test_a_value_that_changes_the_function_is_named(
    name: str, arguments: dict[str, Any], word: str, save: Callable[..., nn.Module], tmp_path: Path
) -> None:
    save(name, **arguments)
    with pytest.raises(CheckpointError, match=word):
        lw.from_pretrained(tmp_path / "checkpoint")


def test_an_argument_that_is_not_known_is_named(save: Callable[..., nn.Module], tmp_path: Path) -> None:
    save("vit_base_patch16_224", **VIT)
    path = tmp_path / "checkpoint" / "config.json"
    tree = json.loads(path.read_text())
    tree["model_args"]["attention_temperature"] = 2.0
    path.write_text(json.dumps(tree))
    with pytest.raises(CheckpointError, match=r"attention_temperature=2\.0"):
        lw.from_pretrained(tmp_path / "checkpoint")


def test_another_number_of_classes_gets_a_new_head(save: Callable[..., nn.Module], tmp_path: Path) -> None:
    theirs = save("vit_base_patch16_224", **VIT)
    ours, report = load_pretrained(tmp_path / "checkpoint", num_classes=3)
    assert set(report.replaced) == {"head.weight", "head.bias"}
    assert report.replaced["head.weight"] == ([7, 32], [3, 32])
    assert "New head" in " ".join(report.lines())
    images = pictures(theirs)
    wanted = theirs.forward_features(images)[:, 0]
    assert torch.allclose(ours.forward_features(images), wanted, atol=1e-5)
    assert lw.from_pretrained(tmp_path / "checkpoint", num_classes=3)(images).shape == (2, 3)


def test_another_size_of_pictures_resamples_positions_as_timm_does(
    timm: ModuleType, save: Callable[..., nn.Module], tmp_path: Path, assert_same: Callable[..., None]
) -> None:
    save("vit_base_patch16_224", **VIT)
    ours, report = load_pretrained(tmp_path / "checkpoint", image_size=(48, 40))
    assert list(report.reshaped) == ["pos_embed"]
    theirs = timm.create_model(f"local-dir:{tmp_path / 'checkpoint'}", pretrained=True, img_size=(48, 40)).eval()
    images = torch.randn(2, 3, 48, 40)
    assert_same(ours(images), theirs(images))


def test_a_checkpoint_without_a_classifier_asks_for_classes(save: Callable[..., nn.Module], tmp_path: Path) -> None:
    from layerwise.core.errors import ConfigError

    save("vit_base_patch16_224", **VIT, num_classes=0)
    with pytest.raises(ConfigError, match="num_classes"):
        lw.from_pretrained(tmp_path / "checkpoint")
    assert lw.from_pretrained(tmp_path / "checkpoint", num_classes=4)(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("vit-tiny", {"eps": 1e-12}, "eps=1e-12"),
        ("resnet-tiny", {}, "stem has 64"),
        ("resnet20_cifar", {}, "stem"),
        ("efficientnet_b5", {}, "eps=0.001"),
        ("efficientnet-tiny", {}, "width=0.25"),
        ("vgg-tiny", {}, r"widths=\(4"),
        ("vgg16", {"hidden": 512}, "hidden=512"),
        ("vgg16", {"depths": (1, 1, 1, 1, 1)}, "has not depths"),
        ("vgg16", {"norm": "group_norm"}, "has not norm='group_norm'"),
        ("inception_v3-tiny", {}, "width=0.0625"),
        ("inception_v3-fid", {}, "pools='tensorflow-2015'"),
    ],
)
def test_what_timm_cannot_say_is_not_saved_in_its_layout(
    name: str, options: dict[str, Any], word: str, tmp_path: Path
) -> None:
    with torch.device("meta"):
        network = lw.create_model(name, **{"num_classes": 5, "in_channels": 3, **options})
    with pytest.raises(UnsupportedError, match=word):
        lw.save_pretrained(network, tmp_path / "out", "timm")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------------- VGG


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(32, 32), (47, 65), (224, 255)])
def test_a_small_vgg_of_timm_gives_the_same_logits(
    dtype: torch.dtype,
    size: tuple[int, int],
    timm: ModuleType,
    randomised: Randomised,
    assert_same: Callable[..., None],
) -> None:
    """timm's class with narrow layers; its own presets have 4,096 hidden units."""
    stages = [4, "M", 8, "M", 8, "M", 8, "M", 8, 8, "M"]
    theirs = timm.models.vgg.VGG(stages, num_classes=7, in_chans=1, norm_layer=nn.BatchNorm2d)
    theirs.pre_logits = timm.models.vgg.ConvMlp(8, 16, 7)
    theirs.head.fc = nn.Linear(16, 7)
    theirs = randomised(theirs).to(dtype)
    ours = lw.create_model("vgg-tiny", num_classes=7, in_channels=1).eval().to(dtype)
    mapped = to_ours(timm_vgg.rules(ours.config), theirs.state_dict())
    ours.load_state_dict(mapped.state)
    images = torch.randn(2, 1, *size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    assert_same(ours(images), theirs(images), dtype)
    back = to_theirs(timm_vgg.rules(ours.config), ours.state_dict())
    assert back.state.keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, back.state[name]) for name, value in theirs.state_dict().items())


@pytest.mark.parametrize("name", timm_vgg.PRESETS)
def test_every_vgg_has_timms_names_and_shapes(name: str, timm: ModuleType) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=9).state_dict()
        ours = lw.create_model(name, num_classes=9, in_channels=3)
    mapped = to_theirs(timm_vgg.rules(ours.config), ours.state_dict())
    assert {key: value.shape for key, value in mapped.state.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.slow
def test_a_directory_of_timms_vgg_loads_and_is_saved_back(
    timm: ModuleType, save: Callable[..., nn.Module], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    """133 million parameters: there is no smaller one."""
    theirs = save("vgg11_bn", in_chans=1)
    images = pictures(theirs, 33)
    ours = lw.from_pretrained(tmp_path / "checkpoint")
    assert_same(ours(images), theirs(images))
    lw.save_pretrained(ours, tmp_path / "back", "timm")
    back = timm.create_model(f"local-dir:{tmp_path / 'back'}", pretrained=True).eval()
    assert torch.equal(back(images), theirs(images))


# ------------------------------------------------------------------------------------------------------- Inception v3


@pytest.mark.parametrize("arguments", [{}, {"in_chans": 1, "aux_logits": True}], ids=["plain", "auxiliary"])
def test_a_directory_of_timms_inception_loads_and_is_saved_back(
    arguments: dict[str, Any],
    timm: ModuleType,
    save: Callable[..., nn.Module],
    assert_same: Callable[..., None],
    tmp_path: Path,
) -> None:
    """With its auxiliary head timm gives a pair, and takes pictures of 299 x 299 pixels or more."""
    theirs = save("inception_v3", **arguments)
    auxiliary = "aux_logits" in arguments
    images = pictures(theirs, 299 if auxiliary else 77)[:1]
    ours, report = load_pretrained(tmp_path / "checkpoint")
    report.check(extra=False)
    assert ours.config.auxiliary is auxiliary
    wanted = theirs(images)
    assert_same(ours(images), wanted[0] if auxiliary else wanted)
    lw.save_pretrained(ours, tmp_path / "back", "timm")
    back = timm.create_model(f"local-dir:{tmp_path / 'back'}", pretrained=True).eval()
    assert all(map(torch.equal, back(images), wanted))


def test_an_auxiliary_head_that_timm_leaves_in_the_file_is_left_there(
    timm: ModuleType, save: Callable[..., nn.Module], assert_same: Callable[..., None], tmp_path: Path
) -> None:
    """As in the weights that timm took from torchvision."""
    plain = save("inception_v3")
    state = timm.create_model("inception_v3", num_classes=7, aux_logits=True).state_dict() | plain.state_dict()
    save_file(state, tmp_path / "checkpoint" / "model.safetensors")
    ours, report = load_pretrained(tmp_path / "checkpoint")
    report.check(extra=False)
    images = pictures(plain, 75)
    assert_same(ours(images), plain(images))
    found = recognise(tmp_path / "checkpoint").preprocessing
    assert found is not None
    assert (found.fit.size, found.mean, found.std) == ((299, 299), (0.5,) * 3, (0.5,) * 3)
