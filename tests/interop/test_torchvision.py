"""torchvision's state dicts, both ways."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import layerwise as lw
from layerwise.core.errors import CheckpointError, ConfigError, UnsupportedError
from layerwise.interop.layouts import assumed_preprocessing, recognise
from layerwise.tasks.preprocessing import Normalise

# torchvision's name -> ours; the smallest of each family whose names differ.
CASES = {
    "alexnet": "alexnet", "resnet18": "resnet18", "efficientnet_b0": "efficientnet_b0", "googlenet": "googlenet",
    "inception_v3": "inception_v3", "vgg11_bn": "vgg11_bn", "vit_b_32": "vit_base_patch32_224",
}  # fmt: skip
SLOW = pytest.mark.slow
Randomised = Callable[[nn.Module], nn.Module]


def made(torchvision: ModuleType, name: str) -> nn.Module:
    arguments = {"init_weights": False, "transform_input": False} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(num_classes=3, **arguments)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=SLOW if n in ("alexnet", "vgg11_bn", "vit_b_32") else ()) for n in CASES]
)
def test_a_state_dict_of_torchvision_loads_and_is_saved_back(
    name: str, torchvision: ModuleType, randomised: Randomised, assert_same: Callable[..., None], tmp_path: Path
) -> None:
    theirs = randomised(made(torchvision, name))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = lw.from_pretrained(tmp_path / "weights.pth", model=CASES[name])
    assert ours.config.num_classes == 3
    images = torch.randn(2, 3, 224 if "vit" in name else 75, 224 if "vit" in name else 80)
    assert_same(ours(images), theirs(images))
    lw.save_pretrained(ours, tmp_path / "out", "torchvision", class_names=list("xyz"))
    back = made(torchvision, name)
    back.load_state_dict(torch.load(tmp_path / "out" / "model.pth", weights_only=True))
    assert torch.equal(back.eval()(images), theirs(images))
    found = recognise(tmp_path / "out")
    assert found.class_names == ("x", "y", "z")
    assert torch.equal(lw.from_pretrained(tmp_path / "out")(images), ours(images))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_normalise_inside_take_other_numbers_here(
    name: str, torchvision: ModuleType, randomised: Randomised, assert_same: Callable[..., None], tmp_path: Path
) -> None:
    """With its published weights torchvision has `transform_input=True`; here that is part of the preprocessing."""
    theirs = randomised(made(torchvision, name))
    theirs.transform_input = True
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    known = assumed_preprocessing({"name": name})
    assert known is not None
    assert known.fit.size == ((299, 299) if name == "inception_v3" else (224, 224))
    assert known.resized() == ((342, 342) if name == "inception_v3" else (256, 256))
    picture = torch.randint(0, 256, (2, 3, 80, 76), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    wanted = theirs((picture / 255 - mean) / std)
    assert_same(
        lw.from_pretrained(tmp_path / "weights.pth", model=name)(Normalise(known.mean, known.std)(picture)), wanted
    )


def test_an_inception_without_its_auxiliary_head_is_said_to_be_so(
    torchvision: ModuleType, randomised: Randomised, assert_same: Callable[..., None], tmp_path: Path
) -> None:
    theirs = randomised(torchvision.models.Inception3(num_classes=3, aux_logits=False, init_weights=False))
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"missing AuxLogits\.conv0"):
        lw.from_pretrained(tmp_path / "weights.pth", model="inception_v3")
    ours = lw.from_pretrained(tmp_path / "weights.pth", model="inception_v3", auxiliary=False)
    images = torch.randn(1, 3, 75, 78)
    assert_same(ours(images), theirs(images))
    lw.save_pretrained(ours, tmp_path / "out", "torchvision")
    theirs.load_state_dict(torch.load(tmp_path / "out" / "model.pth", weights_only=True))
    assert lw.from_pretrained(tmp_path / "out").config == ours.config


def test_a_safetensors_file_of_a_wrapped_network_loads(
    torchvision: ModuleType, randomised: Randomised, tmp_path: Path
) -> None:
    """Data-parallel training and training scripts put names and dictionaries around the weights."""
    theirs = randomised(made(torchvision, "resnet18"))
    state = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    torch.save({"model": state, "epoch": 3}, tmp_path / "weights.pth")
    images = torch.randn(1, 3, 64, 64)
    for file in ("weights.safetensors", "weights.pth"):
        assert torch.equal(lw.from_pretrained(tmp_path / file, model="resnet18")(images), theirs(images))


def test_files_from_before_batches_were_counted_load(
    torchvision: ModuleType, randomised: Randomised, tmp_path: Path
) -> None:
    theirs = randomised(made(torchvision, "resnet18"))
    state = {n: v for n, v in theirs.state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(lw.from_pretrained(tmp_path / "old.pth", model="resnet18")(images), theirs(images))


def test_a_deeper_network_of_the_same_names_is_refused(torchvision: ModuleType, tmp_path: Path) -> None:
    torch.save(made(torchvision, "resnet34").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"layer1\.2\.conv1\.weight"):
        lw.from_pretrained(tmp_path / "weights.pth", model="resnet18")
    with pytest.warns(UserWarning, match="Not used"):
        lw.from_pretrained(tmp_path / "weights.pth", model="resnet18", strict=False)


def test_another_architecture_is_refused(torchvision: ModuleType, tmp_path: Path) -> None:
    torch.save(made(torchvision, "resnet18").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="not those of vgg11"):
        lw.from_pretrained(tmp_path / "weights.pth", model="vgg11")
    with pytest.raises(ConfigError, match=r"model=\.\.\."):
        lw.from_pretrained(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("resnet20_cifar", "has not depths"),
        ("convnet", "no map for convnet"),
        ("inception_v3-fid", "has not pools='tensorflow-2015'"),
    ],
)
def test_what_torchvision_does_not_have_is_not_saved_as_its(name: str, word: str, tmp_path: Path) -> None:
    network = lw.create_model(name, num_classes=3, in_channels=3)
    with pytest.raises(UnsupportedError, match=word):
        lw.save_pretrained(network, tmp_path / "out", "torchvision")
