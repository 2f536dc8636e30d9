"""Texts packed into rows give what they give alone: outputs, loss, gradients, of every model and head."""

from typing import Any

import pytest
import torch
from torch import Tensor

import layerwise as lw
from layerwise.core.errors import ConfigError
from layerwise.ops.packed_attention import FILLING

MODELS = ["bert-tiny", "roberta-tiny", "distilbert-tiny"]
LENGTHS = [3, 7, 1, 5, 9]
OF_TEXTS = ("embedding", "classifier")
HEADS = ["encoder", *OF_TEXTS, "tagger", "span", "masked_lm"]
CASES = [(model, head) for model in MODELS for head in HEADS] + [("bert-tiny", "pretraining")]


def texts() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "tokens": torch.randint(60, (1, length), generator=generator),
            "segments": torch.randint(2, (1, length), generator=generator),
        }
        for length in LENGTHS
    ]


def rows() -> dict[str, Tensor]:
    """The same in two rows of 14, filled up."""
    given, made = texts(), {name: torch.zeros(2, 14, dtype=torch.int64) for name in ("tokens", "segments")}
    made["documents"] = torch.full((2, 14), FILLING)
    at = 0
    for number, text in enumerate(given):
        row, length = (0, LENGTHS[number]) if number < 3 else (1, LENGTHS[number])
        at = 0 if number == 3 else at
        for name in ("tokens", "segments"):
            made[name][row, at : at + length] = text[name][0]
        made["documents"][row, at : at + length] = number
        at += length
    return made


def of_tokens(head: str, outputs: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of every token, and of every text."""
    parts = list(outputs) if isinstance(outputs, tuple) else [outputs]
    if head in OF_TEXTS:
        return [], parts
    return ([parts[0]], parts[1:]) if head in ("encoder", "pretraining") else (parts, [])


@pytest.mark.parametrize(("model", "head"), CASES)
def test_packed_texts_give_what_they_give_alone(model: str, head: str) -> None:
    """Float64, 1e-9: outputs, and the gradients of a loss that weighs all of them differently."""
    torch.manual_seed(0)
    network = lw.create_model(model, head=head).double().eval()
    packed = rows()
    inside = packed["documents"] != FILLING
    tokens, whole = of_tokens(head, network(**packed))
    alone = [of_tokens(head, network(**text)) for text in texts()]
    pairs = [(got[inside], torch.cat([one[0][k][0] for one in alone])) for k, got in enumerate(tokens)]
    pairs += [(got, torch.cat([one[1][k] for one in alone])) for k, got in enumerate(whole)]
    assert pairs
    parameters = [p for p in network.parameters() if p.requires_grad]
    grads: list[tuple[Tensor | None, ...]] = []
    for side in (0, 1):
        loss = torch.stack(
            [(pair[side] * torch.arange(pair[0].numel()).view_as(pair[0]).cos()).sum() for pair in pairs]
        )
        grads.append(torch.autograd.grad(loss.sum(), parameters, allow_unused=True))
    for got, wanted in pairs:
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    assert any(grad is not None and bool(grad.any()) for grad in grads[0])
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_positions_are_counted_in_every_text() -> None:
    """A row may be longer than the longest text that the network takes."""
    network = lw.create_model("bert-tiny", head="classifier").eval()
    tokens, documents = torch.ones(1, 64, dtype=torch.int64), torch.arange(2).repeat_interleave(32)[None]
    assert network(tokens, documents=documents).shape == (2, 3)
    with pytest.raises(ConfigError, match="33 tokens are more than max_seq_len=32"):
        network(tokens, documents=(torch.arange(64) >= 33).long()[None])
    with pytest.raises(ConfigError, match="mask and documents"):
        network(tokens, mask=torch.ones(1, 64, dtype=torch.bool), documents=documents)


def test_hidden_words_of_packed_texts_are_those_of_the_texts() -> None:
    """Float64, 1e-9."""
    network: Any = lw.create_model("bert-tiny", head="pretraining").double().eval()
    packed, hidden = rows(), torch.rand(2, 14, generator=torch.Generator().manual_seed(3)) < 0.4
    hidden &= packed["documents"] != FILLING
    found = network.hidden_words(hidden, **packed)
    logits, said = network(**packed)
    weight, bias = network.word_weights()
    torch.testing.assert_close(found.features @ weight.T + bias, logits[hidden], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.next_sentence, said, rtol=1e-9, atol=1e-9)
