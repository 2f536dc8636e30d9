"""Binary cross-entropy against a float64 loop, with unknown answers and weights."""

import math

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.objectives.base import Context
from layerwise.objectives.binary_cross_entropy import BinaryCrossEntropy, BinaryCrossEntropyConfig
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


class Identity(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


def batch(generator: torch.Generator, count: int = 7) -> dict[str, Tensor]:
    labels = torch.randint(-1, 2, (count, 3), generator=generator).to(torch.int8)
    logits = 4 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return {"images": logits, "labels": labels, "sample_ids": torch.arange(count)}


@pytest.mark.parametrize("pos_weight", [(), (2.5,), (0.5, 1.0, 3.0)])
def test_value_is_the_definition_over_known_answers(pos_weight: tuple[float, ...]) -> None:
    made = batch(torch.Generator().manual_seed(0))
    weights = pos_weight * 3 if len(pos_weight) == 1 else pos_weight or (1.0, 1.0, 1.0)
    total = count = 0.0
    for row, answers in zip(made["images"].tolist(), made["labels"].tolist(), strict=True):
        for f, y, w in zip(row, answers, weights, strict=True):
            if y < 0:
                continue
            p = 1 / (1 + math.exp(-f))
            total += -w * y * math.log(p) - (1 - y) * math.log(1 - p)
            count += 1
    objective = BinaryCrossEntropy(BinaryCrossEntropyConfig(pos_weight=pos_weight))
    term = objective(Identity(), made, CONTEXT)["binary_cross_entropy"]
    assert term.count == count == objective.counts(made, "main")["binary_cross_entropy"]
    assert float(term.sum) == pytest.approx(total, rel=1e-7 if pos_weight else 1e-12)


def test_unknown_answers_have_no_gradient() -> None:
    made = batch(torch.Generator().manual_seed(1))
    logits = made["images"].requires_grad_()
    objective = BinaryCrossEntropy(BinaryCrossEntropyConfig())
    objective(Identity(), made, CONTEXT)["binary_cross_entropy"].sum.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, made["labels"] < 0)


def test_probabilities_serve_as_answers_and_nan_as_unknown() -> None:
    made = {"images": torch.tensor([[0.3, -1.0]]), "labels": torch.tensor([[0.25, math.nan]])}
    term = BinaryCrossEntropy(BinaryCrossEntropyConfig())(Identity(), made, CONTEXT)["binary_cross_entropy"]
    p = 1 / (1 + math.exp(-0.3))
    assert float(term.sum) == pytest.approx(-0.25 * math.log(p) - 0.75 * math.log(1 - p), rel=1e-6)
    assert term.count == 1


def test_sum_over_parts_of_a_batch_is_that_of_the_whole() -> None:
    made = batch(torch.Generator().manual_seed(2), 9)
    objective = BinaryCrossEntropy(BinaryCrossEntropyConfig(pos_weight=(2.0,)))
    parts = [{key: value[a:b] for key, value in made.items()} for a, b in ((0, 2), (2, 9))]
    terms = [objective(Identity(), part, CONTEXT)["binary_cross_entropy"] for part in parts]
    together = objective(Identity(), made, CONTEXT)["binary_cross_entropy"]
    assert float(sum(term.sum for term in terms)) == pytest.approx(float(together.sum), rel=1e-12)
    assert sum(term.count for term in terms) == together.count


def test_other_shapes_and_numbers_of_weights_are_refused() -> None:
    made = batch(torch.Generator().manual_seed(3))
    with pytest.raises(ConfigError, match=r"pos_weight has 2 values for 3 labels"):
        BinaryCrossEntropy(BinaryCrossEntropyConfig(pos_weight=(1.0, 2.0)))(Identity(), made, CONTEXT)
    with pytest.raises(ValueError, match=r"the network gives \[7, 3\], labels are \[7, 2\]"):
        BinaryCrossEntropy(BinaryCrossEntropyConfig())(Identity(), {**made, "labels": made["labels"][:, :2]}, CONTEXT)
