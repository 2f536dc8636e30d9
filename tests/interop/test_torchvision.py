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
from layerwise.interop.layouts import recognise

# torchvision's name -> ours; the smallest of each family whose names differ.
CASES = {
    "alexnet": "alexnet", "resnet18": "resnet18", "efficientnet_b0": "efficientnet_b0", "googlenet": "googlenet",
    "vgg11_bn": "vgg11_bn", "vit_b_32": "vit_base_patch32_224",
}  # fmt: skip
SLOW = pytest.mark.slow
Randomised = Callable[[nn.Module], nn.Module]


def made(torchvision: ModuleType, name: str) -> nn.Module:
    arguments = {"init_weights": False, "transform_input": False} if name == "googlenet" else {}
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


@pytest.mark.parametrize(("name", "word"), [("resnet20_cifar", "has not depths"), ("convnet", "no map for convnet")])
def test_what_torchvision_does_not_have_is_not_saved_as_its(name: str, word: str, tmp_path: Path) -> None:
    network = lw.create_model(name, num_classes=3, in_channels=3)
    with pytest.raises(UnsupportedError, match=word):
        lw.save_pretrained(network, tmp_path / "out", "torchvision")
