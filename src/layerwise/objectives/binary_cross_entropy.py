"""Supervised multi-label classification: a yes or no for every label, by cross-entropy of each one's sigmoid."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import PositiveFloat
from layerwise.core.errors import ConfigError
from layerwise.objectives.base import Batch, Context, Objective, Term

NOT_INPUTS = ("labels", "sample_ids")


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropyConfig:
    """Options of binary cross-entropy.

    Args:
        pos_weight: factor of the loss where the answer is yes, one for all labels or one a label in their order; empty
            weighs yes and no alike. Negatives over positives balances a rare label.
    """

    pos_weight: tuple[PositiveFloat, ...] = ()


class BinaryCrossEntropy(Objective):
    """Mean over known answers of `-w y log s(f) - (1 - y) log(1 - s(f))`, s the logistic function.

    Shape:
        labels: [B, L], 1 yes, 0 no (or a probability), negative or NaN where the answer is not known; the network's
        output: logits [B, L] (a named tuple's first field also will do).
    """

    pos_weight: Tensor | None

    def __init__(self, config: BinaryCrossEntropyConfig) -> None:
        super().__init__()
        self.config = config
        weight = torch.tensor(config.pos_weight, dtype=torch.float32) if config.pos_weight else None
        self.register_buffer("pos_weight", weight, persistent=False)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"binary_cross_entropy": float((batch["labels"] >= 0).sum())}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        """The term.

        Raises:
            ValueError: the network's output has another shape than the labels.
            ConfigError: another number of weights than labels.
        """
        logits = network(**{name: value for name, value in batch.items() if name not in NOT_INPUTS})
        if isinstance(logits, tuple):
            logits = logits[0]
        labels = batch["labels"]
        if logits.shape != labels.shape:
            raise ValueError(f"the network gives {list(logits.shape)}, labels are {list(labels.shape)}")
        weight = self.pos_weight
        if weight is not None and len(weight) not in (1, labels.shape[1]):
            raise ConfigError(
                f"objective.pos_weight has {len(weight)} values for {labels.shape[1]} labels: give one, or one a label."
            )
        wide = logits if logits.dtype == torch.float64 else logits.float()  # losses are float32 on purpose
        known = labels >= 0
        answers = torch.where(known, labels.to(wide.dtype), 0.0)
        losses = F.binary_cross_entropy_with_logits(
            wide, answers, reduction="none", pos_weight=None if weight is None else weight.to(wide.dtype)
        )
        total = torch.where(known, losses, 0.0).sum()
        return {"binary_cross_entropy": Term(total, float(known.sum()))}


OBJECTIVES = {"binary_cross_entropy": BinaryCrossEntropyConfig()}
