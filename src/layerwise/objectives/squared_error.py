"""Supervised regression by squared error (maximum likelihood under Gaussian noise)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from layerwise.core.config import PositiveFloat
from layerwise.objectives.base import Batch, Context, Objective, Term

NOT_INPUTS = ("labels", "sample_ids")


@dataclass(frozen=True, kw_only=True)
class SquaredErrorConfig:
    """Options of squared error.

    Args:
        huber: errors beyond this count linearly: `d (|e| - d / 2)` doubled, as the square would at d (Huber 1964); None
            squares all.
    """

    huber: PositiveFloat | None = None


class SquaredError(Objective):
    """Mean over values of `(f(x) - y)^2`.

    Shape:
        labels: float [B, ...]; the network's output has the same shape (a named tuple's first field also will do).
    """

    def __init__(self, config: SquaredErrorConfig) -> None:
        super().__init__()
        self.config = config

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"squared_error": float(batch["labels"].numel())}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        output = network(**{name: value for name, value in batch.items() if name not in NOT_INPUTS})
        if isinstance(output, tuple):
            output = output[0]
        labels = batch["labels"]
        if output.shape != labels.shape:
            raise ValueError(f"the network gives {list(output.shape)}, labels are {list(labels.shape)}")
        wide = output if output.dtype == torch.float64 else output.float()  # losses are float32 on purpose
        if self.config.huber is None:
            total = F.mse_loss(wide, labels.to(wide.dtype), reduction="sum")
        else:
            total = 2 * F.huber_loss(wide, labels.to(wide.dtype), reduction="sum", delta=self.config.huber)
        return {"squared_error": Term(total, float(labels.numel()))}


OBJECTIVES = {"squared_error": SquaredErrorConfig()}
