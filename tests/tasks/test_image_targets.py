"""Pictures to numbers and to several labels: metrics against scikit-learn, states, predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from layerwise.api.infer import predictions_csv
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits, Subset, TensorExamples
from layerwise.tasks.image_multi_label import (
    ImageMultiLabel,
    ImageMultiLabelConfig,
    MultiLabelMetrics,
    average_precision,
)
from layerwise.tasks.image_regression import ImageRegression, ImageRegressionConfig
from layerwise.tasks.regression import RegressionMetrics, TargetScale

GENERATOR = torch.Generator().manual_seed(0)


class Given(nn.Module):
    """Gives the rows it holds, in order of the pictures' number."""

    def __init__(self, held: Tensor) -> None:
        super().__init__()
        self.held = held

    def forward(self, images: Tensor) -> Tensor:
        return self.held[: len(images)]


def pictures(count: int = 8, **columns: Tensor) -> TensorExamples:
    image = torch.randint(0, 256, (count, 3, 5, 4), generator=GENERATOR, dtype=torch.uint8)
    return TensorExamples({"image": image, **columns})


def regression(target: Tensor, names: list[str]) -> tuple[ImageRegression, Splits]:
    splits = Splits(train=pictures(len(target), target=target), extras={"targets": names})
    task = ImageRegression(ImageRegressionConfig())
    task.bind(splits)
    return task, splits


def multi_label(labels: Tensor, names: list[str], **options: Any) -> tuple[ImageMultiLabel, Splits]:
    splits = Splits(
        train=pictures(len(labels), multi_labels=labels), class_names=names, facts={"num_classes": len(names)}
    )
    task = ImageMultiLabel(ImageMultiLabelConfig(**options))
    task.bind(splits)
    return task, splits


# --------------------------------------------------------------------------------------------------------- regression


def test_targets_are_standardised_by_the_training_pictures_and_come_back() -> None:
    target = torch.tensor([[1.0, 100.0], [3.0, 300.0], [5.0, 800.0]], dtype=torch.float64)
    task, splits = regression(target, ["a", "b"])
    assert splits.train is not None
    labels = task.inputs(splits.train.collate(torch.arange(3)))["labels"]
    expected = (target.numpy() - target.numpy().mean(0)) / target.numpy().std(0)
    assert labels.numpy() == pytest.approx(expected, abs=1e-6)
    assert task.facts()["num_classes"] == 2
    rows = task.predict(Given(labels), task.inputs(splits.train.collate(torch.arange(3))))
    assert rows[2]["values"] == pytest.approx({"a": 5.0, "b": 800.0}, rel=1e-6)


def test_only_training_targets_are_measured() -> None:
    whole = pictures(3, target=torch.tensor([[1.0], [100.0], [3.0]], dtype=torch.float64))
    scale = TargetScale.measure(Subset(whole, torch.tensor([0, 2])), ["a"])
    assert (scale.mean, scale.std) == ([2.0], [1.0])


def test_metrics_of_several_targets_are_scikit_learns() -> None:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 2)) * [3.0, 200.0] + [1.0, -50.0]
    f = y + rng.normal(size=(50, 2)) * [1.0, 90.0]
    scale = TargetScale(names=["a", "b"], mean=[0.5, -40.0], std=[2.0, 150.0])
    metrics = [RegressionMetrics(scale) for _ in range(3)]
    z, g = scale.standardise(torch.from_numpy(y)), scale.standardise(torch.from_numpy(f))
    metrics[0].update_from(g[:20], z[:20])
    metrics[1].update_from(g[20:], z[20:])
    metrics[2].merge([metrics[0].state(), metrics[1].state()])
    values = metrics[2].compute()
    assert values["r2"] == pytest.approx(r2_score(y, f), rel=1e-5)
    for place, name in enumerate("ab"):
        assert values[f"rmse_{name}"] == pytest.approx(root_mean_squared_error(y[:, place], f[:, place]), rel=1e-5)
        assert values[f"mae_{name}"] == pytest.approx(mean_absolute_error(y[:, place], f[:, place]), rel=1e-5)
    assert [row["target"] for row in metrics[2].table()["per_target"]] == ["a", "b"]


def test_regression_state_is_json_and_gives_the_same_task_back() -> None:
    task, splits = regression(torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64), ["mm"])
    other = ImageRegression(ImageRegressionConfig())
    other.load(json.loads(json.dumps(task.state())))
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(3))
    assert other.facts() == task.facts()
    assert all(torch.equal(task.inputs(batch)[key], other.inputs(batch)[key]) for key in ("images", "labels"))


def test_regression_without_numbers_or_variation_is_refused() -> None:
    with pytest.raises(DataError, match=r"needs pictures with numbers.*no column target"):
        ImageRegression(ImageRegressionConfig()).bind(Splits(train=pictures(labels=torch.zeros(8).long())))
    with pytest.raises(DataError, match="'mm' is always 3: there is nothing to learn"):
        regression(torch.full((4, 1), 3.0, dtype=torch.float64), ["mm"])


