"""Masked language modelling: the loss and its gradient are those of a plain loop over hidden words."""

import math

import pytest
import torch
from torch import Tensor

import layerwise as lw
from layerwise.core.errors import UnsupportedError
from layerwise.models.language.bert import Bert
from layerwise.objectives import masked_language
from layerwise.objectives.base import Context
from layerwise.objectives.masked_language import MaskedLanguage, MaskedLanguageConfig
from layerwise.ops.linear_cross_entropy import IGNORED
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


def made(head: str) -> Bert:
    torch.manual_seed(0)
    network = lw.create_model("bert-tiny", head=head).double().eval()
    assert isinstance(network, Bert)
    return network


def batch(pairs: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(9) < torch.tensor([[9], [5], [7]])
    labels = torch.randint(60, (3, 9), generator=generator)
    labels[torch.rand(3, 9, generator=generator) < 0.6] = IGNORED
    labels[~mask] = IGNORED
    found = {
        "tokens": torch.randint(60, (3, 9), generator=generator),
        "mask": mask,
        "labels": labels,
        "sample_ids": torch.arange(3),
    }
    if pairs:
        found |= {"segments": (torch.arange(9) > 2).long().expand(3, 9), "next_sentence": torch.tensor([0, 1, 1])}
    return found


def plain(network: Bert, given: dict[str, Tensor]) -> Tensor:
    """From all logits, word by word."""
    out = network(given["tokens"], given["mask"], given.get("segments"))
    logits, said = out if isinstance(out, tuple) else (out, None)
    losses: list[Tensor] = []
    for b in range(3):
        for t in range(9):
            if (label := int(given["labels"][b, t])) != IGNORED:
                row = logits[b, t]
                losses.append(row.exp().sum().log() - row[label])
    total = sum(losses, torch.zeros((), dtype=torch.float64)) / len(losses)
    if said is not None:
        for b in range(3):
            total = total + (said[b].exp().sum().log() - said[b, int(given["next_sentence"][b])]) / 3
    return total


@pytest.mark.parametrize("head", ["masked_lm", "pretraining"])
@pytest.mark.parametrize("by_parts", [False, True])
def test_loss_and_gradient_are_those_of_a_plain_loop(
    head: str, by_parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float64, 1e-12; also where the vocabulary is multiplied a part at a time."""
    if by_parts:
        monkeypatch.setattr(masked_language, "chunk_size", lambda weight: 1)
    network, given = made(head), batch(head == "pretraining")
    objective = MaskedLanguage(MaskedLanguageConfig())
    objective.setup(network)
    terms = objective(network, given, CONTEXT)
    assert {name: term.count for name, term in terms.items()} == objective.counts(given, "main")
    loss = sum((term.weight * term.sum / term.count for term in terms.values()), torch.zeros((), dtype=torch.float64))
    wanted = plain(network, given)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-12)
    parameters = list(network.parameters())
    for got, value in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), strict=True):
        torch.testing.assert_close(got, value, rtol=1e-10, atol=1e-12)


def test_the_next_sentence_has_a_weight_of_its_own() -> None:
    network, given = made("pretraining"), batch(pairs=True)
    terms = MaskedLanguage(MaskedLanguageConfig(next_sentence_weight=0.25))(network, given, CONTEXT)
    assert (terms["masked"].weight, terms["next_sentence"].weight) == (1.0, 0.25)


def test_a_network_that_knows_nothing_guesses_evenly() -> None:
    network, given = made("masked_lm"), batch(pairs=False)
    for parameter in network.parameters():
        parameter.data.zero_()
    (term,) = MaskedLanguage(MaskedLanguageConfig())(network, given, CONTEXT).values()
    assert float(term.sum.detach()) / term.count == pytest.approx(math.log(60), abs=1e-12)


def test_a_network_that_guesses_no_words_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="hidden_words"):
        MaskedLanguage(MaskedLanguageConfig()).setup(lw.create_model("gpt2-tiny"))
    with pytest.raises(UnsupportedError, match="head=tagger guesses no words"):
        MaskedLanguage(MaskedLanguageConfig())(made("tagger"), batch(pairs=False), CONTEXT)
