"""Pictures to classes: several views of a picture at test time."""

import math
from typing import Any

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
