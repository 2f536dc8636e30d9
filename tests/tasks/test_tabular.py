"""Tasks on tables: what they learn from the rows, metrics against loops, predictions on new files."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.csv_table import CSV, CSVConfig
from layerwise.data.examples import Splits
from layerwise.tasks.calibration import reliability
from layerwise.tasks.regression import RegressionMetrics
from layerwise.tasks.tabular_classification import (
    TabularClassification,
    TabularClassificationConfig,
    TabularMetrics,
    auc_interval,
    roc_auc,
)
from layerwise.tasks.tabular_regression import TabularRegression, TabularRegressionConfig

ROWS = [
    # size, weight, colour, kind
    ("1", "10", "red", "a"),
    ("2", "", "red", "b"),
    ("3", "30", "blue", "a"),
    ("4", "40", "blue", "b"),
    ("5", "50", "", "a"),
    ("6", "60", "green", "b"),
]


def splits_of(folder: Path, target: str = "kind", rows: list[tuple[str, ...]] | None = None, **options: Any) -> Splits:
    path = folder / "table.csv"
    lines = [",".join(row) for row in rows or ROWS]
    path.write_text("\n".join(["size,weight,colour,kind", *lines]) + "\n")
    return CSV(CSVConfig(root=str(path), target=target, numeric=("size",), **options)).splits()


def bound(folder: Path) -> TabularClassification:
    task = TabularClassification(TabularClassificationConfig())
    task.bind(splits_of(folder))
    return task


def test_numbers_are_standardised_and_missing_ones_marked(tmp_path: Path) -> None:
    splits, task = splits_of(tmp_path), bound(tmp_path)
    assert splits.train is not None
    numeric = task.inputs(splits.train.collate(torch.arange(6)))["numeric"]
    size = np.arange(1.0, 7.0)
    weight = np.array([10.0, 30.0, 40.0, 50.0, 60.0])
    assert numeric.shape == (6, 3)
    assert numeric[:, 0].tolist() == pytest.approx(((size - size.mean()) / size.std()).tolist(), abs=1e-6)
    known = numeric[[0, 2, 3, 4, 5], 1].tolist()
    assert known == pytest.approx(((weight - weight.mean()) / weight.std()).tolist(), abs=1e-6)
    assert numeric[1, 1] == 0
    assert numeric[:, 2].tolist() == [0, 1, 0, 0, 0, 0]


def test_categories_are_missing_unseen_or_rare_and_known(tmp_path: Path) -> None:
    splits, task = splits_of(tmp_path), bound(tmp_path)
    assert splits.train is not None
    categories = task.inputs(splits.train.collate(torch.arange(6)))["categories"]
    assert categories[:, 0].tolist() == [3, 3, 2, 2, 0, 1]  # blue 2, red 3; green occurs once: as unseen ones
    assert task.facts() == {"num_numeric": 3, "category_sizes": (4,), "num_outputs": 2, "num_classes": 2}


def test_state_is_json_and_gives_the_same_task_back(tmp_path: Path) -> None:
    splits, task = splits_of(tmp_path), bound(tmp_path)
    other = TabularClassification(TabularClassificationConfig())
    other.load(json.loads(json.dumps(task.state())))
    assert other.facts() == task.facts()
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(6))
    ours, theirs = task.inputs(batch), other.inputs(batch)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_preprocessing_can_be_exported(tmp_path: Path) -> None:
    splits, task = splits_of(tmp_path), bound(tmp_path)
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(6))
    arguments = (batch["numeric"], batch["categories"])
    exported = torch.export.export(task.preprocessing(), arguments).module()
    for ours, theirs in zip(task.preprocessing()(*arguments), exported(*arguments), strict=True):
        assert torch.equal(ours, theirs)


def test_number_as_class_and_class_as_number_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'weight' is a number, not a class.*tabular_regression"):
        TabularClassification(TabularClassificationConfig()).bind(
            splits_of(tmp_path, target="weight", target_kind="number")
        )
    with pytest.raises(DataError, match=r"'kind' is a class, not a number.*tabular_classification"):
        TabularRegression(TabularRegressionConfig()).bind(splits_of(tmp_path))
    rows = [(size, "5", colour, kind) for size, _, colour, kind in ROWS]
    with pytest.raises(DataError, match="'weight' is always 5"):
        TabularRegression(TabularRegressionConfig()).bind(splits_of(tmp_path, target="weight", rows=rows))


def test_pictures_are_refused() -> None:
    from layerwise.data.examples import TensorExamples

    pictures = Splits(train=TensorExamples({"image": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}))
    with pytest.raises(DataError, match="needs a table"):
        TabularClassification(TabularClassificationConfig()).bind(pictures)


# ------------------------------------------------------------------------------------------------------------ metrics


class Given(nn.Module):
    """Gives what it holds for the numbers it is asked for."""

    def __init__(self, held: Tensor) -> None:
        super().__init__()
        self.held = held

    def forward(self, numeric: Tensor, categories: Tensor) -> Tensor:
        return self.held[numeric[:, 0].long()]


def test_auc_is_the_share_of_ordered_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (2, 5, 40):
        scores = torch.randint(0, 6, (count,), generator=generator).double()
        positives = torch.rand(count, generator=generator) < 0.4
        positives[0], positives[1] = True, False
        pairs = [
            1.0 if s > t else 0.5 if s == t else 0.0
            for s, p in zip(scores.tolist(), positives.tolist(), strict=True)
            for t, q in zip(scores.tolist(), positives.tolist(), strict=True)
            if p and not q
        ]
        assert roc_auc(scores, positives) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_classification_metrics_by_hand() -> None:
    """Labels 0 0 0 1 1, predicted 0 0 1 1 0: accuracy 3/5, F1 of the classes 2/3 and 1/2, five of six pairs right."""
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.5, 0.0]])
    labels, ids = torch.tensor([0, 0, 0, 1, 1]), torch.arange(5)
    metrics = TabularMetrics(["no", "yes"])
    metrics.update_from(logits[:2], labels[:2], ids[:2])
    metrics.update_from(logits[2:], labels[2:], ids[2:])
    values = metrics.compute()
    assert values["accuracy"] == pytest.approx(0.6)
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert values["auc"] == pytest.approx(5 / 6)


def test_metrics_of_two_processes_merge_to_those_of_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(30, 2, generator=generator), torch.randint(0, 2, (30,), generator=generator)
    parts = [TabularMetrics(["a", "b"]) for _ in range(3)]
    parts[0].update_from(logits, labels, torch.arange(30))
    parts[1].update_from(logits[:11], labels[:11], torch.arange(11))
    parts[2].update_from(logits[11:], labels[11:], torch.arange(11, 30))
    merged = TabularMetrics(["a", "b"])
    merged.merge([parts[1].state(), parts[2].state()])
    assert merged.compute() == pytest.approx(parts[0].compute())


def test_auc_of_several_classes_is_the_mean_of_one_against_the_rest() -> None:
    from sklearn.metrics import roc_auc_score

    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(60, 4, generator=generator), torch.randint(0, 4, (60,), generator=generator)
    metrics = TabularMetrics(["a", "b", "c", "d"])
    metrics.update_from(logits, labels, torch.arange(60))
    probabilities = logits.double().softmax(1)
    expected = roc_auc_score(labels.numpy(), probabilities.numpy(), multi_class="ovr", average="macro")
    assert metrics.compute()["auc"] == pytest.approx(expected, abs=1e-12)


def test_auc_of_classes_that_the_split_lacks_is_left_out() -> None:
    three = TabularMetrics(["a", "b", "c"])
    three.update_from(torch.eye(3)[:2], torch.tensor([0, 1]), torch.arange(2))
    assert three.compute()["auc"] == 1.0  # of the first two; nothing is known of the third
    one_sided = TabularMetrics(["a", "b"])
    one_sided.update_from(torch.eye(2), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    assert "auc" not in one_sided.compute()
    assert "auc" not in one_sided.table()["intervals"]


def test_auc_interval_is_delongs() -> None:
    """Against the definition: variances of each positive's share of beaten negatives, and the reverse."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 12, (50,), generator=generator).double()
    positives = torch.rand(50, generator=generator) < 0.3
    good, bad = scores[positives].numpy(), scores[~positives].numpy()
    wins = np.array([[1.0 if g > b else 0.5 if g == b else 0.0 for b in bad] for g in good])
    variance = wins.mean(1).var(ddof=1) / len(good) + wins.mean(0).var(ddof=1) / len(bad)
    low, high = auc_interval(scores, positives)
    assert low == pytest.approx(wins.mean() - 1.959964 * np.sqrt(variance), abs=1e-12)
    assert high == pytest.approx(min(1.0, wins.mean() + 1.959964 * np.sqrt(variance)), abs=1e-12)


