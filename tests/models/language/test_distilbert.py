"""DistilBERT: size as published, heads."""

import pytest
import torch

import layerwise as lw
from layerwise.core.errors import ConfigError
from layerwise.models.language.distilbert import DistilBertConfig, example_batch


def test_the_size_is_the_published_one() -> None:
    """That of transformers' DistilBertModel with the published configuration."""
    with torch.device("meta"):
        network = lw.create_model("distilbert-base-uncased")
    assert sum(p.numel() for p in network.parameters()) == 66_362_880


@pytest.mark.parametrize("head", ["encoder", "embedding", "classifier", "tagger", "span", "masked_lm"])
def test_each_head_gives_every_parameter_a_gradient(head: str) -> None:
    network = lw.create_model("distilbert-tiny", head=head).eval()
    found = network(**example_batch(network.config, 2, torch.Generator().manual_seed(0)))
    parts = list(found) if isinstance(found, tuple) else [found]
    torch.stack([(part * torch.randn_like(part)).sum() for part in parts]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_segments_are_not_read() -> None:
    network, tokens = lw.create_model("distilbert-tiny").eval(), torch.arange(1, 7)[None]
    found = network(tokens, segments=torch.ones_like(tokens)).last_hidden_state
    assert torch.equal(found, network(tokens).last_hidden_state)


def test_there_is_no_next_sentence() -> None:
    with pytest.raises(ConfigError, match="head=pretraining"):
        DistilBertConfig(head="pretraining")
