"""Autoregressive language modelling: the next token by maximum likelihood.

Bengio, Ducharme, Vincent, Jauvin 2003, "A neural probabilistic language model" (JMLR 3), equation 3.2 without its
penalty.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Probability
from layerwise.nn.protocols import VocabularyHead, vocabulary_weights
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.ops.linear_cross_entropy import IGNORED, chunk_size, linear_cross_entropy

NO_INPUTS = ("labels", "sample_ids", "text", "target")  # of a batch, what the network does not take


@dataclass(frozen=True, kw_only=True)
class AutoregressiveConfig:
    """Options of next-token prediction.

    Args:
        label_smoothing: share of the probability spread evenly over the vocabulary (Szegedy et al. 2016).
    """

    label_smoothing: Probability = 0.0


class Autoregressive(Objective):
    """Mean over targets of -log p(x_{t+1} | x_1 .. x_t), in nats a token.

    Of a network that ends in a product with a large vocabulary (`VocabularyHead`) never all logits are held at once.

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
        inputs = {name: value for name, value in batch.items() if name not in NO_INPUTS}
        total = token_loss_sum(network, inputs, batch["labels"], self.config.label_smoothing)
        return {"nll": Term(total, self.counts(batch, context.phase)["nll"])}


def token_loss_sum(network: nn.Module, inputs: dict[str, Any], labels: Tensor, label_smoothing: float) -> Tensor:
    """Sum over targets of the cross-entropy of a network's logits [B, T, V], float32 at least on purpose.

    More than `chunk_size` logits of a `VocabularyHead` are taken a part at a time; which way is decided by sizes alone.
    """
    weights = vocabulary_weights(network)
    if weights is not None and labels.numel() * len(weights[0]) > chunk_size(weights[0]):
        assert isinstance(network, VocabularyHead)
        features = network.forward_features(**inputs).flatten(0, -2)
        weight, bias = weights
        return linear_cross_entropy(features, weight, labels.flatten(), bias, label_smoothing=label_smoothing)
    logits = network(**inputs)
    logits: Tensor = logits[0] if isinstance(logits, tuple) else logits
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(
        wide.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
    )


OBJECTIVES = {"autoregressive": AutoregressiveConfig()}