def test_reliability_rows_are_counts_by_probability() -> None:
    probabilities = torch.tensor([0.05, 0.15, 0.12, 0.95, 1.0, 0.99, 0.97])
    came_true = torch.tensor([False, True, False, True, True, True, False])
    rows = reliability(probabilities, came_true)
    assert [(row["predicted"], row["count"]) for row in rows] == [
        ("0% to 10%", 1),
        ("10% to 20%", 2),
        ("90% to 100%", 4),
    ]
    assert rows[1]["mean predicted"] == pytest.approx(0.135)
    assert [row["came true"] for row in rows] == [0.0, 0.5, 0.75]
    assert all(row["low"] <= row["came true"] <= row["high"] for row in rows)


def test_report_shows_calibration_of_the_second_class(tmp_path: Path) -> None:
    splits, task = splits_of(tmp_path), bound(tmp_path)
    splits.test = splits.train
    held = torch.tensor([[0.0, 2.0], [0.0, -2.0]])
    network = nn.Linear(1, 1)  # has parameters, whose device the pictures ask for
    network.forward = lambda numeric, categories: held[(torch.arange(len(numeric)) % 2)]  # type: ignore[method-assign]
    ((caption, path),) = task.pictures(network, splits, tmp_path / "pictures")
    assert "how often b came true" in caption
    assert path.read_bytes().startswith(b"\x89PNG")
    metrics = task.accumulator()
    assert splits.train is not None
    metrics.update(network, task.inputs(splits.train.collate(torch.arange(6))))
    likely = 1 / (1 + math.exp(-2.0))
    rows = metrics.table()["calibration"]
    assert [row["mean predicted"] for row in rows] == pytest.approx([1 - likely, likely])
    assert [row["came true"] for row in rows] == [1.0, 0.0]  # b is every second row, and given the lower score


