"""Cross-entropies of tokens and spans, and contrast in a batch, against loops in float64."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.nn.encoder_block import SpanLogits
from layerwise.objectives.base import Context
from layerwise.objectives.in_batch_contrastive import InBatchContrastive, InBatchContrastiveConfig
from layerwise.objectives.token_cross_entropy import (
    SpanCrossEntropy,
    SpanCrossEntropyConfig,
    TokenCrossEntropy,
    TokenCrossEntropyConfig,
)
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


class Fixed(nn.Module):
    """Gives what it is told."""

    def __init__(self, *outputs: Any) -> None:
        super().__init__()
        self.outputs = list(outputs)

    def forward(self, **inputs: Tensor) -> Any:
        return self.outputs.pop(0)


def test_tokens_without_a_label_do_not_count() -> None:
    logits = torch.randn(2, 3, 4, dtype=torch.float64)
    labels = torch.tensor([[1, -100, 3], [-100, 0, -100]])
    batch = {"tokens": labels, "labels": labels, "tags": labels}
    for weights in ((), (1.0, 2.0, 1.0, 0.5)):
        objective = TokenCrossEntropy(TokenCrossEntropyConfig(class_weights=weights))
        term = objective(Fixed(logits), batch, CONTEXT)["cross_entropy"]
        wanted, count = 0.0, 0.0
        for row, t in ((0, 0), (0, 2), (1, 1)):
            label = int(labels[row, t])
            weight = weights[label] if weights else 1.0
            scores = logits[row, t].tolist()
            wanted += weight * (math.log(sum(map(math.exp, scores))) - scores[label])
            count += weight
        assert float(term.sum) == pytest.approx(wanted, rel=1e-12)
        assert term.count == objective.counts(batch, "main")["cross_entropy"] == count
    with pytest.raises(ConfigError, match="class_weights has 2"):
        TokenCrossEntropy(TokenCrossEntropyConfig(class_weights=(1.0, 1.0))).counts(batch, "main")


def test_spans_are_chosen_among_tokens() -> None:
    start, end = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    labels = torch.tensor([[0, 2], [3, 3]])
    batch = {"tokens": labels, "mask": mask, "labels": labels}
    term = SpanCrossEntropy(SpanCrossEntropyConfig())(Fixed(SpanLogits(start, end)), batch, CONTEXT)["span"]
    wanted = 0.0
    for row, length in ((0, 3), (1, 4)):
        for logits, label in ((start, labels[row, 0]), (end, labels[row, 1])):
            scores = logits[row, :length].tolist()
            wanted += (math.log(sum(map(math.exp, scores))) - scores[int(label)]) / 2
    assert (float(term.sum), term.count) == (pytest.approx(wanted, rel=1e-12), 2.0)


@pytest.mark.parametrize("symmetric", [False, True])
def test_partners_of_other_pairs_are_negatives(symmetric: bool) -> None:
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    batch = dict.fromkeys(("tokens", "mask", "pair_tokens", "pair_mask"), torch.zeros(3, 2))
    objective = InBatchContrastive(InBatchContrastiveConfig(temperature=0.5, symmetric=symmetric))
    term = objective(Fixed(a, b), batch, CONTEXT)["contrastive"]
    cosines = [[float(F.cosine_similarity(x, y, dim=0)) / 0.5 for y in b] for x in a]
    ahead = sum(math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(cosines))
    columns = list(zip(*cosines, strict=True))
    back = sum(math.log(sum(map(math.exp, column))) - column[i] for i, column in enumerate(columns))
    assert float(term.sum) == pytest.approx((ahead + back) / 2 if symmetric else ahead, rel=1e-5)
    assert objective.per_batch == ("contrastive",)
