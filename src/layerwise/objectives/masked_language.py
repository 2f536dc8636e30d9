"""Masked language modelling, and whether one text follows another: what BERT and its kin are pre-trained by.

Paper: J. Devlin, M.-W. Chang, K. Lee, K. Toutanova, "BERT: pre-training of deep bidirectional transformers for language
understanding", NAACL 2019. https://arxiv.org/abs/1810.04805 (section 3.1).

Which words are hidden is part of the data (`data/masked_texts.py`), so that losses are counted before any forward pass.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import NonNegativeFloat
from layerwise.nn.protocols import MaskedWordModel, require
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.ops.linear_cross_entropy import IGNORED, chunk_size, linear_cross_entropy

INPUTS = ("tokens", "mask", "segments", "documents")  # of a text encoder


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageConfig:
    """Options of masked language modelling.

    Args:
        next_sentence_weight: factor of the loss of next sentences, where the data has pairs of texts.
    """

    next_sentence_weight: NonNegativeFloat = 1.0


class MaskedLanguage(Objective):
    """Mean over hidden words of -log p(word), plus the mean over pairs of -log p(follows or not).

    The language head and the vocabulary are only multiplied with the hidden words, and many of them a part at a time.

    Shape:
        tokens, mask, segments [B, T]; labels int64 [B, T], the hidden words, -100 elsewhere; next_sentence int64 [B],
        of pairs: 0 where the second text follows the first. The network offers what `MaskedWordModel` names.
    """

    def __init__(self, config: MaskedLanguageConfig) -> None:
        super().__init__()
        self.config = config

    def setup(self, network: nn.Module) -> None:
        require(network, MaskedWordModel, "objective=masked_language")

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        found = {"masked": float((batch["labels"] != IGNORED).sum())}
        if "next_sentence" in batch:
            found["next_sentence"] = float(len(batch["next_sentence"]))
        return found

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        hidden = batch["labels"] != IGNORED
        inputs = {name: value for name, value in batch.items() if name in INPUTS}
        model, counts = cast(MaskedWordModel, network), self.counts(batch, context.phase)
        found = model.hidden_words(hidden, **inputs)
        words = word_loss(found.features, *model.word_weights(), batch["labels"][hidden])
        terms = {"masked": Term(words, counts["masked"])}
        if "next_sentence" in batch:
            if found.next_sentence is None:
                raise TypeError("the data has pairs of texts, and the network says nothing of them")
            wide = found.next_sentence.to(torch.promote_types(found.next_sentence.dtype, torch.float32))
            loss = F.cross_entropy(wide, batch["next_sentence"], reduction="sum")
            terms["next_sentence"] = Term(loss, counts["next_sentence"], weight=self.config.next_sentence_weight)
        return terms


def word_loss(features: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """Sum over words of the cross-entropy of `features weight^T + bias`, float32 at least on purpose; many logits are
    taken a part at a time.

    Args:
        features: [N, D].
        weight, bias: of the words, [V, D] and [V].
        labels: int64 [N].
    """
    if len(labels) * len(weight) > chunk_size(weight):
        return linear_cross_entropy(features, weight, labels, bias)
    logits = F.linear(features, weight, bias)
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels, reduction="sum")


OBJECTIVES = {"masked_language": MaskedLanguageConfig()}