def test_regression_metrics_are_in_the_targets_units(tmp_path: Path) -> None:
    """Against the definitions in float64 on targets and predictions in their own units."""
    rows = [(str(i), str(1000 + 37 * (i * i % 23)), "red" if i % 2 else "blue", "a") for i in range(40)]
    splits = splits_of(tmp_path, target="weight", rows=rows, target_kind="number")
    task = TabularRegression(TabularRegressionConfig())
    task.bind(splits)
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(40))
    y = np.array([float(row[1]) for row in rows])
    f = y + np.random.default_rng(0).normal(size=40) * 30
    held = torch.from_numpy((f - y.mean()) / y.std())[:, None]
    inputs = task.inputs(batch)
    network = Given(held)
    metrics = RegressionMetrics(task.scale)
    half = y < np.median(y)  # their mean is not the training rows'
    for ids in torch.from_numpy(np.flatnonzero(half)).split(17):
        part = {key: value[ids] for key, value in inputs.items()}
        metrics.update(network, {**part, "numeric": ids[:, None].double()})
    values = metrics.compute()
    wrong = (y - f)[half]
    assert values["rmse"] == pytest.approx(float(np.sqrt(np.mean(wrong**2))), rel=1e-5)
    assert values["mae"] == pytest.approx(float(np.mean(np.abs(wrong))), rel=1e-5)
    squares, distances = wrong**2, np.abs(wrong)
    half_width = 1.959964 * squares.std(ddof=1) / np.sqrt(len(wrong))
    intervals = metrics.table()["intervals"]
    assert intervals["rmse"][1] == pytest.approx(float(np.sqrt(squares.mean() + half_width)), rel=1e-5)
    half_width = 1.959964 * distances.std(ddof=1) / np.sqrt(len(wrong))
    assert intervals["mae"][0] == pytest.approx(float(distances.mean() - half_width), rel=1e-5)
    spread = float(np.sum((y[half] - y[half].mean()) ** 2))
    assert values["r2"] == pytest.approx(1 - float(np.sum(wrong**2)) / spread, rel=1e-5)
    predicted = task.predict(network, {**inputs, "numeric": torch.arange(40)[:, None].double()})
    assert [row["value"] for row in predicted] == pytest.approx(f.tolist(), rel=1e-6)


