"""The classical methods as a person calls them."""

import json
import math
from pathlib import Path

import pytest
import torch

from layerwise.api.baseline import baseline, beside, compare, data_of, format_table, is_cheap
from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, DataError, UnsupportedError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.splits import prepare
from layerwise.data.texts import TextExamples

NEEDED = {"name", "value", "interval", "fit_s", "predict_ms", "line"}  # what reports read


def wilson(right: int, count: int) -> list[float]:
    """The roots of (p - right / count)^2 = z^2 p (1 - p) / count (Wilson 1927)."""
    z2, share = 1.959964**2, right / count
    a, b, c = 1 + z2 / count, -(2 * share + z2 / count), share * share
    root = math.sqrt(b * b - 4 * a * c)
    return [(-b - root) / (2 * a), (-b + root) / (2 * a)]


def test_digits_as_they_are_best_first() -> None:
    said: list[str] = []
    rows = baseline("digits", methods=["svm", "logistic"], info=said.append)
    assert len(rows) == 6
    assert [row["value"] for row in rows] == sorted((row["value"] for row in rows), reverse=True)
    best = rows[0]
    assert set(best) >= NEEDED
    assert best["name"] == "pixels + SVM"
    assert best["value"] >= 0.98
    assert best["interval"] == pytest.approx(wilson(best["correct"], 359))
    assert (best["metric"], best["part"], best["train_examples"]) == ("accuracy", "test", 1258)
    assert said[0] == "digits: 1,258 training, 180 validation, 359 test examples"
    assert len(said) == 7
    assert any(line.startswith(f"{best['name']}: {best['value']:.4f} after ") for line in said)
    json.dumps(rows, allow_nan=False)


def test_a_recipe_names_its_data_and_digits_it_enlarges_are_compared_as_they_are() -> None:
    sizes = [
        data_of(target, overrides)[0].facts["image_size"]
        for target, overrides in (("digits", []), ("lenet5", []), ("lenet5", [("data.size", 16)]))
    ]
    assert sizes == [(8, 8), (8, 8), (16, 16)]


def test_the_table_is_aligned() -> None:
    def row(name: str, value: float, note: str) -> dict[str, object]:
        metrics = {"accuracy": value, "auc": 0.9} if note else {"accuracy": value}
        return {"name": name, "value": value, "metric": "accuracy", "interval": [value - 0.1, value + 0.1]} | {
            "metrics": metrics, "fit_s": 12.3, "predict_ms": 0.0123, "note": note,
        }  # fmt: skip

    lines = format_table([row("a", 0.8, "trained on 10 of 20"), row("much longer name", 0.75, "")])
    assert lines == [
        "method            accuracy     95 % interval     AUC  to train  an example",
        "a                   0.8000  0.7000 to 0.9000  0.9000   12.30 s    0.012 ms  trained on 10 of 20",
        "much longer name    0.7500  0.6500 to 0.8500           12.30 s    0.012 ms",
    ]


def test_a_table_of_numbers_is_in_the_target_s_units(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "size,kind,price\n" + "".join(f"{i % 17},{'ab'[i % 2]},{i % 17 * 10.5 + i % 2}\n" for i in range(99))
    )
    rows = baseline("csv", [("data.root", str(path)), ("data.target", "price")])
    assert {row["name"] for row in rows} == {"ridge", "random forest", "gradient boosting"}
    assert rows[0]["value"] == rows[0]["metrics"]["r2"] > 0.95
    assert rows[0]["interval"] is None
    assert format_table(rows)[0].split() == ["method", "R2", "RMSE", "MAE", "to", "train", "an", "example"]


def test_an_own_text_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"{'good' if i % 2 else 'bad'} one {i},{i % 2}\n" for i in range(100)))
    rows = baseline("text_table", [("data.root", str(path))], methods=["words"])
    assert [row["value"] for row in rows] == [1.0, 1.0]


def test_wrong_names_and_data_are_plain_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="digits"):
        baseline("digit")
    with pytest.raises(ConfigError, match="is a model"):
        baseline("gpt2")
    with pytest.raises(ConfigError, match="makes its own data"):
        baseline("reinforce_cartpole")
    with pytest.raises(ConfigError, match="methods=boost"):
        baseline("digits", methods=["boost"])
    with pytest.raises(DataError, match="has no pictures"):
        baseline("image_folder", [("data.root", str(tmp_path))])
    with pytest.raises(DataError, match="there is no such file or folder"):
        baseline("image_folder", [("data.root", str(tmp_path / "none"))])
    (tmp_path / "one.csv").write_text("text,label\n" + "".join(f"text {i},same\n" for i in range(30)))
    with pytest.raises(DataError, match="one class, 'same'"):
        baseline("text_table", [("data.root", str(tmp_path / "one.csv"))])
    with pytest.raises(UnsupportedError, match="no classical methods for this data"):
        baseline("shapes", [("data.train_size", 20), ("data.val_size", 2), ("data.test_size", 2)])


