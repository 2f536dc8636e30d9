"""The cells of recurrent networks, one step at a time as their equations are written: what torch's fused layers must
give, and where the state of every step can be asked for.

Elman 1990, "Finding structure in time" (Cognitive Science 14); Hochreiter, Schmidhuber 1997, "Long short-term memory"
(Neural Computation 9) with the forget gate of Gers, Schmidhuber, Cummins 2000, "Learning to forget" (Neural Computation
12); Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder", https://arxiv.org/abs/1406.1078.

Shapes: B batch, T steps, I width of the input, H units, L layers; G gates: 1 of the RNN, 3 of the GRU, 4 of the LSTM.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

State = tuple[Tensor, ...]  # hidden [B, H]; of an LSTM also the cell [B, H]


class CellWeights(NamedTuple):
    """A layer's weights, its gates below each other in torch's order: (i, f, g, o) of an LSTM, (r, z, n) of a GRU.

    Args:
        w_ih: [G H, I], of the input.
        w_hh: [G H, H], of the hidden state.
        b_ih, b_hh: [G H].
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor
    b_hh: Tensor


def rnn_cell(x: Float[Tensor, "B I"], state: State, weights: CellWeights) -> State:
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)."""
    (h,) = state
    return (torch.tanh(x @ weights.w_ih.T + weights.b_ih + h @ weights.w_hh.T + weights.b_hh),)


def lstm_cell(x: Float[Tensor, "B I"], state: State, weights: CellWeights) -> State:
    """Gates i, f, o in (0, 1), each with weights of its own, decide what the cell takes in, keeps and shows:

    i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),    g = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),
    c_t = f c_{t-1} + i g,    h_t = o tanh(c_t).
    """
    h, c = state
    i, f, g, o = (x @ weights.w_ih.T + weights.b_ih + h @ weights.w_hh.T + weights.b_hh).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_cell(x: Float[Tensor, "B I"], state: State, weights: CellWeights) -> State:
    """Gates r (reset) and z (update), each with weights of its own:

    r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),    n = tanh(W_ih x_t + b_ih + r (W_hh h_{t-1} + b_hh)),
    h_t = (1 - z) n + z h_{t-1}.

    Note:
        As torch and cuDNN have it r is applied after the product W_hh h; in Cho et al. it is before.
    """
    (h,) = state
    x_r, x_z, x_n = (x @ weights.w_ih.T + weights.b_ih).chunk(3, dim=-1)
    h_r, h_z, h_n = (h @ weights.w_hh.T + weights.b_hh).chunk(3, dim=-1)
    z = torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
    return ((1 - z) * n + z * h,)


Cell = Callable[[Tensor, State, CellWeights], State]
CELLS: dict[str, Cell] = {"rnn": rnn_cell, "lstm": lstm_cell, "gru": gru_cell}


def unroll(
    cell: Cell, layers: Sequence[CellWeights], x: Float[Tensor, "B T I"], state: State
) -> tuple[Float[Tensor, "B T H"], list[list[State]]]:
    """Step by step through a sequence, every layer reading the hidden state of the one below.

    Args:
        cell: one of `CELLS`.
        layers: weights of each layer, lowest first.
        x: the sequence.
        state: before the first step: parts [L, B, H].

    Returns:
        The last layer's hidden states, and the state of every layer after every step (by step, then layer).
    """
    now = [tuple(part[i] for part in state) for i in range(len(layers))]
    course: list[list[State]] = []
    for below in x.unbind(1):
        after: list[State] = []
        for before, weights in zip(now, layers, strict=True):
            after.append(cell(below, before, weights))
            below = after[-1][0]
        course.append(after)
        now = after
    return torch.stack([states[-1][0] for states in course], dim=1), course