# ------------------------------------------------------------------------------------------------------------- predict


def test_rows_of_a_new_file_are_decoded_by_name_in_any_order(tmp_path: Path) -> None:
    task = bound(tmp_path)
    (tmp_path / "new.csv").write_text("colour;extra;weight;size\nblue;x;30;3\npurple;x;;6\n")
    (first_name, first), (second_name, second) = task.decode([str(tmp_path / "new.csv")])
    assert (first_name, second_name) == (f"{tmp_path}/new.csv:2", f"{tmp_path}/new.csv:3")
    splits = splits_of(tmp_path)
    assert splits.train is not None
    trained = task.inputs(splits.train.collate(torch.tensor([2])))
    assert torch.equal(task.inputs(first)["numeric"], trained["numeric"])
    assert torch.equal(task.inputs(first)["categories"], trained["categories"])
    assert task.inputs(second)["categories"].tolist() == [[1]]
    unknown, unused = task.remarks()
    assert "1 of 2 rows have values of 'colour' that training did not see: 'purple' (1), first in line 3" in unknown
    assert "not used: extra" in unused
    assert task.remarks() == []
    assert task.inputs(second)["numeric"][0, 1:].tolist() == [0.0, 1.0]


def test_missing_column_of_a_new_file_is_missing_values_where_training_had_some(tmp_path: Path) -> None:
    task = bound(tmp_path)
    (tmp_path / "new.csv").write_text("size\n3\n")
    ((_, row),) = task.decode([str(tmp_path / "new.csv")])
    assert [text.partition(" has no ")[2] for text in task.remarks()] == [
        "column 'weight': all its values are taken as missing.",
        "column 'colour': all its values are taken as missing.",
    ]
    assert task.inputs(row)["numeric"][0, 1:].tolist() == [0.0, 1.0]
    assert task.inputs(row)["categories"].tolist() == [[0]]


def test_missing_column_of_a_new_file_is_an_error_where_training_always_had_values(tmp_path: Path) -> None:
    task = bound(tmp_path)
    (tmp_path / "new.csv").write_text("sise,weight,colour\n1,2,red\n")
    with pytest.raises(DataError, match=r"lacks the column 'size', of which training had a value in.*mean 'sise'\?"):
        task.decode([str(tmp_path / "new.csv")])
    with pytest.raises(DataError, match="no such file"):
        task.decode([str(tmp_path / "nothing.csv")])


def test_new_file_without_header_may_lack_the_target(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("\n".join(",".join(row) for row in ROWS) + "\n")
    columns = ("size", "weight", "colour", "kind")
    task = TabularClassification(TabularClassificationConfig())
    task.bind(CSV(CSVConfig(root=str(path), target="kind", columns=columns, numeric=("size",))).splits())
    (tmp_path / "with.csv").write_text("3,30,blue,a\n")
    (tmp_path / "without.csv").write_text("3,30,blue\n")
    (tmp_path / "named.csv").write_text("colour,weight,size\nblue,30,3\n")
    files = [str(tmp_path / name) for name in ("with.csv", "without.csv", "named.csv")]
    (_, ours), (_, theirs), (_, named) = task.decode(files)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert all(torch.equal(ours[key], named[key]) for key in theirs)


def test_prediction_names_the_class_and_all_scores(tmp_path: Path) -> None:
    task = bound(tmp_path)
    network = Given(torch.tensor([[0.0, math.log(3.0)], [2.0, 2.0]]))
    rows = task.predict(network, {"numeric": torch.tensor([[0.0], [1.0]]), "categories": torch.zeros(2, 1).long()})
    assert rows[0]["label"] == "b"
    assert rows[0]["scores"] == pytest.approx({"b": 0.75, "a": 0.25})
    assert rows[1]["scores"] == pytest.approx({"a": 0.5, "b": 0.5})
