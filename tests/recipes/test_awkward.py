"""Recipes of control, graphs and detection learn in the loop; the shortest settings that show it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from layerwise.api.configure import configure
from layerwise.train.build import build


def trained(recipe: str, overrides: dict[str, Any]) -> dict[str, float]:
    """Test metrics of the weights that validation chose, trained without a run directory."""
    session = build(configure(recipe, overrides.items()).recipe)
    trainer = session.trainer(0, 0, ())
    trainer.fit()
    if trainer.best is not None:
        session.network.load_state_dict(trainer.best["weights"])
    with torch.no_grad():
        return session.evaluate("test", session.network.eval())[0]


def test_reinforce_learns_to_balance() -> None:
    assert trained("reinforce_cartpole", {"max_steps": 60, "eval.every_steps": 30})["return"] >= 475


def test_gcn_reaches_the_published_accuracy_on_cora(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    accuracy = [trained("gcn_cora", {"seed": seed})["accuracy"] for seed in range(3)]
    assert abs(sum(accuracy) / 3 - 0.815) <= 0.01


def test_a_small_detector_starts_to_find_shapes() -> None:
    small = {"train_size": 400, "val_size": 20, "test_size": 100, "size": 32, "max_objects": 2, "extent": [8, 16]}
    overrides = {"epochs": 8, "batch_size": 16, **{f"data.{name}": value for name, value in small.items()}}
    assert trained("detector_shapes", overrides)["map50"] >= 0.45


@pytest.mark.slow
def test_the_detector_reaches_its_figure() -> None:
    assert trained("detector_shapes", {})["map50"] >= 0.93
