"""BERT: sizes as published, heads, padding."""

from typing import Any

import pytest
import torch

import layerwise as lw
from layerwise.core.errors import ConfigError
from layerwise.models.language.bert import Bert, BertConfig, example_batch


def tiny(head: str | None = None, **options: Any) -> Bert:
    torch.manual_seed(0)
    network = lw.create_model("bert-tiny", head=head, **options).eval()
    assert isinstance(network, Bert)
    return network


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("bert-base-uncased", 109_482_240),  # of transformers' BertModel with the published configuration
        ("bert-base-cased", 108_310_272),
        ("bert-large-uncased", 335_141_888),
        ("all-MiniLM-L6-v2", 22_713_216),
        ("bert-2x128", 4_385_920),  # Turc et al. 2019: 4.4 million
    ],
)
def test_sizes_are_the_published_ones(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = lw.create_model(name)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("head", "shapes"),
    [
        ("encoder", [(2, 12, 32), (2, 32)]),
        ("embedding", [(2, 32)]),
        ("classifier", [(2, 3)]),
        ("tagger", [(2, 12, 3)]),
        ("span", [(2, 12), (2, 12)]),
        ("masked_lm", [(2, 12, 60)]),
        ("pretraining", [(2, 12, 60), (2, 2)]),
    ],
)
def test_each_head_gives_its_shapes_and_every_parameter_a_gradient(head: str, shapes: list[tuple[int, ...]]) -> None:
    network = tiny(head)
    found = network(**example_batch(network.config, 2, torch.Generator().manual_seed(0)))
    parts = list(found) if isinstance(found, tuple) else [found]
    assert [tuple(part.shape) for part in parts] == shapes
    torch.stack([(part * torch.randn_like(part)).sum() for part in parts]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_padding_changes_nothing() -> None:
    """Float64, 1e-12: a text alone, and beside a longer one."""
    network = tiny().double()
    tokens = torch.randint(60, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9) < torch.tensor([[4], [9]])
    alone, together = network(tokens[:1, :4]), network(tokens, mask)
    torch.testing.assert_close(together.last_hidden_state[:1, :4], alone.last_hidden_state, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together.pooled[:1], alone.pooled, rtol=1e-12, atol=1e-12)
    assert not together.last_hidden_state[0, 4:].any()


def test_segments_are_zero_where_they_are_not_given() -> None:
    network, tokens = tiny(), torch.arange(1, 7)[None]
    assert torch.equal(network(tokens).pooled, network(tokens, segments=torch.zeros_like(tokens)).pooled)
    assert not torch.equal(network(tokens).pooled, network(tokens, segments=torch.ones_like(tokens)).pooled)


def test_attention_weights_sum_to_one_over_the_tokens() -> None:
    network = tiny()
    mask = torch.tensor([[True, True, False]])
    maps = network.token_attention(torch.tensor([[5, 6, 0]]), mask)
    assert maps.shape == (2, 1, 4, 3, 3)
    assert torch.allclose(maps[:, :, :, :2].sum(-1), torch.ones(2, 1, 4, 2))
    assert not maps[..., 2].any()


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ConfigError, match="num_heads=5 must divide d_model=768"):
        BertConfig(num_heads=5)
    with pytest.raises(ConfigError, match="head=tagger needs num_classes"):
        lw.create_model("bert-base-uncased", head="tagger")
    with pytest.raises(ConfigError, match="33 tokens are more than max_seq_len=32"):
        tiny()(torch.zeros(1, 33, dtype=torch.int64))
