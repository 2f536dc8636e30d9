"""Muon against a per-matrix float64 loop written from the published algorithm, and against torch.optim.Muon."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.optim import muon as module
from layerwise.optim.groups import parameter_groups
from layerwise.optim.state import set_learning_rate

# Two of one shape, one of its transpose, one alone, a convolution; outside the blocks a table and a vector.
SHAPES = {
    "a.weight": (6, 4), "b.weight": (6, 4), "c.weight": (4, 6), "d.weight": (5, 5), "e.weight": (8, 3, 3, 3),
    "table": (9, 4), "vector": (7,),
}  # fmt: skip
BLOCKS = ["a", "b", "c", "d", "e"]


def values(seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}


def build(parameters: dict[str, nn.Parameter], weight_decay: float = 0.1, **options: Any) -> Any:
    component = parse_component("optimizer", {"name": "Muon", "weight_decay": weight_decay, **options}, "optimizer")
    return component.build(parameter_groups(parameters.items(), weight_decay=weight_decay, blocks=BLOCKS))


def train(optimizer: Any, parameters: dict[str, nn.Parameter], steps: int) -> None:
    for step in range(steps):
        for name, gradient in values(10 + step, next(iter(parameters.values())).dtype).items():
            parameters[name].grad = gradient
        set_learning_rate(optimizer, 1.0 - 0.03 * step)
        optimizer.step()


def newton_schulz(matrix: Tensor, iterations: int) -> Tensor:
    """As printed in the blog post, for one matrix."""
    x = matrix / (matrix.norm() + 1e-30)
    if matrix.shape[0] > matrix.shape[1]:
        x = x.T
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def naive(steps: int, scale: str, nesterov: bool, lr: float = 0.02, wd: float = 0.1) -> dict[str, Tensor]:
    weights = values(0, torch.float64)
    state: dict[str, Tensor] = {name: torch.zeros_like(w) for name, w in weights.items()}
    square = {name: torch.zeros_like(w) for name, w in weights.items()}
    for step in range(steps):
        factor = 1.0 - 0.03 * step
        for name, g in values(10 + step, torch.float64).items():
            w = weights[name]
            if name in ("table", "vector"):
                rate = 3e-4 * factor
                state[name] = 0.9 * state[name] + 0.1 * g
                square[name] = 0.95 * square[name] + 0.05 * g * g
                mean, var = state[name] / (1 - 0.9 ** (step + 1)), square[name] / (1 - 0.95 ** (step + 1))
                w = w * (1 - rate * (wd if w.ndim > 1 else 0.0))
                weights[name] = w - rate * mean / (var.sqrt() + 1e-10)
                continue
            rate = lr * factor
            state[name] = 0.95 * state[name] + 0.05 * g
            update = 0.05 * g + 0.95 * state[name] if nesterov else state[name]
            rows, columns = w.shape[0], w[0].numel()
            size = max(1.0, rows / columns) ** 0.5 if scale == "original" else 0.2 * max(rows, columns) ** 0.5
            orthogonal = newton_schulz(update.reshape(rows, columns), 5).reshape(w.shape)
            weights[name] = w * (1 - rate * wd) - rate * size * orthogonal
    return weights


@pytest.mark.parametrize("scale", ["original", "match_rms"])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("chunk", [module._CHUNK_ELEMENTS, 1])
def test_twenty_steps_equal_a_per_matrix_float64_loop(
    scale: str, nesterov: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", chunk)
    parameters = {name: nn.Parameter(value) for name, value in values(0, torch.float64).items()}
    train(build(parameters, scale=scale, nesterov=nesterov, precision="fp32"), parameters, 20)
    for name, expected in naive(20, scale, nesterov).items():
        torch.testing.assert_close(parameters[name].detach(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.skipif(not module.has_bf16("cpu"), reason="needs a CPU with bf16 products")
@pytest.mark.parametrize(("scale", "theirs"), [("original", "original"), ("match_rms", "match_rms_adamw")])
def test_bf16_iterations_agree_with_torchs_muon(scale: str, theirs: str) -> None:
    names = ["a.weight", "b.weight", "c.weight", "d.weight"]
    ours = {name: nn.Parameter(value) for name, value in values(0, torch.float32).items()}
    reference = {name: nn.Parameter(ours[name].detach().clone()) for name in names}
    train(build(ours, scale=scale, precision="bf16"), ours, 5)
    optimizer = torch.optim.Muon(reference.values(), lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=theirs)
    for step in range(5):
        for name in names:
            reference[name].grad = values(10 + step, torch.float32)[name]
        optimizer.param_groups[0]["lr"] = 0.02 * (1.0 - 0.03 * step)
        optimizer.step()
    for name in names:
        moved = (reference[name] - values(0, torch.float32)[name]).norm()
        assert (ours[name] - reference[name]).norm() < 2e-2 * moved  # bf16


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    stack = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    singular = torch.linalg.svdvals(module.orthogonalise(stack))
    assert singular.min() > 0.5  # the post gives about 0.7 to 1.2
    assert singular.max() < 1.3


def test_a_zero_gradient_moves_nothing_but_decay() -> None:
    parameters = {name: nn.Parameter(value) for name, value in values(0, torch.float64).items()}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    for p in parameters.values():
        p.grad = torch.zeros_like(p)
    build(parameters, weight_decay=0.0).step()
    for name, p in parameters.items():
        assert torch.equal(p, before[name])


def test_a_matrix_without_gradient_is_left_alone() -> None:
    parameters = {name: nn.Parameter(value) for name, value in values(0, torch.float64).items()}
    before = parameters["a.weight"].detach().clone()
    optimizer = build(parameters)
    parameters["b.weight"].grad = torch.ones(6, 4, dtype=torch.float64)
    optimizer.step()
    assert torch.equal(parameters["a.weight"], before)
    assert not torch.equal(parameters["b.weight"], values(0, torch.float64)["b.weight"])


def test_the_rest_may_share_the_learning_rate() -> None:
    parameters = {name: nn.Parameter(value) for name, value in values(0, torch.float64).items()}
    rates = {name: g["lr"] for g in build(parameters, lr=0.5, adamw_lr=None).param_groups for name in g["names"]}
    assert set(rates.values()) == {0.5}


def test_a_network_without_blocks_is_a_configuration_error() -> None:
    groups = parameter_groups(nn.Linear(3, 3).named_parameters(), weight_decay=0.0)
    with pytest.raises(ConfigError, match="AdamW"):
        parse_component("optimizer", "Muon", "optimizer").build(groups)


def test_bf16_on_a_machine_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_bf16", lambda device: False)
    parameters = {name: nn.Parameter(value) for name, value in values(0, torch.float32).items()}
    with pytest.raises(UnsupportedError, match="precision=bf16"):
        build(parameters, precision="bf16")
    assert build(parameters).implementation == "fp32+fused"
