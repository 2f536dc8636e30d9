"""RoBERTa: sizes as published, positions behind an offset, heads."""

import pytest
import torch

import layerwise as lw
from layerwise.core.errors import ConfigError
from layerwise.models.language.roberta import RobertaConfig, example_batch


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("roberta-base", 124_645_632), ("roberta-large", 355_359_744), ("distilroberta-base", 82_118_400)],
)
def test_sizes_are_the_published_ones(name: str, parameters: int) -> None:
    """Those of transformers' RobertaModel with the published configuration."""
    with torch.device("meta"):
        network = lw.create_model(name)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("head", ["encoder", "embedding", "classifier", "tagger", "span", "masked_lm"])
def test_each_head_gives_every_parameter_a_gradient(head: str) -> None:
    network = lw.create_model("roberta-tiny", head=head).eval()
    found = network(**example_batch(network.config, 2, torch.Generator().manual_seed(0)))
    parts = list(found) if isinstance(found, tuple) else [found]
    torch.stack([(part * torch.randn_like(part)).sum() for part in parts]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_the_first_token_has_the_third_position_wherever_it_stands() -> None:
    """Float32, 1e-6: the same text filled up on the right, on the left, and not at all."""
    network = lw.create_model("roberta-tiny").eval()
    text = torch.tensor([[5, 6, 7]])
    alone = network(text).last_hidden_state
    right = network(torch.tensor([[5, 6, 7, 1]]), torch.tensor([[True, True, True, False]])).last_hidden_state[:, :3]
    left = network(torch.tensor([[1, 5, 6, 7]]), torch.tensor([[False, True, True, True]])).last_hidden_state[:, 1:]
    torch.testing.assert_close(right, alone, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(left, alone, rtol=1e-6, atol=1e-6)
    grad = torch.autograd.grad(alone.square().sum(), network.embeddings.position_embeddings.weight)[0]
    assert torch.nonzero(grad.abs().sum(1)).flatten().tolist() == [2, 3, 4]


def test_there_is_no_next_sentence() -> None:
    with pytest.raises(ConfigError, match="head=pretraining"):
        RobertaConfig(head="pretraining")
