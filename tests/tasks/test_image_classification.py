"""Pictures to classes: several views of a picture at test time, and the metrics."""

import json
import math
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.tasks.image_classification import (
    ClassificationMetrics,
    ImageClassification,
    ImageClassificationConfig,
    Views,
    shifted,
)


class Convolution(nn.Module):
    """A classifier that neither mirrors nor shifts leave alone."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))
        self.head = nn.Parameter(scale * torch.randn(5, 4 * 20 * 12, generator=generator))
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return F.conv2d(images, self.kernel, padding=1).relu().flatten(1) @ self.head.T


class Auxiliary(Convolution):
    """Logits and those of a second head, as GoogLeNet gives them."""

    def forward(self, images: Tensor) -> Any:
        logits = super().forward(images)
        return logits, -logits


IMAGES = torch.randn(6, 3, 20, 12, generator=torch.Generator().manual_seed(1))


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """Pixel by pixel; the nearest pixel where the picture ends. [C, H, W]."""
    made = torch.empty_like(image)
    height, width = image.shape[-2:]
    for y in range(height):
        for x in range(width):
            made[:, y, x] = image[:, min(max(y - down, 0), height - 1), min(max(x - right, 0), width - 1)]
    return made


def mean_by_hand(network: nn.Module, images: Tensor, *, flip: bool, shift: bool) -> Tensor:
    """Mean probability over the views in float64; a sixteenth of 20 x 12 is 2 x 1 pixels, rounded up."""
    places = [(0, 0), *((y, x) for y in (-2, 2) for x in (-1, 1))] if shift else [(0, 0)]
    views = [torch.stack([moved(image, *place) for image in images]) for place in places]
    if flip:
        views += [torch.from_numpy(view.numpy()[..., ::-1].copy()) for view in views]
    return torch.stack([network(view).double().softmax(1) for view in views]).mean(0)


def bound(test_time: tuple[str, ...], count: int = 40) -> tuple[ImageClassification, TensorExamples]:
    generator = torch.Generator().manual_seed(2)
    image = torch.randint(0, 256, (count, 3, 20, 12), generator=generator, dtype=torch.uint8)
    examples = TensorExamples({"image": image, "labels": torch.arange(count) % 5})
    task = ImageClassification(ImageClassificationConfig(test_time=test_time))  # type: ignore[arg-type]
    task.bind(Splits(train=examples, facts={"num_classes": 5}, class_names=list("abcde")))
    return task, examples


@pytest.mark.parametrize("views", [("flip",), ("shift",), ("flip", "shift"), ("shift", "flip")])
@torch.no_grad()
def test_probabilities_are_the_mean_over_the_views(views: tuple[str, ...]) -> None:
    network = Convolution(0.1)
    expected = mean_by_hand(network, IMAGES, flip="flip" in views, shift="shift" in views)
    found = Views(network, views)(IMAGES).softmax(1)  # type: ignore[arg-type]
    assert found.double().numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert (found - network(IMAGES).softmax(1)).abs().max() > 0.01  # or one view would have done


@pytest.mark.parametrize("views", [("flip",), ("flip", "shift")])
@torch.no_grad()
def test_mirror_images_get_the_same_answer_to_the_bit(views: tuple[str, ...]) -> None:
    network = Convolution()
    found, mirrored = (Views(network, views)(x) for x in (IMAGES, IMAGES.flip(-1)))  # type: ignore[arg-type]
    assert torch.equal(found, mirrored)
    assert not torch.allclose(network(IMAGES), network(IMAGES.flip(-1)))


@torch.no_grad()
def test_answer_is_finite_where_a_view_is_certain() -> None:
    """Probabilities of 0 in float32: their logarithm is taken before they are added."""
    network = Convolution(1e4)
    assert network(IMAGES).softmax(1).min() == 0
    assert torch.isfinite(Views(network, ("flip", "shift"))(IMAGES)).all()


def test_shift_is_by_whole_pixels_with_the_border_repeated() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    assert shifted(image, 1, -1)[0, 0].tolist() == [[1, 2, 2], [1, 2, 2]]
    assert torch.equal(shifted(image, 0, 0), image)


@pytest.mark.parametrize(("views", "calls"), [((), 1), (("flip",), 2), (("shift",), 5), (("flip", "shift"), 10)])
@torch.no_grad()
def test_evaluation_and_predictions_agree_and_cost_a_pass_a_view(views: tuple[str, ...], calls: int) -> None:
    task, examples = bound(views)
    network = Auxiliary(0.1).eval()
    batch = task.inputs(examples.collate(torch.arange(40)))
    network.calls = 0
    rows = task.predict(network, batch)
    assert network.calls == calls
    metrics, _ = task.evaluate(network, [batch])
    right = sum(row["label"] == "abcde"[label] for row, label in zip(rows, batch["labels"].tolist(), strict=True))
    assert metrics["accuracy"] == pytest.approx(right / 40)
    losses = [-math.log(row["scores"]["abcde"[y]]) for row, y in zip(rows, batch["labels"].tolist(), strict=True)]
    assert metrics["loss"] == pytest.approx(sum(losses) / 40, rel=1e-5)


@torch.no_grad()
def test_without_views_metrics_are_those_of_the_network_itself() -> None:
    task, examples = bound(())
    network = Convolution(0.1)
    batch = task.inputs(examples.collate(torch.arange(40)))
    plain = ClassificationMetrics(list("abcde"))
    plain.update_from(network(batch["images"]), batch["labels"], batch["sample_ids"])
    assert task.evaluate(network, [batch])[0] == plain.compute()


def test_views_are_an_option_and_wrong_ones_are_named() -> None:
    def options(value: str) -> Any:
        return parse_component("task", {"name": "image_classification", "test_time": value}, "task").config

    assert options("flip").test_time == ("flip",)
    assert options("flip,shift").test_time == ("flip", "shift")
    with pytest.raises(ConfigError, match="test_time"):
        options("rotate")
    with pytest.raises(ConfigError, match=r"task\.test_time=flip,flip: each once"):
        options("flip,flip")


def scored(count: int = 400, classes: int = 12) -> tuple[Tensor, Tensor]:
    """Logits that are right about half of the time, and labels of which the last class has none."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, classes - 1, (count,), generator=generator)
    logits = 2.0 * torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), labels] += 3.0
    return logits, labels


