"""Cross-entropy on nodes of a graph with an L2 penalty on chosen parameters (Kipf and Welling 2017, section 5.2)."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from layerwise.core.config import Fraction, NonNegativeFloat
from layerwise.core.errors import ConfigError
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig


@dataclass(frozen=True, kw_only=True)
class NodeCrossEntropyConfig:
    """Options of node classification.

    Args:
        label_smoothing: share of the probability spread evenly over all classes.
        l2: factor of half the squared norm of the penalised parameters; the gradient is `l2 * w`, and an adaptive
            optimiser scales it too.
        penalised: patterns of names of parameters that the penalty is on, shell style.
    """

    label_smoothing: Fraction = 0.0
    l2: NonNegativeFloat = 0.0
    penalised: tuple[str, ...] = ("*",)


class NodeCrossEntropy(Objective):
    """`mean_i -log softmax(f(X, A))_{i, y_i} + l2 / 2 * sum_w |w|^2` over labelled nodes i and penalised parameters w.

    The penalty is a term of the loss: its sum and count grow by one penalty and one a micro-batch, so every split gives
    the same gradient.
    """

    def __init__(self, config: NodeCrossEntropyConfig) -> None:
        super().__init__()
        self.config = config
        self.cross_entropy = CrossEntropy(CrossEntropyConfig(label_smoothing=config.label_smoothing))

    def setup(self, network: nn.Module) -> None:
        """Check that every pattern names a parameter.

        Raises:
            ConfigError: a pattern matches nothing.
        """
        names = [name for name, _ in network.named_parameters()]
        for pattern in self.config.penalised if self.config.l2 else ():
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f"objective.penalised={pattern}: no parameter has such a name. Names: {', '.join(names[:8])}."
                )

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        penalty = {"l2": 1.0} if self.config.l2 else {}
        return {**self.cross_entropy.counts(batch, phase), **penalty}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        terms: dict[str, Term] = self.cross_entropy(network, batch, context)
        if self.config.l2:
            chosen = [
                p
                for name, p in network.named_parameters()
                if any(fnmatchcase(name, pattern) for pattern in self.config.penalised)
            ]
            terms["l2"] = Term(0.5 * torch.stack([p.square().sum() for p in chosen]).sum(), 1.0, self.config.l2)
        return terms


OBJECTIVES = {"node_cross_entropy": NodeCrossEntropyConfig()}