# --------------------------------------------------------------------------------------------------------- multi-label


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns(ties: bool) -> None:
    from sklearn.metrics import average_precision_score

    generator = torch.Generator().manual_seed(1)
    for count in (1, 5, 60):
        scores = torch.randn(count, generator=generator).double()
        scores = (2 * scores).round() if ties else scores
        positives = torch.rand(count, generator=generator) < 0.4
        positives[0] = True
        expected = average_precision_score(positives.numpy(), scores.numpy())
        assert average_precision(scores, positives) == pytest.approx(expected, abs=1e-12)


def test_multi_label_metrics_are_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss

    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    labels = (torch.rand(40, 3, generator=generator) < torch.tensor([0.5, 0.2, 0.4])).to(torch.int8)
    parts = [MultiLabelMetrics(["a", "b", "c"], 0.4) for _ in range(3)]
    parts[0].update_from(logits[:13], labels[:13])
    parts[1].update_from(logits[13:], labels[13:])
    parts[2].merge([parts[0].state(), parts[1].state()])
    values = parts[2].compute()
    y, p = labels.numpy(), logits.sigmoid().numpy()
    assert values["map"] == pytest.approx(average_precision_score(y, p, average="macro"), abs=1e-12)
    assert values["macro_f1"] == pytest.approx(f1_score(y, p >= 0.4, average="macro"), abs=1e-12)
    assert values["micro_f1"] == pytest.approx(f1_score(y, p >= 0.4, average="micro"), abs=1e-12)
    assert values["exact_match"] == pytest.approx(accuracy_score(y, p >= 0.4), abs=1e-12)
    losses = [log_loss(y[:, k], p[:, k]) for k in range(3)]
    assert values["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-9)


def test_unknown_answers_do_not_count() -> None:
    logits = torch.tensor([[2.0, -2.0], [2.0, 5.0], [-2.0, -2.0]])
    labels = torch.tensor([[1, 0], [-1, -1], [0, 0]], dtype=torch.int8)
    metrics = MultiLabelMetrics(["a", "b"], 0.5)
    metrics.update_from(logits, labels)
    values = metrics.compute()
    assert values["exact_match"] == 1.0
    assert values["map"] == 1.0  # of a; no answer to b is yes
    first, second = metrics.table()["per_class"]
    assert (first["count"], first["given"], first["recall"]) == (1, 1, 1.0)
    assert (second["count"], second["average precision"], second["recall"]) == (0, None, None)


def test_prediction_names_the_labels_from_the_threshold_on() -> None:
    labels = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.int8)
    task, splits = multi_label(labels, ["cat", "dog", "bird"], threshold=0.3)
    assert splits.train is not None
    inputs = task.inputs(splits.train.collate(torch.arange(2)))
    assert torch.equal(inputs["labels"], labels)
    rows = task.predict(Given(torch.tensor([[3.0, -0.5, -3.0], [-3.0, -3.0, -3.0]])), inputs)
    assert rows[0]["labels"] == ["cat", "dog"]
    assert rows[0]["scores"]["dog"] == pytest.approx(1 / (1 + np.exp(0.5)))
    assert rows[1]["labels"] == []


def test_multi_label_without_labels_is_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"data=image_table.*no column multi_labels"):
        ImageMultiLabel(ImageMultiLabelConfig()).bind(Splits(train=pictures(labels=torch.zeros(8).long())))


def test_multi_label_state_is_json_and_gives_the_same_task_back() -> None:
    task, splits = multi_label(torch.tensor([[1, 0], [0, 1]], dtype=torch.int8), ["cat", "dog"])
    other = ImageMultiLabel(ImageMultiLabelConfig())
    other.load(json.loads(json.dumps(task.state())))
    assert other.facts() == task.facts() == {"num_classes": 2, "in_channels": 3}
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(2))
    assert torch.equal(task.inputs(batch)["images"], other.inputs(batch)["images"])


# ------------------------------------------------------------------------------------------------------------- predict


def test_files_are_read_as_in_training(tmp_path: Path) -> None:
    task, _ = regression(torch.tensor([[1.0], [2.0]], dtype=torch.float64), ["mm"])
    array = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    Image.fromarray(array).save(tmp_path / "a.png")
    ((name, batch),) = task.decode([str(tmp_path / "a.png")])
    assert name == str(tmp_path / "a.png")
    assert np.array_equal(batch["image"][0].permute(1, 2, 0).numpy(), array)


def test_predictions_of_numbers_and_labels_have_columns_of_their_own() -> None:
    numbers = [{"input": "a.png", "values": {"width_mm": 1.5, "height_mm": 2.0}}]
    assert predictions_csv(numbers).splitlines() == ["input,width_mm,height_mm", "a.png,1.5,2.0"]
    labels = [{"input": "a.png", "labels": ["cat", "dog"], "scores": {"dog": 0.75, "cat": 0.9}}]
    assert predictions_csv(labels).splitlines() == ["input,labels,score_cat,score_dog", "a.png,cat|dog,0.9,0.75"]