def metrics_of(logits: Tensor, labels: Tensor, parts: int = 1) -> ClassificationMetrics:
    """Taken in as so many processes would, each its share."""
    names = [f"class {k}" for k in range(logits.shape[1])]
    found = [ClassificationMetrics(names) for _ in range(parts)]
    for part in range(parts):
        ids = torch.arange(part, len(labels), parts)
        for some in ids.split(32):
            found[part].update_from(logits[some], labels[some], some)
    if parts > 1:
        found[0].merge([one.state() for one in found])
    return found[0]


@pytest.mark.parametrize("parts", [1, 3])
def test_metrics_are_those_of_scikit_learn_and_of_loops(parts: int) -> None:
    """In another process: its wheels bring a second OpenMP."""
    logits, labels = scored()
    values = metrics_of(logits, labels, parts).compute()
    code = (
        "import json, sys; import numpy as np; from sklearn.metrics import accuracy_score, f1_score, log_loss,"
        " top_k_accuracy_score as top; x = np.load(sys.argv[1]); p, y = x['p'], x['y']; k = p.shape[1];"
        " seen = sorted(set(y.tolist())); f = f1_score(y, p.argmax(1), average='macro', labels=seen);"
        " print(json.dumps({'accuracy': accuracy_score(y, p.argmax(1)), 'loss': log_loss(y, p, labels=range(k)),"
        " 'top5_accuracy': top(y, p, k=5, labels=range(k)), 'macro_f1': f}))"
    )
    probabilities = logits.double().softmax(1)
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, p=probabilities.numpy(), y=labels.numpy())
        file.flush()
        done = subprocess.run([sys.executable, "-c", code, file.name], capture_output=True, check=True, timeout=120)
    wanted = json.loads(done.stdout)
    assert 0.3 < wanted["accuracy"] < 0.9
    for name, value in wanted.items():
        assert values[name] == pytest.approx(value, rel=1e-5), name
    assert values["calibration_error"] == pytest.approx(naive_calibration(probabilities, labels, 15), rel=1e-4)


def naive_calibration(probabilities: Tensor, labels: Tensor, bins: int) -> float:
    """Guo et al. 2017, equation 3: sum over bins of |B| / n * |accuracy(B) - confidence(B)|."""
    rows = [
        (max(row), float(row.index(max(row)) == label))
        for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True)
    ]
    total = 0.0
    for b in range(bins):
        here = [(c, right) for c, right in rows if b / bins <= c < (b + 1) / bins or (b == bins - 1 and c == 1)]
        if here:
            confidence, accuracy = (sum(column) / len(here) for column in zip(*here, strict=True))
            total += len(here) / len(rows) * abs(accuracy - confidence)
    return total


def test_few_classes_have_no_top_5() -> None:
    logits, labels = scored(classes=9)
    assert "top5_accuracy" not in metrics_of(logits, labels).compute()


def test_the_table_counts_each_class_and_names_the_worst_mistakes() -> None:
    logits, labels = scored()
    table = metrics_of(logits, labels).table()
    predicted = logits.argmax(1).tolist()
    for k, row in enumerate(table["per_class"]):
        mine = [p == k for p, y in zip(predicted, labels.tolist(), strict=True) if y == k]
        assert row["count"] == len(mine)
        assert row["recall"] == (pytest.approx(sum(mine) / len(mine)) if mine else None)
        assert sum(table["confusion"][k]) == len(mine)
    assert table["per_class"][-1]["count"] == 0
    losses = -logits.double().log_softmax(1)[torch.arange(len(labels)), labels]
    assert [row["sample_id"] for row in table["most_wrong"]] == losses.argsort(descending=True)[
        : len(table["most_wrong"])
    ].tolist()
    assert table["most_wrong"][0]["loss"] == pytest.approx(float(losses.max()), rel=1e-5)