def test_without_a_test_part_validation_is_read_and_without_both_it_says_so() -> None:
    image = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = TensorExamples({"image": image, "labels": torch.arange(40) % 2})
    rows = compare(Splits(train=whole, val=whole), 0, ["pixels + random"])
    assert rows[0]["part"] == "val"
    assert rows[0]["count"] == 40
    with pytest.raises(UnsupportedError, match=r"data\.test=0"):
        compare(Splits(train=whole), 0)


# ------------------------------------------------------------------------------------------------- beside a network


def test_a_report_gets_the_metric_that_it_shows() -> None:
    data = parse_component("data", {"name": "digits", "size": 32}, "data")
    splits = prepare(data, 0)
    rows = beside(data, splits, 0, "accuracy")
    assert {row["name"] for row in rows} == {"pixels + SVM", "HOG + SVM", "pixels + random forest"}
    assert all(set(row) >= NEEDED for row in rows)
    assert rows[0]["value"] == pytest.approx(baseline("digits", methods=["pixels + svm"])[0]["value"])
    assert beside(data, splits, 0, "loss") == []
    f1 = beside(data, splits, 0, "macro_f1")
    assert all(row["value"] == row["metrics"]["macro_f1"] and row["interval"] is None for row in f1)
    assert f"{f1[0]['value']:.4f}" in f1[0]["line"]


def test_errors_of_a_report_rise_from_the_best(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{i % 23},{(i % 23) ** 2 + 0.5}\n" for i in range(99)))
    data = parse_component("data", {"name": "csv", "root": str(path), "target": "y"}, "data")
    rows = beside(data, prepare(data, 0), 0, "rmse")
    assert len(rows) == 3
    assert [row["value"] for row in rows] == sorted(row["metrics"]["rmse"] for row in rows)


def test_a_report_on_tables_gets_the_cross_entropy(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{i % 23},{'yes' if i % 23 > 11 else 'no'}\n" for i in range(199)))
    data = parse_component("data", {"name": "csv", "root": str(path), "target": "y"}, "data")
    rows = beside(data, prepare(data, 0), 0, "loss")
    assert len(rows) == 3
    assert [row["value"] for row in rows] == sorted(row["metrics"]["loss"] for row in rows)
    assert rows[0]["value"] < 0.1


def test_only_what_takes_seconds_is_cheap() -> None:
    def splits(train: TensorExamples | TextExamples) -> Splits:
        return Splits(train=train, test=train)

    def pictures(count: int, side: int) -> TensorExamples:
        image = torch.zeros(1, dtype=torch.uint8).expand(count, 1, side, side)
        return TensorExamples({"image": image, "labels": torch.arange(count) % 2})

    assert is_cheap(splits(pictures(1000, 8)))
    assert not is_cheap(splits(pictures(6000, 8)))
    assert is_cheap(splits(pictures(1000, 224)))  # they are compared at 32 x 32 pixels
    assert not is_cheap(splits(pictures(3000, 32)))
    labels = {"labels": torch.tensor([0, 1])}
    assert is_cheap(splits(TextExamples(["a", "b"], labels)))
    assert not is_cheap(splits(TextExamples(["a" * 3_000_000, "b"], labels)))
    assert not is_cheap(splits(TextExamples(["a", "b"], {})))
    assert not is_cheap(splits(TensorExamples({"features": torch.zeros(2, 3), **labels})))
    assert not is_cheap(Splits(train=pictures(10, 8)))


def test_the_page_shows_what_digits_give() -> None:
    """Accuracies may differ by three of the 359 pictures between linear algebra libraries."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")
    block = page.split("$ layerwise baseline digits\n", 1)[1].split("```", 1)[0].splitlines()[1:]
    shown = {line[:31].strip(): float(line[31:43]) for line in block}
    rows = baseline("digits")
    assert {row["name"]: row["value"] for row in rows} == pytest.approx(shown, abs=3.5 / 359)
