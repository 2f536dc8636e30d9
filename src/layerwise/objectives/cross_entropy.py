"""Supervised classification by cross-entropy (maximum likelihood of the labels)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Fraction, NonNegativeFloat
from layerwise.objectives.base import Batch, Context, Objective, Term

NOT_INPUTS = ("labels", "sample_ids")


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig:
    """Options of cross-entropy.

    Args:
        label_smoothing: share of the probability spread evenly over all classes (Szegedy et al. 2016).
        class_weights: factor of each class's loss, in order of label; empty weighs all alike.
    """

    label_smoothing: Fraction = 0.0
    class_weights: tuple[NonNegativeFloat, ...] = ()


class CrossEntropy(Objective):
    """Mean over samples of `-w_y log softmax(f(x))_y`; with weights the mean is over the summed weights.

    Shape:
        labels: int64 [B]; the network's output: logits [B, classes] (a named tuple's first field also will do).
    """

    weights: Tensor | None

    def __init__(self, config: CrossEntropyConfig) -> None:
        super().__init__()
        self.config = config
        weights = torch.tensor(config.class_weights, dtype=torch.float32) if config.class_weights else None
        self.register_buffer("weights", weights, persistent=False)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        labels = batch["labels"]
        count = labels.shape[0] if self.weights is None else self.weights[labels].double().sum()
        return {"cross_entropy": float(count)}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        logits = network(**{name: value for name, value in batch.items() if name not in NOT_INPUTS})
        if isinstance(logits, tuple):
            logits = logits[0]
        labels = batch["labels"]
        weight = (
            None
            if self.weights is None
            else self.weights.to(logits.dtype if logits.dtype == torch.float64 else torch.float32)
        )
        wide = logits if logits.dtype == torch.float64 else logits.float()  # losses are float32 on purpose
        total = F.cross_entropy(wide, labels, weight, reduction="sum", label_smoothing=self.config.label_smoothing)
        return {"cross_entropy": Term(total, self.counts(batch, context.phase)["cross_entropy"])}


OBJECTIVES = {"cross_entropy": CrossEntropyConfig()}
