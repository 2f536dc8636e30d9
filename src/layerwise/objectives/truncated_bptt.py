"""Truncated back-propagation through time: a recurrent network reads texts on and on, a window a step.

Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network trajectories"
(Neural Computation 2): the state goes from step to step, gradients end at the beginning of the window. Batches as in
Zaremba, Sutskever, Vinyals 2014, https://arxiv.org/abs/1409.2329, section 4.1: the corpus is cut into as many streams
as a batch has rows, and every step reads the next window of each.

Shapes: B streams, T tokens a window, L layers, H units.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from layerwise.core.config import Probability
from layerwise.nn.protocols import Recurrent, require
from layerwise.nn.recurrent import CarriedStates
from layerwise.objectives.autoregressive import NO_INPUTS, token_loss_sum
from layerwise.objectives.base import Batch, Context, Objective, Term, gather_rows
from layerwise.ops.linear_cross_entropy import IGNORED


@dataclass(frozen=True, kw_only=True)
class TruncatedBPTTConfig:
    """Options of truncated back-propagation through time; gradients flow through `task.seq_len` steps.

    Args:
        label_smoothing: share of the probability spread evenly over the vocabulary.
    """

    label_smoothing: Probability = 0.0


class TruncatedBPTT(Objective):
    """Mean over targets of -log p(x_{t+1} | x_1 .. x_t), the past before the window being the state that it left.

    States are kept by position in the text (`CarriedStates`), as they were after the step before, without gradient.
    They are buffers: training state. A text's beginning starts from zeros; at the beginning of a pass a stream goes on
    from where the stream before it ended, its neighbour in the text.

    Shape:
        tokens: int64 [B, T], labels: int64 [B, T], -100 where there is no target; sample_ids: the position of each
        window's first token. The network is `Recurrent`.
    """

    streams = True

    def __init__(self, config: TruncatedBPTTConfig) -> None:
        super().__init__()
        self.config = config
        self.carried = CarriedStates()
        # (sample ids, starts, ends, states [B, L, H]) of this step's micro-batches, until after_step
        self._fresh: list[tuple[Tensor, ...]] = []

    def setup(self, network: nn.Module) -> None:
        self.carried.setup(require(network, Recurrent, "objective=truncated_bptt").init_cache(0).state)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"nll": float((batch["labels"] != IGNORED).sum())}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        starts, length = batch["sample_ids"], batch["tokens"].shape[1]
        cache = self.carried.resume(starts, cast(Recurrent, network).init_cache(len(starts)))
        inputs: dict[str, Any] = {name: value for name, value in batch.items() if name not in NO_INPUTS}
        total = token_loss_sum(network, inputs | {"cache": cache}, batch["labels"], self.config.label_smoothing)
        if context.training:
            left = (part.detach().transpose(0, 1) for part in cache.state)
            self._fresh.append((starts, starts, starts + length, *left))
        return {"nll": Term(total, self.counts(batch, context.phase)["nll"])}

    @torch.no_grad()
    def after_step(self, network: nn.Module, context: Context) -> None:
        fresh, self._fresh = self._fresh, []
        starts, ends, *parts = gather_rows(context, fresh)
        self.carried.keep(starts, ends, *parts)


OBJECTIVES = {"truncated_bptt": TruncatedBPTTConfig()}
