"""Recipes of the convolutional classifiers: which one a preset takes, and that each learns in the loop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.api.configure import configure, load_recipe
from layerwise.train.build import build

# Each family, made small enough for seconds.
SMALL: dict[str, dict[str, Any]] = {
    "alexnet": {"model.channels": [16, 24, 32, 32, 16], "model.hidden": 64, "optimizer.lr": 2e-3},
    "vgg": {"model.depths": [1, 1, 1, 1, 1], "model.widths": [8, 16, 16, 32, 32], "model.hidden": 64},
    "googlenet": {"model.stem": [16, 16, 24], "model.inceptions": [[8, 8, 16, 4, 8, 8]] * 9},
    "inception_v3": {"model.width": 1 / 16, "model.dropout": 0.0, "data.size": [80, 80], "max_steps": 100},
    "resnet": {"model.depths": [1, 1, 1, 1], "model.widths": [8, 16, 16, 32]},
    "efficientnet": {"model.width": 0.25, "model.depth": 0.25, "model.drop_path": 0.0, "max_steps": 120},
}


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 64 x 64 pixels in two class folders: stripes that lie and stripes that stand, under noise."""
    root = tmp_path_factory.mktemp("stripes")
    random = np.random.default_rng(0)
    for name in ("lying", "standing"):
        (root / name).mkdir()
        for index in range(48):
            wave = np.sin(np.arange(64) * random.uniform(0.6, 1.2) + random.uniform(0, 6))
            picture = np.tile(wave[:, None], (1, 64))
            picture = picture if name == "lying" else picture.T
            noisy = 127 + 60 * picture[..., None] + random.normal(0, 30, (64, 64, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / name / f"{index:02}.png")
    return root


@pytest.mark.parametrize(
    "family", [pytest.param(n, marks=pytest.mark.slow if n == "inception_v3" else ()) for n in SMALL]
)
def test_a_family_learns_a_folder_of_pictures(family: str, stripes: Path) -> None:
    overrides = {
        "data.root": str(stripes), "data.test": 0.25, "max_steps": 60, "batch_size": 16,
        "eval.every_epochs": None, "eval.monitor": "last", "optimizer.lr": 3e-3, **SMALL[family],
    }  # fmt: skip
    session = build(configure(family, overrides.items()).recipe)
    session.trainer(0, 0, ()).fit()
    with torch.no_grad():
        assert session.evaluate("test", session.network.eval())[0]["accuracy"] >= 0.9


def test_resnet_20_learns_fashion(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same network and optimiser at a hundred pictures a class; classes alone give 0.1."""
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    overrides = {"data.limit": 100, "data.val": 0.02, "max_steps": 60, "batch_size": 64, "eval.every_epochs": None}
    session = build(configure("resnet_cifar_fashion", overrides.items()).recipe)
    session.trainer(0, 0, ()).fit()
    with torch.no_grad():
        assert session.evaluate("val", session.network.eval())[0]["accuracy"] >= 0.65


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_resnet_20_reaches_its_figure_on_fashion(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    session = build(configure("resnet_cifar_fashion", [("eval.every_epochs", None)]).recipe)
    session.trainer(0, 0, ()).fit()
    with torch.no_grad():
        assert session.evaluate("test", session.network.eval())[0]["accuracy"] >= 0.94


@pytest.mark.parametrize(
    ("preset", "data"),
    [
        ("resnet18", "image_folder"), ("resnet50", "image_folder"), ("vgg16", "image_folder"),
        ("alexnet-2012", "image_folder"), ("googlenet", "image_folder"), ("inception_v3", "image_folder"),
        ("tf_efficientnet_b3", "image_folder"),
        ("resnet20_cifar", "fashion_mnist"),
    ],
)  # fmt: skip
def test_a_preset_takes_the_recipe_of_its_family_unless_it_has_its_own(preset: str, data: str) -> None:
    """The published settings, which take days, are taken by name only."""
    recipe = load_recipe(preset)
    assert recipe.model.name == preset
    assert recipe.task.name == "image_classification"
    assert recipe.data is not None
    assert recipe.data.name == data
    assert recipe.epochs is not None
    assert recipe.epochs <= 30


def test_a_preset_is_trained_on_a_folder_with_no_more_than_its_name() -> None:
    configured = configure("resnet18", [("data", "image_folder"), ("data.root", "photos"), ("model.drop_path", 0.1)])
    assert configured.tree["model"]["drop_path"] == 0.1
    assert configured.tree["data"]["augment"]
