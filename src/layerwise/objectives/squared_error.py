"""Supervised regression by squared error (maximum likelihood under Gaussian noise)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import nn

from layerwise.core.config import PositiveFloat, Range
from layerwise.core.errors import ConfigError
from layerwise.objectives.base import Batch, Context, Objective, Term

NOT_INPUTS = ("labels", "sample_ids")


@dataclass(frozen=True, kw_only=True)
class SquaredErrorConfig:
    """Options of squared error.

    Args:
        huber: errors beyond this count linearly: `d (|e| - d / 2)` doubled, as the square would at d (Huber 1964); None
            squares all.
        output: "linear" compares the network's outputs with the labels as they are, "logistic" takes them through
            `1 / (1 + e^-x)` first: the output units of Rumelhart, Hinton and Williams (1986), and the Brier score of
            probabilities.
        target_margin: labels of 0 and 1 become goals this far inside, since logistic units never reach the ends (1986:
            0.1, for goals of 0.1 and 0.9).
    """

    huber: PositiveFloat | None = None
    output: Literal["linear", "logistic"] = "linear"
    target_margin: Annotated[float, Range(0, 0.5, open_high=True)] = 0.0

    def __post_init__(self) -> None:
        if self.target_margin and self.output != "logistic":
            raise ConfigError(f"target_margin={self.target_margin:g}: only output=logistic has labels of 0 and 1.")


class SquaredError(Objective):
    """Mean over values of `(f(x) - y)^2`, f being the network, or the logistic function of the network.

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
        labels = labels.to(wide.dtype)
        if self.config.output == "logistic":
            wide, labels = wide.sigmoid(), self.config.target_margin + (1 - 2 * self.config.target_margin) * labels
        if self.config.huber is None:
            total = F.mse_loss(wide, labels, reduction="sum")
        else:
            total = 2 * F.huber_loss(wide, labels, reduction="sum", delta=self.config.huber)
        return {"squared_error": Term(total, float(labels.numel()))}


OBJECTIVES = {"squared_error": SquaredErrorConfig()}
