"""Learning sentence embeddings from pairs: each text's partner against all other partners of its batch.

Henderson et al. 2017, arXiv:1705.00652, section 4.4 (multiple negatives ranking); with a temperature as in Radford et
al. 2021 (CLIP).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from layerwise.core.config import PositiveFloat
from layerwise.objectives.base import Batch, Context, Objective, Term


@dataclass(frozen=True, kw_only=True)
class InBatchContrastiveConfig:
    """Options of learning from pairs in a batch.

    Args:
        temperature: cosines are divided by it.
        symmetric: partners are also asked for their texts, and the two losses averaged.
    """

    temperature: PositiveFloat = 0.05
    symmetric: bool = True


class InBatchContrastive(Objective):
    """-log softmax_j(cos(a_i, b_j) / temperature)_i, mean over the pairs of a micro-batch, of all processes.

    Partners of other pairs are the negatives: the value depends on batch mates.

    Shape:
        tokens, mask [B, T]; pair_tokens, pair_mask [B, S]; the network gives embeddings [B, D].
    """

    per_batch = ("contrastive",)

    def __init__(self, config: InBatchContrastiveConfig) -> None:
        super().__init__()
        self.config = config

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        first = network(tokens=batch["tokens"], mask=batch["mask"])
        second = network(tokens=batch["pair_tokens"], mask=batch["pair_mask"])
        first, second = (context.gather(F.normalize(x.float(), dim=1)) for x in (first, second))
        scores = first @ second.T / self.config.temperature
        own = torch.arange(len(scores), device=scores.device)
        loss = F.cross_entropy(scores, own, reduction="sum")
        if self.config.symmetric:
            loss = (loss + F.cross_entropy(scores.T, own, reduction="sum")) / 2
        return {"contrastive": Term(loss, float(len(scores)))}


OBJECTIVES = {"in_batch_contrastive": InBatchContrastiveConfig()}
