"""Recipes on the CIFAR-10 subset: each learns two classes that look unlike in seconds; fine-tuning starts where its
source ended.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

import layerwise as lw
from layerwise.api.configure import configure
from layerwise.api.train import train
from layerwise.core.console import Console
from layerwise.train.build import build

# Each made small enough for seconds.
SMALL: dict[str, dict[str, Any]] = {
    "convnet_cifar": {"model.widths": [16, 24, 32], "model.depth": 2},
    "degradation_resnet20": {"model.depths": [1, 1, 1]},
    "alexnet_cifar": {"model.channels": [16, 24, 32, 32, 16], "model.hidden": 64, "optimizer.lr": 2e-3},
    "vgg_cifar": {"model.widths": [8, 16, 16, 32, 32], "model.hidden": 64, "optimizer.lr": 3e-3},
    "googlenet_cifar": {"model.stem": [16, 16, 24], "model.inceptions": [[8, 8, 16, 4, 8, 8]] * 9},
    "efficientnet_cifar": {"model.width": 0.25, "model.depth": 0.25},
    "vit_cifar": {"model.d_model": 48, "model.num_layers": 2},
    "transfer_pictures_source": {"model.widths": [16, 24, 32], "model.depth": 2},
}
CONSOLE = Console(quiet=True)


@pytest.fixture(autouse=True)
def _data(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (datasets_folder / "images" / "cifar10-subset").is_dir():
        pytest.skip("images/cifar10-subset is not beside the repository")
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SMALL)
def test_a_recipe_tells_ships_from_frogs(recipe: str) -> None:
    """Chance is one half; a forest on colour histograms alone passes 0.8."""
    overrides = {
        "data.classes": ["frog", "ship"], "max_steps": 80, "epochs": None, "batch_size": 32,
        "eval.every_epochs": None, **SMALL[recipe],
    }  # fmt: skip
    session = build(configure(recipe, overrides.items()).recipe)
    session.trainer(0, 0, ()).fit()
    with torch.no_grad():
        assert session.evaluate("test", session.network.eval())[0]["accuracy"] >= 0.8


def test_fine_tuning_starts_from_the_weights_of_its_source(tmp_path: Path) -> None:
    """All tensors but the head's, which has other classes; the recipes differ in nothing else than `init` and rates."""
    small = {"model.widths": [8, 8], "model.depth": 1, "max_steps": 2, "eval.every_epochs": None}
    seen = {**small, "data.limit": 20}
    source = train("transfer_pictures_source", seen.items(), run=str(tmp_path / "s"), console=CONSOLE)
    session = build(configure("transfer_pictures", {**small, "init": str(source.path)}.items()).recipe)
    before, now = lw.from_pretrained(source.path).state_dict(), session.network.state_dict()
    same = {name for name in now if torch.equal(now[name], before[name]) or name.startswith("classifier")}
    assert same == set(now)
    assert "New head" in " ".join(session.notes)
    tuned, scratch = (configure(name).tree for name in ("transfer_pictures", "transfer_pictures_scratch"))
    assert {key for key in tuned if tuned[key] != scratch[key]} == {"init", "layer_decay"}
