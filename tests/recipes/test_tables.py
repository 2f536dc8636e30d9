"""The recipes for tables learn what the tables hold, through the loop and with no code."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerwise.api.configure import configure
from layerwise.api.infer import predict, write_predictions
from layerwise.api.train import train
from layerwise.core.console import Console
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
        {"data.root": str(houses), "data.target": "price", "data.drop": "dear", "data.test": 0.2, "epochs": 40},
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


def test_predict_on_a_csv_writes_a_csv_and_says_what_is_new_in_it(
    houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {"data.root": str(houses), "data.target": "price", "data.drop": "dear", "max_steps": 5}
    run = train("tabular_regression", overrides.items(), run=str(tmp_path / "run"), console=Console(quiet=True))
    new = tmp_path / "new.csv"
    new.write_text("kind,rooms\na,3\ncastle,40\n")
    capsys.readouterr()
    rows = predict(run.path, [str(new)])
    write_predictions(rows, tmp_path / "out.csv")
    said = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"warning: {new}")[:31] for line in said] == [
        " has no column 'size': all its ",
        ": 1 of 2 rows have values of 'k",
        ": columns that training did not",
    ]
    with (tmp_path / "out.csv").open(newline="") as handle:
        written = list(csv.DictReader(handle))
    assert [row["input"] for row in written] == [f"{new}:2", f"{new}:3"]
    assert [float(row["value"]) for row in written] == [row["value"] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["adult_mlp", "adult_resnet"])
def test_adult_is_within_half_a_hundredth_of_gradient_boosting(recipe: str, datasets_folder: Path) -> None:
    """AUC on the same test rows; the trees know which columns are categories and which values are missing."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    overrides: dict[str, object] = {"data.root": str(datasets_folder / "tabular" / "adult")}
    session = build(configure(recipe, overrides.items()).recipe)
    assert session.splits is not None
    arrays: list[tuple[np.ndarray, np.ndarray]] = []
    for part in (session.splits.train, session.splits.test):
        assert part is not None
        rows = part.collate(torch.arange(len(part)))
        categories = rows["categories"].double()
        numbers = torch.cat([rows["numeric"].double(), categories.masked_fill(categories == 0, torch.nan)], 1)
        arrays.append((numbers.numpy(), rows["labels"].numpy()))
    (x, y), (x_test, y_test) = arrays
    columns: Any = list(range(6, 14))  # scikit-learn's annotation knows names only
    trees = HistGradientBoostingClassifier(categorical_features=columns, random_state=0).fit(x, y)
    theirs = roc_auc_score(y_test, trees.predict_proba(x_test)[:, 1])
    ours = trained(recipe, overrides)
    assert theirs > 0.925
    assert ours["auc"] > theirs - 0.005
    assert ours["calibration_error"] < 0.02
