"""Squared error against its definition."""

import math

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.objectives.base import Context
from layerwise.objectives.squared_error import SquaredError, SquaredErrorConfig
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, numeric: Tensor) -> Tensor:
        return numeric * self.slope


def batch(count: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    numeric = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    labels = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    return {"numeric": numeric, "labels": labels, "sample_ids": torch.arange(count)}


def test_sum_and_gradient_are_the_definition() -> None:
    data, network = batch(), Line()
    term = SquaredError(SquaredErrorConfig())(network, data, CONTEXT)["squared_error"]
    errors = [
        2 * x - y for x, y in zip(data["numeric"].flatten().tolist(), data["labels"].flatten().tolist(), strict=True)
    ]
    assert term.sum.item() == pytest.approx(sum(e * e for e in errors), abs=1e-12)
    term.sum.backward()
    by_hand = sum(2 * e * x for e, x in zip(errors, data["numeric"].flatten().tolist(), strict=True))
    assert network.slope.grad is not None
    assert network.slope.grad.item() == pytest.approx(by_hand, abs=1e-12)


def test_count_is_known_before_the_forward_pass() -> None:
    data, objective = batch(5), SquaredError(SquaredErrorConfig())
    assert objective.counts(data, "main") == {"squared_error": 5.0}
    assert objective(Line(), data, CONTEXT)["squared_error"].count == 5.0


def test_huber_is_linear_beyond_its_border() -> None:
    """Huber's loss doubled: e^2 inside, 2 d (|e| - d / 2) outside."""
    data = batch()
    term = SquaredError(SquaredErrorConfig(huber=0.7))(Line(), data, CONTEXT)["squared_error"]
    expected = 0.0
    for x, y in zip(data["numeric"].flatten().tolist(), data["labels"].flatten().tolist(), strict=True):
        e = abs(2 * x - y)
        expected += e * e if e <= 0.7 else 2 * 0.7 * (e - 0.35)
    assert term.sum.item() == pytest.approx(expected, abs=1e-12)


def test_shapes_that_would_broadcast_are_refused() -> None:
    data = batch()
    with pytest.raises(ValueError, match=r"gives \[6, 1\], labels are \[6\]"):
        SquaredError(SquaredErrorConfig())(Line(), {**data, "labels": data["labels"].flatten()}, CONTEXT)


def test_logistic_outputs_are_compared_with_goals_inside_the_ends() -> None:
    """Goals 0.1 and 0.9 for labels 0 and 1; the gradient has the factor y (1 - y) of the logistic function."""
    numeric, labels = torch.tensor([[0.3], [-1.2], [0.7]]).double(), torch.tensor([[1.0], [0.0], [0.0]]).double()
    network, expected, slope = Line(), 0.0, 0.0
    config = SquaredErrorConfig(output="logistic", target_margin=0.1)
    term = SquaredError(config)(network, {"numeric": numeric, "labels": labels, "sample_ids": torch.arange(3)}, CONTEXT)
    for x, label in zip((0.3, -1.2, 0.7), (1, 0, 0), strict=True):
        y = 1 / (1 + math.exp(-2 * x))
        error = y - (0.9 if label else 0.1)
        expected, slope = expected + error**2, slope + 2 * error * y * (1 - y) * x
    term["squared_error"].sum.backward()
    assert term["squared_error"].sum.item() == pytest.approx(expected, abs=1e-7)  # the labels are float32 numbers
    assert network.slope.grad is not None
    assert network.slope.grad.item() == pytest.approx(slope, abs=1e-7)


def test_goals_inside_the_ends_need_labels_of_0_and_1() -> None:
    with pytest.raises(ConfigError, match="only output=logistic"):
        SquaredErrorConfig(target_margin=0.1)
