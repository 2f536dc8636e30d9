"""What every way of learning gives the loop: named terms with sums and counts.

The loop minimises `sum_t weight_t * sum_t / count_t`, with sums and counts added over micro-batches and processes
*before* the division, so
that the gradient does not depend on how a batch was split. A term whose value depends on batch mates or on the forward
pass's own count is
declared `per_batch`: its ratio is averaged over micro-batches instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from layerwise.ops.random import Draws

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a loss.

    Args:
        sum: scalar tensor, the sum over items.
        count: number of items; for terms that are not `per_batch` it must equal what `Objective.counts` said.
        weight: factor in the total.
        minimised: False for terms that are shown and not trained on.
    """

    sum: Tensor
    count: float
    weight: float = 1.0
    minimised: bool = True


@dataclass(frozen=True)
class Context:
    """What the loop passes to an objective.

    Args:
        step: optimiser steps done before this one, over the whole stage.
        epoch: passes over the data done.
        phase: name of the phase that runs.
        draws: random numbers keyed by (seed, step, phase) and, per call, sample id and name.
        gather: concatenates a tensor along dim 0 over all processes, with the exact adjoint as gradient; identity in
            one process.
        training: False when losses are evaluated on held-out data.
    """

    step: int
    epoch: int
    phase: str
    draws: Draws
    gather: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    training: bool = True


def gather_rows(context: Context, fresh: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What a step's micro-batches left, over all processes, in the order of sample ids: the same however it was split.

    Args:
        fresh: of each micro-batch its sample ids [B] and further tensors [B, ...]. One that was run again counts once.

    Returns:
        The further tensors, joined along dim 0.
    """
    sample_ids, *columns = (context.gather(torch.cat(parts)) for parts in zip(*fresh, strict=True))
    ordered, order = torch.sort(sample_ids, stable=True)
    last = torch.ones(len(order), dtype=torch.bool, device=order.device)
    last[:-1] = ordered[1:] != ordered[:-1]
    return tuple(column[order[last]] for column in columns)


class Objective(nn.Module):
    """A way of learning. Buffers and parameters of the module are part of the training state; its parameters are
    trained with the network's.
    """

    # Terms averaged over micro-batches because they depend on batch mates or on the forward pass.
    per_batch: tuple[str, ...] = ()
    # Whether it learns from samples that are mixed of two (`mate_labels`, `own_share`).
    mixes: bool = False
    # Whether it reads texts on from step to step: a batch then has the next window of as many streams as it has rows.
    streams: bool = False
    # A run or a checkpoint whose network teaches; it comes by `take_teacher` before `setup`.
    teacher_source: str | None = None
    # Phases that it knows, in order; one phase is called "main".
    phases: tuple[str, ...] = ("main",)

    def take_teacher(self, teacher: nn.Module) -> None:
        """The network of `teacher_source`, on its device."""
        raise NotImplementedError

    def setup(self, network: nn.Module) -> None:
        """Called once with the network before optimisers are made: build teachers and heads, check protocols."""

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        """Counts of the terms that are not `per_batch`, from the data alone, before any forward pass."""
        raise NotImplementedError

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        """Terms of one micro-batch in one phase."""
        raise NotImplementedError

    def after_step(self, network: nn.Module, context: Context) -> None:
        """Called after the last phase of each optimiser step: momentum teachers, queues, codebooks."""
