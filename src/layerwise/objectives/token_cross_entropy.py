"""Supervised classification of tokens, and of places among tokens, by cross-entropy."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Fraction, NonNegativeFloat
from layerwise.core.errors import ConfigError
from layerwise.objectives.base import Batch, Context, Objective, Term

IGNORED = -100
INPUTS = ("tokens", "mask", "segments", "documents")  # of a text encoder


@dataclass(frozen=True, kw_only=True)
class TokenCrossEntropyConfig:
    """Options of the cross-entropy of tokens.

    Args:
        label_smoothing: share of the probability spread evenly over all classes.
        class_weights: factor of each class's loss, in order of label; empty weighs all alike.
    """

    label_smoothing: Fraction = 0.0
    class_weights: tuple[NonNegativeFloat, ...] = ()


class TokenCrossEntropy(Objective):
    """Mean over labelled tokens of `-w_y log softmax(f(x)_t)_y`; with weights the mean is over the summed weights.

    Shape:
        labels: int64 [B, T], -100 where a token has none; the network gives logits [B, T, classes].
    """

    weights: Tensor | None

    def __init__(self, config: TokenCrossEntropyConfig) -> None:
        super().__init__()
        self.config = config
        weights = torch.tensor(config.class_weights) if config.class_weights else None
        self.register_buffer("weights", weights, persistent=False)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        labels = batch["labels"]
        labelled = labels[labels != IGNORED]
        if self.weights is None:
            return {"cross_entropy": float(len(labelled))}
        if len(labelled) and int(labelled.max()) >= len(self.weights):
            raise ConfigError(
                f"objective.class_weights has {len(self.weights)} numbers and the data class {int(labelled.max())}."
            )
        return {"cross_entropy": float(self.weights[labelled].double().sum())}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        logits = network(**{name: value for name, value in batch.items() if name in INPUTS})
        wide = logits if logits.dtype == torch.float64 else logits.float()  # losses are float32 on purpose
        loss = F.cross_entropy(
            wide.flatten(0, 1),
            batch["labels"].flatten(),
            None if self.weights is None else self.weights.to(wide.dtype),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return {"cross_entropy": Term(loss, self.counts(batch, context.phase)["cross_entropy"])}


@dataclass(frozen=True, kw_only=True)
class SpanCrossEntropyConfig:
    """The cross-entropy of a span has no options."""


class SpanCrossEntropy(Objective):
    """Mean over texts of half the loss of where an answer begins and half of where it ends.

    -1/2 (log softmax(start)_b + log softmax(end)_e) (Devlin et al. 2019, section 4.2).

    Shape:
        labels: int64 [B, 2], the first and the last token of the answer; the network gives logits `start` and `end`
        [B, T]; mask: bool [B, T], tokens that may be chosen.
    """

    def __init__(self, config: SpanCrossEntropyConfig) -> None:
        super().__init__()

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"span": float(len(batch["labels"]))}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        found = network(**{name: value for name, value in batch.items() if name in INPUTS})
        sums: list[Tensor] = []
        for logits, labels in zip(found, batch["labels"].unbind(1), strict=True):
            wide = logits if logits.dtype == torch.float64 else logits.float()
            wide = wide.masked_fill(~batch["mask"], torch.finfo(wide.dtype).min)
            sums.append(F.cross_entropy(wide, labels, reduction="sum"))
        return {"span": Term(torch.stack(sums).sum() / 2, float(len(batch["labels"])))}


OBJECTIVES = {"token_cross_entropy": TokenCrossEntropyConfig(), "span_cross_entropy": SpanCrossEntropyConfig()}
