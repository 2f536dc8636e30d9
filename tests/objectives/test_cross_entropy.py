"""Cross-entropy against naive loops; auxiliary heads."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.objectives.base import Context, Term
from layerwise.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


class ThreeLogits(NamedTuple):
    logits: Tensor
    aux1: Tensor
    aux2: Tensor


class Heads(nn.Module):
    """Gives the pictures' slices as logits: three of them while training."""

    def __init__(self, num_auxiliary: int = 2) -> None:
        super().__init__()
        self.num_auxiliary = num_auxiliary

    def forward(self, images: Tensor) -> Tensor | ThreeLogits:
        if self.training and self.num_auxiliary:
            return ThreeLogits(images[:, 0], images[:, 1], images[:, 2])
        return images[:, 0]


def naive(logits: Tensor, labels: Tensor, smoothing: float, weights: list[float]) -> float:
    """Sum over samples of -sum_k q_k w_k log p_k, q = (1 - s) one-hot + s / K."""
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        norm = math.log(sum(math.exp(value) for value in row))
        for k, value in enumerate(row):
            share = smoothing / len(row) + (1 - smoothing) * (k == label)
            total -= share * weights[k] * (value - norm)
    return total


def made() -> tuple[dict[str, Tensor], list[Tensor]]:
    images = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = {"images": images, "labels": torch.tensor([0, 4, 2, 2]), "sample_ids": torch.arange(4)}
    return batch, list(images.unbind(1))


def built(config: CrossEntropyConfig, network: nn.Module) -> CrossEntropy:
    objective = CrossEntropy(config)
    objective.setup(network)
    return objective


def loss(terms: dict[str, Term], counts: dict[str, float]) -> float:
    """What the loop minimises."""
    return sum(term.weight * float(term.sum) / counts[name] for name, term in terms.items())


@pytest.mark.parametrize("weights", [(), (1.0, 2.0, 0.5, 1.0, 3.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_naive_sum(smoothing: float, weights: tuple[float, ...]) -> None:
    network = Heads().eval()
    objective = built(CrossEntropyConfig(label_smoothing=smoothing, class_weights=weights), network)
    batch, (logits, _, _) = made()
    terms, counts = objective(network, batch, CONTEXT), objective.counts(batch, "main")
    wanted = naive(logits, batch["labels"], smoothing, list(weights) or [1.0] * 5)
    assert set(terms) == {"cross_entropy"}
    assert float(terms["cross_entropy"].sum) == pytest.approx(wanted, rel=1e-6)  # weights are float32
    assert counts["cross_entropy"] == (sum(weights[k] for k in (0, 4, 2, 2)) if weights else 4)


@pytest.mark.parametrize(("given", "weight"), [(None, 0.3), (0.5, 0.5), (0.0, 0.0)])
def test_auxiliary_heads_are_added_with_their_weight(given: float | None, weight: float) -> None:
    """Szegedy et al. 2015, section 5: the losses of the auxiliary classifiers were weighted by 0.3."""
    network = Heads().train()
    objective = built(CrossEntropyConfig(auxiliary_weight=given), network)
    batch, heads = made()
    main, *others = (naive(logits, batch["labels"], 0.0, [1.0] * 5) / 4 for logits in heads)
    terms, counts = objective(network, batch, CONTEXT), objective.counts(batch, "main")
    assert loss(terms, counts) == pytest.approx(main + weight * sum(others), rel=1e-12)


def test_other_tuples_give_their_first_field_alone() -> None:
    network = Heads().train()
    objective = built(CrossEntropyConfig(), nn.Identity())
    batch, (logits, _, _) = made()
    terms = objective(network, batch, CONTEXT)
    assert set(terms) == {"cross_entropy"}
    assert float(terms["cross_entropy"].sum) == pytest.approx(naive(logits, batch["labels"], 0.0, [1.0] * 5))


def test_a_weight_for_heads_that_are_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="Heads has no auxiliary heads"):
        built(CrossEntropyConfig(auxiliary_weight=0.3), Heads(num_auxiliary=0))


def test_accuracy_is_shown_and_changes_no_loss() -> None:
    network = Heads().eval()
    batch, (logits, _, _) = made()
    plain = built(CrossEntropyConfig(), network)(network, batch, CONTEXT)
    objective = built(CrossEntropyConfig(show_accuracy=True), network)
    terms, counts = objective(network, batch, CONTEXT), objective.counts(batch, "main")
    right = sum(row.index(max(row)) == label for row, label in zip(logits.tolist(), [0, 4, 2, 2], strict=True))
    assert float(terms["accuracy"].sum) == right
    assert (terms["accuracy"].count, counts["accuracy"], terms["accuracy"].minimised) == (4, 4, False)
    assert float(terms["cross_entropy"].sum) == float(plain["cross_entropy"].sum)


def test_a_mixed_sample_is_right_by_the_share_of_the_class_named() -> None:
    network = Heads().eval()
    logits = torch.eye(5, dtype=torch.float64)[[1, 2, 3]]  # named: 1, 2, 3
    batch = {
        "images": logits[:, None].repeat(1, 3, 1), "labels": torch.tensor([1, 0, 3]), "sample_ids": torch.arange(3),
        "mate_labels": torch.tensor([0, 2, 3]), "own_share": torch.tensor([0.75, 0.75, 0.75]),
    }  # fmt: skip
    terms = built(CrossEntropyConfig(show_accuracy=True), network)(network, batch, CONTEXT)
    assert float(terms["accuracy"].sum) == pytest.approx(0.75 + 0.25 + 1.0)
