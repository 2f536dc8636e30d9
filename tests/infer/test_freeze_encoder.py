"""Frozen text encoders: the same outputs, however texts lie, with every head."""

from typing import Any

import pytest
import torch
from torch import nn

import layerwise as lw
from layerwise.core.errors import UnsupportedError
from layerwise.infer.freeze import freeze

MODELS = ["bert-tiny", "roberta-tiny", "distilbert-tiny"]


def network(model: str = "bert-tiny", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    made = lw.create_model(model, **options).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def inputs(kind: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(60, (3, 11), generator=generator)
    if kind == "packed":
        documents = torch.tensor([[0] * 4 + [1] * 7, [0] * 10 + [-1], [5] * 2 + [6] * 9])
        return {"tokens": tokens, "documents": documents}
    if kind == "padded":
        return {"tokens": tokens, "mask": torch.arange(11) < torch.tensor([[11], [3], [7]])}
    return {"tokens": tokens}


def parts(outputs: Any) -> list[torch.Tensor]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


@pytest.mark.parametrize("kind", ["full", "padded", "packed"])
@pytest.mark.parametrize("head", ["encoder", "embedding", "classifier", "tagger", "span", "masked_lm"])
@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_outputs_are_those_of_the_network(model: str, head: str, kind: str) -> None:
    """Float32, Frobenius ratio 1e-5; bfloat16, 3e-2."""
    plain, given = network(model, head=head), inputs(kind)
    wanted = parts(plain(**given))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        found = parts(freeze(plain, dtype)(**given))
        assert len(found) == len(wanted)
        for got, value in zip(found, wanted, strict=True):
            assert got.dtype == torch.float32
            assert float((got - value).norm() / value.norm()) < tolerance


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu"])
@torch.no_grad()
def test_other_activations_and_long_texts(activation: str) -> None:
    """Float32, 1e-5; 600 tokens go through the fused kernel."""
    plain = network(activation=activation, max_seq_len=600, head="encoder")
    tokens = torch.randint(60, (2, 600), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(600) < torch.tensor([[600], [17]])
    wanted, found = plain(tokens, mask), freeze(plain)(tokens, mask)
    for got, value in zip(found, wanted, strict=True):
        assert float((got - value).norm() / value.norm()) < 1e-5


def test_the_network_stays_as_it_is() -> None:
    plain = network()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    freeze(plain, torch.bfloat16)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


def test_what_is_not_frozen_is_named() -> None:
    with pytest.raises(UnsupportedError, match="training mode"):
        freeze(network().train())
    with pytest.raises(UnsupportedError, match="from float32"):
        freeze(network().double())
    changed: Any = network()
    changed.blocks[0].fc1 = nn.Sequential(changed.blocks[0].fc1)
    with pytest.raises(UnsupportedError, match="changed from outside"):
        freeze(changed)
