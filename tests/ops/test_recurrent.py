"""The cells as written, step by step, against torch's fused layers; an LSTM also against a loop over single numbers."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from layerwise.ops.recurrent import CELLS, CellWeights, lstm_cell, unroll

LAYERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
# The Frobenius ratio separates a wrong equation from rounding.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
SHAPES = [(1, 1, 1, 1, 1), (2, 7, 3, 5, 1), (3, 20, 5, 4, 3), (5, 13, 8, 16, 2)]


def ratio(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).detach().norm() / wanted.detach().norm())


def weights(layers: nn.RNNBase) -> list[CellWeights]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [CellWeights(*(getattr(layers, f"{name}_l{i}") for name in names)) for i in range(layers.num_layers)]


@pytest.mark.parametrize(("cell", "shape", "dtype"), list(product(CELLS, SHAPES, TOLERANCE)), ids=str)
def test_equals_torch(cell: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    batch, steps, inputs, units, depth = shape
    torch.manual_seed(0)
    layers = LAYERS[cell](inputs, units, depth, batch_first=True).to(dtype)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.normal_(0, 0.7)
    x = torch.randn(batch, steps, inputs, dtype=dtype, requires_grad=True)
    state = tuple(torch.randn(depth, batch, units, dtype=dtype) for _ in range(2 if cell == "lstm" else 1))
    wanted, last = layers(x, state if cell == "lstm" else state[0])
    got, course = unroll(CELLS[cell], weights(layers), x, state)
    assert ratio(got, wanted) < TOLERANCE[dtype]
    for part, theirs in enumerate(last if cell == "lstm" else (last,)):
        ours = torch.stack([layer[part] for layer in course[-1]])
        assert ratio(ours, theirs) < TOLERANCE[dtype]
    slope = torch.randn_like(wanted)
    theirs = torch.autograd.grad(wanted, [x, *layers.parameters()], slope)
    ours = torch.autograd.grad(got, [x, *layers.parameters()], slope)
    assert all(ratio(a, b) < TOLERANCE[dtype] for a, b in zip(ours, theirs, strict=True) if float(b.norm()) > 0)


def test_an_lstm_step_number_by_number() -> None:
    torch.manual_seed(0)
    made = CellWeights(*(torch.randn(shape, dtype=torch.float64) for shape in ((8, 3), (8, 2), (8,), (8,))))
    x, h, c = (torch.randn(1, size, dtype=torch.float64) for size in (3, 2, 2))

    def row(k: int) -> float:
        fed = sum(float(made.w_ih[k, j] * x[0, j]) for j in range(3))
        back = sum(float(made.w_hh[k, j] * h[0, j]) for j in range(2))
        return fed + back + float(made.b_ih[k] + made.b_hh[k])

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    shown, cell = lstm_cell(x, (h, c), made)
    for unit in range(2):
        i, f, g, o = (row(gate * 2 + unit) for gate in range(4))
        kept = sigmoid(f) * float(c[0, unit]) + sigmoid(i) * math.tanh(g)
        assert float(cell[0, unit]) == pytest.approx(kept, rel=1e-12)
        assert float(shown[0, unit]) == pytest.approx(sigmoid(o) * math.tanh(kept), rel=1e-12)


def test_the_course_has_the_state_of_every_step() -> None:
    torch.manual_seed(0)
    layers = nn.GRU(3, 4, 2, batch_first=True)
    x = torch.randn(2, 6, 3)
    got, course = unroll(CELLS["gru"], weights(layers), x, (torch.zeros(2, 2, 4),))
    assert (len(course), len(course[0]), len(course[0][0])) == (6, 2, 1)
    for t in range(6):
        torch.testing.assert_close(course[t][1][0], got[:, t])
        torch.testing.assert_close(course[t][0][0], layers(x[:, : t + 1])[1][0], atol=1e-6, rtol=1e-5)
