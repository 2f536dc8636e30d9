"""The recipes for tables learn what the tables hold, through the loop and with no code."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.api.configure import configure
from layerwise.train.build import build


def trained(recipe: str, overrides: dict[str, object]) -> dict[str, float]:
    """Test metrics of the weights that validation chose."""
    session = build(configure(recipe, overrides.items()).recipe)
    trainer = session.trainer(0, 0, ())
    trainer.fit()
    if trainer.best is not None:
        session.network.load_state_dict(trainer.best["weights"])
    with torch.no_grad():
        return session.evaluate("test", session.network.eval())[0]


@pytest.fixture
def houses(tmp_path: Path) -> Path:
    """800 rows: price = 1e5 (2 + size + [kind is b]) + noise of 1e4; 5 % of the sizes are missing."""
    rng = np.random.default_rng(0)
    path = tmp_path / "houses.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["size", "kind", "price", "dear"])
        for _ in range(800):
            size, kind = rng.normal(), rng.choice(["a", "b", "c"])
            price = 1e5 * (2 + size + (kind == "b")) + rng.normal() * 1e4
            shown = "" if rng.random() < 0.05 else f"{size:.4f}"
            writer.writerow([shown, kind, f"{price:.0f}", "yes" if price > 2.3e5 else "no"])
    return path


def test_regression_gets_near_the_noise(houses: Path) -> None:
    """Best possible RMSE: noise of 1e4, and 1e5 on the 5 % of rows whose size is missing: about 2.4e4."""
    values = trained(
        "tabular_regression",
        {"data.root": str(houses), "data.target": "price", "data.drop": "dear", "data.test": 0.2},
    )
    assert values["rmse"] < 4e4
    assert values["r2"] > 0.85


def test_classification_finds_the_rule(houses: Path) -> None:
    values = trained(
        "tabular_classification",
        {
            "data.root": str(houses),
            "data.target": "dear",
            "data.drop": "price",
            "data.test": 0.2,
        },
    )
    assert values["accuracy"] > 0.9
    assert values["auc"] > 0.95
