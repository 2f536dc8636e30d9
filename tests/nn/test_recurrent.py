"""Recurrent layers by name, how they begin, and the states that texts leave."""

from typing import Any

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.nn.cache import RecurrentCache
from layerwise.nn.recurrent import (
    CarriedStates,
    CellName,
    cell_name,
    cell_weights,
    empty_state,
    recurrent_layers,
    reset_recurrent,
)


def carried(parts: int = 2) -> CarriedStates:
    found = CarriedStates()
    found.setup(tuple(torch.zeros(3, 0, 4) for _ in range(parts)))
    return found


def cache(rows: int, parts: int = 2) -> RecurrentCache:
    return RecurrentCache(tuple(torch.zeros(3, rows, 4) for _ in range(parts)), 100)


def state(*values: float) -> torch.Tensor:
    """[B, L, H], a row all of one number."""
    return torch.tensor(values)[:, None, None].expand(-1, 3, 4)


def held(found: RecurrentCache, part: int = 0) -> list[float]:
    assert all(float(p.std(dim=(0, 2)).max()) == 0 for p in found.state)
    return found.state[part][0, :, 0].tolist()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_layers_begin_orthogonal_gate_by_gate(cell: CellName) -> None:
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 5, 8, 2, 0.0)
    reset_recurrent(layers, forget_bias=1.5)
    assert cell_name(layers) == cell
    for gate in cell_weights(layers)[1].w_hh.detach().double().split(8):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8, dtype=torch.float64), atol=1e-6, rtol=0)
    # Glorot-uniform: within sqrt(6 / (in + out)) of a gate's own size, and near its ends somewhere.
    for gate in cell_weights(layers)[0].w_ih.detach().split(8):
        assert 0.85 * (6 / 13) ** 0.5 < float(gate.abs().max()) <= (6 / 13) ** 0.5
    bias = cell_weights(layers)[0].b_ih + cell_weights(layers)[0].b_hh
    wanted = [1.5 if cell == "lstm" and 8 <= k < 16 else 0.0 for k in range(len(bias))]
    assert bias.tolist() == wanted


def test_an_lstm_alone_has_cells() -> None:
    wanted: list[tuple[CellName, int]] = [("rnn", 1), ("gru", 1), ("lstm", 2)]
    for cell, parts in wanted:
        assert [part.shape for part in empty_state(recurrent_layers(cell, 5, 8, 2, 0.0), 3)] == [(2, 3, 8)] * parts


def test_dropout_is_between_layers_only() -> None:
    assert recurrent_layers("gru", 2, 2, 1, 0.4).dropout == 0
    assert recurrent_layers("gru", 2, 2, 2, 0.4).dropout == 0.4


def test_a_window_goes_on_from_the_state_that_ended_where_it_starts() -> None:
    texts = carried()
    texts.keep(torch.tensor([0, 50]), torch.tensor([10, 60]), state(1, 2), state(-1, -2))
    found = texts.resume(torch.tensor([60, 7, 10]), cache(3))
    assert held(found) == [2, 0, 1]
    assert held(found, 1) == [-2, 0, -1]
    assert all(part.is_contiguous() for part in found.state)


def test_nothing_is_known_before_the_first_step() -> None:
    assert held(carried().resume(torch.tensor([0, 3]), cache(2))) == [0, 0]


def test_states_gone_on_from_are_dropped_and_others_stay() -> None:
    texts = carried(1)
    texts.keep(torch.tensor([0, 50, 90]), torch.tensor([10, 60, 95]), state(1, 2, 3))
    texts.keep(torch.tensor([10, 60]), torch.tensor([20, 70]), state(4, 5))
    assert sorted(zip(texts.positions.tolist(), texts.parts()[0][:, 0, 0].tolist(), strict=True)) == [
        (20, 4), (70, 5), (95, 3),
    ]  # fmt: skip
    texts.keep(torch.tensor([90]), torch.tensor([95]), state(6))  # read again in the next pass
    assert held(texts.resume(torch.tensor([95]), cache(1, 1))) == [6]
    assert len(texts.positions) == 3


def test_what_is_carried_is_state_that_loads_into_a_fresh_one() -> None:
    texts, fresh = carried(), carried()
    texts.keep(torch.tensor([0, 50]), torch.tensor([10, 60]), state(1, 2), state(-1, -2))
    tree: dict[str, Any] = dict(texts.state_dict())
    fresh.load_state_dict(tree)
    assert held(fresh.resume(torch.tensor([10, 60]), cache(2))) == [1, 2]
    texts.keep(torch.tensor([10]), torch.tensor([20]), state(9), state(9))  # the tree is a copy by then
    assert fresh.positions.tolist() == [10, 60]
    texts.load_state_dict(carried().state_dict())
    assert len(texts.positions) == 0


def test_a_recurrent_cache_goes_back_to_the_beginning_only() -> None:
    found = RecurrentCache((torch.ones(1, 2, 3),), 10)
    found.position = 4
    with pytest.raises(ConfigError, match="position=2"):
        found.rewind(2)
    found.rewind(4)
    assert float(found.state[0].sum()) == 6
    found.rewind(0)
    assert (found.position, float(found.state[0].sum())) == (0, 0)


def test_a_recurrent_cache_is_reordered_by_rows() -> None:
    found = RecurrentCache((torch.arange(3.0).view(1, 3, 1), -torch.arange(3.0).view(1, 3, 1)), 10)
    found.reorder(torch.tensor([2, 2, 0, 1]))
    assert [part.flatten().tolist() for part in found.state] == [[2, 2, 0, 1], [-2, -2, 0, -1]]
