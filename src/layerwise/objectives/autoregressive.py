"""Autoregressive language modelling: the next token by maximum likelihood.

Bengio, Ducharme, Vincent, Jauvin 2003, "A neural probabilistic language model" (JMLR 3), equation 3.2 without its
penalty.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Probability
from layerwise.objectives.base import Batch, Context, Objective, Term

IGNORED = -100  # a label that is no target, as torch's cross-entropy has it


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """Options of next-token prediction.

    Args:
        label_smoothing: share of the probability spread evenly over the vocabulary (Szegedy et al. 2016).
    """

    label_smoothing: Probability = 0.0


class Autoregressive(Objective):
    """Mean over targets of -log p(x_{t+1} | x_1 .. x_t), in nats a token.

    Shape:
        labels: int64 [B, T], the token after each position, -100 where there is no target; the network's output: logits
        [B, T, V] (a named tuple's first field also will do).
    """

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.config = config

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"nll": float((batch["labels"] != IGNORED).sum())}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        logits = network(**{name: value for name, value in batch.items() if name not in ("labels", "sample_ids")})
        logits: Tensor = logits[0] if isinstance(logits, tuple) else logits
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))  # the loss is float32 on purpose
        total = F.cross_entropy(
            wide.flatten(0, -2),
            batch["labels"].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return {"nll": Term(total, self.counts(batch, context.phase)["nll"])}


OBJECTIVES = {"autoregressive": AutoregressiveConfig()}
