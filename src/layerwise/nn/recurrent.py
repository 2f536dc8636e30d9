"""Recurrent layers by name, their initial weights, and the states that texts left where the next part goes on.

Shapes: B batch, T steps, H units, L layers, S states held.
"""

from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor, nn

from layerwise.nn.cache import RecurrentCache
from layerwise.nn.init import Init
from layerwise.ops.recurrent import CellWeights

CellName = Literal["rnn", "lstm", "gru"]
_LAYERS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
_GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def recurrent_layers(
    cell: CellName, input_size: int, hidden_size: int, num_layers: int, dropout: float
) -> nn.RNN | nn.LSTM | nn.GRU:
    """torch's layers, batch first; `dropout` is between layers."""
    between = dropout if num_layers > 1 else 0.0
    return _LAYERS[cell](input_size, hidden_size, num_layers, batch_first=True, dropout=between)


@torch.no_grad()
def reset_recurrent(layers: nn.RNN | nn.LSTM | nn.GRU, forget_bias: float = 1.0, max_memory: int | None = None) -> None:
    """Draw every gate's matrix by itself: orthogonal of the state, Glorot-uniform of the input. Biases are zero but for
    an LSTM's forget gates, so that a fresh cell keeps what it has (Gers et al. 2000; Jozefowicz et al. 2015, section
    2.2).

    With `max_memory` (at least 3) the gates that keep the state begin with memories of 1 to as many steps, a unit one
    (Tallec and Ollivier 2018, "Can recurrent neural networks warp time?", https://arxiv.org/abs/1804.11188, section 2):
    b = log u, u uniform in [1, max_memory - 1], of an LSTM's forget gates (-b of its input gates) and of a GRU's update
    gates. A plain RNN has no gates.
    """
    cell, size = cell_name(layers), layers.hidden_size
    for name, parameter in layers.named_parameters():
        if name.startswith("bias"):
            Init("zeros").fill_(parameter)
            kept = parameter[size : 2 * size]  # forget gates of an LSTM, update gates of a GRU
            if name.startswith("bias_hh") or cell == "rnn":
                continue
            if max_memory is not None:
                kept.uniform_(1, max_memory - 1).log_()
                if cell == "lstm":
                    parameter[:size] = -kept
            elif cell == "lstm":
                kept.fill_(forget_bias)
            continue
        drawn = Init("orthogonal" if name.startswith("weight_hh") else "glorot_uniform")
        for gate in parameter.chunk(_GATES[cell]):
            drawn.fill_(gate)


def cell_name(layers: nn.RNN | nn.LSTM | nn.GRU) -> CellName:
    """Which cell torch's layers have."""
    return "lstm" if isinstance(layers, nn.LSTM) else "gru" if isinstance(layers, nn.GRU) else "rnn"


def cell_weights(layers: nn.RNN | nn.LSTM | nn.GRU) -> list[CellWeights]:
    """The weights of every layer, as `ops.recurrent` takes them."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [CellWeights(*(getattr(layers, f"{name}_l{i}") for name in names)) for i in range(layers.num_layers)]


def empty_state(layers: nn.RNN | nn.LSTM | nn.GRU, batch_size: int) -> tuple[Tensor, ...]:
    """Zeros [L, B, H], of an LSTM once more for the cells."""
    like = cell_weights(layers)[0].w_hh
    zeros = like.new_zeros(layers.num_layers, batch_size, layers.hidden_size)
    return (zeros, torch.zeros_like(zeros)) if isinstance(layers, nn.LSTM) else (zeros,)


def run_layers(
    layers: nn.RNN | nn.LSTM | nn.GRU, x: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Hidden states [B, T, H] and the state after the last step, in the type that the given one has (autocast gives
    some cells' in bfloat16).
    """
    given: Any = state if isinstance(layers, nn.LSTM) else state[0]
    hidden, after = layers(x, given)
    last = after if isinstance(after, tuple) else (after,)
    return hidden, tuple(part.to(state[0].dtype) for part in last)


class CarriedStates(nn.Module):
    """The states of a recurrent network where it stopped reading texts, found again by the position where each goes on.

    A window of a text that begins at position p goes on from the state that the window ending at p left; where there is
    none (the beginning of a text) from zeros. Which row of which batch a window is in does not matter, so micro-batches
    and processes see the same. All of it are buffers: training state where the owner is.

    Shape:
        positions: int64 [S]; part 0, of an LSTM also part 1: [S, L, H].
    """

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positions", torch.zeros(0, dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_make_room)

    def setup(self, state: tuple[Tensor, ...]) -> None:
        """Nothing is carried yet; `state` [L, B, H] tells the form of what will be."""
        self.positions = torch.zeros(0, dtype=torch.int64, device=state[0].device)
        for i, part in enumerate(state):
            self.register_buffer(f"part_{i}", part.new_zeros(0, part.shape[0], part.shape[2]))

    def parts(self) -> list[Tensor]:
        """What is carried, [S, L, H] each."""
        return [value for name, value in self.named_buffers() if name.startswith("part_")]

    def resume(self, starts: Int[Tensor, " B"], cache: RecurrentCache) -> RecurrentCache:
        """The cache of a fresh batch with the states that end where its windows start."""
        if not len(self.positions):
            return cache
        ordered, order = self.positions.sort()
        place = torch.searchsorted(ordered, starts).clamp_(max=len(ordered) - 1)
        found = (ordered[place] == starts)[:, None, None]
        rows = order[place]
        parts = (torch.where(found, part.index_select(0, rows), 0).transpose(0, 1) for part in self.parts())
        cache.state = tuple(part.contiguous() for part in parts)
        return cache

    @torch.no_grad()
    def keep(self, starts: Int[Tensor, " B"], ends: Int[Tensor, " B"], *parts: Tensor) -> None:
        """Windows were read from `starts` to `ends` and left states, parts [B, L, H]. A state that was gone on from, or
        is met again, is dropped.
        """
        old = ~(torch.isin(self.positions, starts) | torch.isin(self.positions, ends))
        self.positions = torch.cat([self.positions[old], ends])
        for i, (held, fresh) in enumerate(zip(self.parts(), parts, strict=True)):
            setattr(self, f"part_{i}", torch.cat([held[old], fresh.to(held.dtype)]))


def _make_room(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """As many states as the tree to be loaded holds."""
    for name, held in list(module.named_buffers()):
        if (saved := state.get(prefix + name)) is not None:
            setattr(module, name, held.new_zeros(saved.shape))
