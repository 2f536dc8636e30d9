"""The recurrent regressor: the cells as written, and how long its gates remember at the start."""

from itertools import product

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.rnn_regressor import RNNRegressor, RNNRegressorConfig
from layerwise.nn.recurrent import CellName, cell_weights, empty_state
from layerwise.ops.recurrent import CELLS, unroll

NAMES: list[CellName] = ["rnn", "lstm", "gru"]


@pytest.mark.parametrize(("cell", "dtype"), list(product(NAMES, [torch.float64, torch.float32])), ids=str)
def test_predictions_equal_the_equations(cell: CellName, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = RNNRegressor(RNNRegressorConfig(in_features=3, num_outputs=2, cell=cell, hidden_size=7, num_layers=2))
    model = model.to(dtype)
    x = torch.randn(4, 30, 3, dtype=dtype)
    with torch.no_grad():
        hidden, _ = unroll(CELLS[cell], cell_weights(model.rnn), x, empty_state(model.rnn, 4))
        wanted = hidden[:, -1] @ model.head.weight.T + model.head.bias
        got = model(x)
    # The Frobenius ratio separates a wrong equation from rounding.
    assert float((got - wanted).norm() / wanted.norm()) < (1e-9 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize(("cell", "gate"), [("lstm", 1), ("gru", 1)])
def test_gates_remember_as_long_as_asked(cell: CellName, gate: int) -> None:
    """A gate that keeps s = sigmoid(b) of its state remembers 1 / (1 - s) = 1 + e^b steps (Tallec and Ollivier)."""
    torch.manual_seed(0)
    model = RNNRegressor(RNNRegressorConfig(in_features=3, num_outputs=1, cell=cell, hidden_size=4000, max_memory=101))
    weights = cell_weights(model.rnn)[0]
    bias = (weights.b_ih + weights.b_hh).detach().view(-1, 4000)
    steps = 1 + bias[gate].exp()
    assert 2 <= float(steps.min()) < 3
    assert 100 < float(steps.max()) <= 101
    assert float(steps.mean()) == pytest.approx(51.5, abs=2)  # uniform
    if cell == "lstm":
        assert torch.equal(bias[0], -bias[1])
    assert not bool(bias[2:].any())


def test_sizes_come_from_the_data() -> None:
    with pytest.raises(ConfigError, match="in_features and num_outputs"):
        RNNRegressor(RNNRegressorConfig())
