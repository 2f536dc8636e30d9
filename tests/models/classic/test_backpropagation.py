"""Back-propagation: gradients against central differences and against the equations of 1986 written as loops."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.models.classic.mlp import MLP, MLPConfig
from layerwise.objectives.base import Context
from layerwise.objectives.squared_error import SquaredError, SquaredErrorConfig
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    objective = SquaredError(SquaredErrorConfig(output="logistic", target_margin=0.1))
    return objective(network, batch, CONTEXT)["squared_error"].sum


def example(activation: Any, hidden: tuple[int, ...], norm: Any = "none") -> tuple[MLP, dict[str, Tensor]]:
    torch.manual_seed(0)
    network = MLP(MLPConfig(in_features=4, num_classes=3, hidden=hidden, activation=activation, norm=norm)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    images = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (6, 3), generator=generator).double()
    return network, {"images": images, "labels": labels, "sample_ids": torch.arange(6)}


@pytest.mark.parametrize("norm", ["none", "layer_norm"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "sigmoid"])
def test_gradients_equal_central_differences(activation: str, norm: str) -> None:
    """Step 1e-6 in float64: the difference's own error is about 1e-10 of the loss, and no rectified unit here is within
    a step of its corner (that would show as an error of the order of the gradient).
    """
    network, batch = example(activation, (5, 4), norm)
    loss(network, batch).backward()
    step = 1e-6
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        flat, found = parameter.data.view(-1), parameter.grad.view(-1)
        for i in range(len(flat)):
            value = float(flat[i])
            ends: list[float] = []
            for moved in (value + step, value - step):
                flat[i] = moved
                with torch.no_grad():
                    ends.append(float(loss(network, batch)))
            flat[i] = value
            assert float(found[i]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-8), (
                f"{name}[{i}]"
            )


def test_gradients_are_the_equations_of_1986() -> None:
    """Errors of the output units, then of the hidden units through the weights above them, times what came in."""
    network, batch = example("sigmoid", (5,))
    loss(network, batch).backward()
    state = {name: value.tolist() for name, value in network.state_dict().items()}
    w1, b1 = state["blocks.0.linear.weight"], state["blocks.0.linear.bias"]
    w2, b2 = state["head.weight"], state["head.bias"]
    d_w1, d_b1 = [[0.0] * 4 for _ in range(5)], [0.0] * 5
    d_w2, d_b2 = [[0.0] * 5 for _ in range(3)], [0.0] * 3

    def logistic(total: float) -> float:
        return 1 / (1 + math.exp(-total))

    for x, wanted in zip(batch["images"].tolist(), batch["labels"].tolist(), strict=True):
        h = [logistic(sum(w * v for w, v in zip(w1[j], x, strict=True)) + b1[j]) for j in range(5)]
        y = [logistic(sum(w * v for w, v in zip(w2[k], h, strict=True)) + b2[k]) for k in range(3)]
        goals = [0.1 + 0.8 * label for label in wanted]
        above = [2 * (y[k] - goals[k]) * y[k] * (1 - y[k]) for k in range(3)]  # of the squared error, not its half
        below = [sum(above[k] * w2[k][j] for k in range(3)) * h[j] * (1 - h[j]) for j in range(5)]
        for k in range(3):
            d_b2[k] += above[k]
            for j in range(5):
                d_w2[k][j] += above[k] * h[j]
        for j in range(5):
            d_b1[j] += below[j]
            for i in range(4):
                d_w1[j][i] += below[j] * x[i]
    expected = {
        "blocks.0.linear.weight": d_w1, "blocks.0.linear.bias": d_b1, "head.weight": d_w2, "head.bias": d_b2,
    }  # fmt: skip
    for name, parameter in network.named_parameters():
        wanted_gradient = torch.tensor(expected[name], dtype=torch.float64)
        assert torch.allclose(parameter.grad, wanted_gradient, rtol=0, atol=1e-12), name  # pyright: ignore[reportArgumentType]


def test_init_range_bounds_weights_and_biases() -> None:
    torch.manual_seed(0)
    network = MLP(MLPConfig(in_features=50, num_classes=5, hidden=(40,), init_range=0.3))
    for parameter in network.parameters():
        assert 0.1 < float(parameter.detach().abs().max()) <= 0.3
    spread = float(network.get_parameter("blocks.0.linear.weight").detach().std())
    assert spread == pytest.approx(0.3 / math.sqrt(3), rel=0.05)
