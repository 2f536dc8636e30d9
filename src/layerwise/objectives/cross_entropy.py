"""Supervised classification by cross-entropy (maximum likelihood of the labels)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Fraction, NonNegativeFloat
from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import AuxiliaryHeads
from layerwise.objectives.base import Batch, Context, Objective, Term

NOT_INPUTS = ("labels", "sample_ids", "mate_labels", "own_share")
_AUXILIARY_WEIGHT = 0.3  # Szegedy et al. 2015, section 5


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig:
    """Options of cross-entropy.

    Args:
        label_smoothing: share of the probability spread evenly over all classes (Szegedy et al. 2016).
        class_weights: factor of each class's loss, in order of label; empty weighs all alike.
        auxiliary_weight: factor of the same loss of each auxiliary head, for networks that have such; None takes 0.3.
        show_accuracy: also log the share of training samples that were classified right when they were learned from,
            as `train/accuracy`. It sees them augmented, with dropout, and before the step.
    """

    label_smoothing: Fraction = 0.0
    class_weights: tuple[NonNegativeFloat, ...] = ()
    auxiliary_weight: NonNegativeFloat | None = None
    show_accuracy: bool = False


class CrossEntropy(Objective):
    """Mean over samples of `-w_y log softmax(f(x))_y`; with weights the mean is over the summed weights.

    Of a mixed sample (mixup, CutMix) it is the mean of two losses: `own_share` of its own label's, the rest of
    `mate_labels`'.

    The term "auxiliary" is the same, summed over the auxiliary heads of a network (`AuxiliaryHeads`). The term
    "accuracy", which is shown and not minimised, counts samples classified right; a mixed one is right by the share of
    the class named.

    Shape:
        labels: int64 [B]; the network's output: logits [B, classes] (a named tuple's first field also will do).
    """

    mixes = True
    weights: Tensor | None

    def __init__(self, config: CrossEntropyConfig) -> None:
        super().__init__()
        self.config, self.num_auxiliary = config, 0
        weights = torch.tensor(config.class_weights, dtype=torch.float32) if config.class_weights else None
        self.register_buffer("weights", weights, persistent=False)

    def setup(self, network: nn.Module) -> None:
        self.num_auxiliary = network.num_auxiliary if isinstance(network, AuxiliaryHeads) else 0
        if self.config.auxiliary_weight is not None and not self.num_auxiliary:
            raise ConfigError(
                f"objective.auxiliary_weight={self.config.auxiliary_weight:g}: {type(network).__name__} has no "
                "auxiliary heads. Leave it out."
            )

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        count = float(batch["labels"].shape[0])
        if self.weights is not None:
            count = sum(float((self.weights[labels].double() * share).sum()) for labels, share in _targets(batch))
        found = {"cross_entropy": count}
        if self.num_auxiliary:
            found["auxiliary"] = count
        if self.config.show_accuracy:
            found["accuracy"] = float(batch["labels"].shape[0])
        return found

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        logits = network(**{name: value for name, value in batch.items() if name not in NOT_INPUTS})
        logits, *others = logits if isinstance(logits, tuple) else (logits,)
        counts = self.counts(batch, context.phase)
        count = counts["cross_entropy"]
        terms = {"cross_entropy": Term(self._sum(logits, batch), count)}
        if self.num_auxiliary and others:  # in evaluation mode there are none
            weight = self.config.auxiliary_weight
            total = torch.stack([self._sum(each, batch) for each in others]).sum()
            terms["auxiliary"] = Term(total, count, weight=_AUXILIARY_WEIGHT if weight is None else weight)
        if self.config.show_accuracy:
            named = logits.detach().argmax(1)
            right = torch.stack([((named == labels) * share).sum() for labels, share in _targets(batch)]).sum()
            terms["accuracy"] = Term(right, counts["accuracy"], minimised=False)
        return terms

    def _sum(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum over samples of the weighted losses."""
        wide = logits if logits.dtype == torch.float64 else logits.float()  # losses are float32 on purpose
        weight = None if self.weights is None else self.weights.to(wide.dtype)
        smoothing = self.config.label_smoothing
        if "mate_labels" not in batch:
            return F.cross_entropy(wide, batch["labels"], weight, reduction="sum", label_smoothing=smoothing)
        losses = [
            share.to(wide.dtype) * F.cross_entropy(wide, labels, weight, reduction="none", label_smoothing=smoothing)
            for labels, share in _targets(batch)
        ]
        return torch.stack(losses).sum()


def _targets(batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """(labels [B], their shares [B]): one pair, or two for mixed samples."""
    if "mate_labels" not in batch:
        return [(batch["labels"], torch.ones_like(batch["labels"], dtype=torch.float64))]
    own = batch["own_share"]
    return [(batch["labels"], own), (batch["mate_labels"], 1 - own)]


OBJECTIVES = {"cross_entropy": CrossEntropyConfig()}
