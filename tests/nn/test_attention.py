"""The attention layer against torch's own multi-head attention, and its cache against the pass without one."""

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.nn.attention import MultiHeadAttention, merge_heads, split_heads
from layerwise.nn.cache import LayerCache


def pair(context_size: int | None = None) -> tuple[MultiHeadAttention, nn.MultiheadAttention]:
    """The layer and torch's, with equal random weights, in float64."""
    torch.manual_seed(0)
    ours = MultiHeadAttention(12, 3, context_size=context_size).double()
    theirs = nn.MultiheadAttention(12, 3, kdim=context_size or 12, vdim=context_size or 12, batch_first=True).double()
    projections = [ours.q_proj, ours.k_proj, ours.v_proj]
    with torch.no_grad():
        if theirs.in_proj_weight is not None:
            theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        else:
            for target, p in zip(
                (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight), projections, strict=True
            ):
                target.copy_(p.weight)
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
        theirs.out_proj.bias.copy_(ours.out_proj.bias)
    return ours, theirs


@pytest.mark.parametrize("context_size", [None, 7])
def test_equals_torch(context_size: int | None) -> None:
    ours, theirs = pair(context_size)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    context = None if context_size is None else torch.randn(2, 4, context_size, dtype=torch.float64)
    mask = torch.rand(5, 5 if context is None else 4) > 0.3
    mask[:, 0] = True
    source = x if context is None else context
    expected, _ = theirs(x, source, source, attn_mask=~mask)
    torch.testing.assert_close(ours(x, context, mask=mask), expected, atol=1e-10, rtol=0)


def test_grouped_queries_equal_full_ones_with_repeated_keys() -> None:
    torch.manual_seed(0)
    grouped = MultiHeadAttention(12, 6, num_kv_heads=2).double()
    full = MultiHeadAttention(12, 6).double()
    with torch.no_grad():
        full.load_state_dict(
            {
                name: value.unflatten(0, (2, 2)).repeat_interleave(3, dim=0).flatten(0, 1)
                if name[:2] in ("k_", "v_")
                else value
                for name, value in grouped.state_dict().items()
            }
        )
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(grouped(x, causal=True), full(x, causal=True), atol=1e-12, rtol=0)


def test_cached_self_attention_equals_the_whole_pass() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(12, 6, num_kv_heads=3).double()
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    cache = LayerCache(2, 3, 10, 2, dtype=torch.float64)
    with torch.no_grad():
        parts = [layer(part, causal=True, cache=cache) for part in x.split([3, 1, 1, 2], dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), layer(x, causal=True), atol=1e-10, rtol=0)
    assert cache.length == 7


def test_cached_cross_attention_reads_the_context_once() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(12, 6).double()
    x, context = torch.randn(2, 3, 12, dtype=torch.float64), torch.randn(2, 5, 12, dtype=torch.float64)
    cache = LayerCache(2, 6, 5, 2, dtype=torch.float64)
    with torch.no_grad():
        whole = layer(x, context)
        first = layer(x[:, :1], context, cache=cache)
        later = layer(x[:, 1:], torch.full_like(context, torch.nan), cache=cache)
    torch.testing.assert_close(torch.cat([first, later], dim=1), whole, atol=1e-10, rtol=0)
    assert cache.length == 5


def test_dropout_is_for_training_only() -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2, dropout=0.5)
    x = torch.randn(1, 6, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_heads_are_consecutive_slices_of_the_width() -> None:
    x = torch.arange(24.0).view(1, 2, 12)
    assert split_heads(x, 3)[0, 1].tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert torch.equal(merge_heads(split_heads(x, 3)), x)


def test_heads_that_do_not_divide_are_named() -> None:
    with pytest.raises(ConfigError, match="num_heads=5 must divide d_model=12"):
        MultiHeadAttention(12, 5)
    with pytest.raises(ConfigError, match="num_kv_heads=4 must divide num_heads=6"):
        MultiHeadAttention(12, 6, num_kv_heads=4)


def test_rows_that_share_keys_equal_rows_with_copies_of_them() -> None:
    """Float64, 1e-12: three rows of queries for each row of keys and values."""
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2, num_kv_heads=1).double().eval()
    x, context = torch.randn(6, 5, 8).double(), torch.randn(2, 4, 8).double()
    mask = torch.tensor([[True, True, False, True], [True, True, True, False]])[:, None, None]
    got = layer.attend(x, *layer.keys_and_values(context), mask=mask)
    wanted = layer(x, context.repeat_interleave(3, 0), mask=mask.repeat_interleave(3, 0))
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_rows_that_cannot_share_keys_are_refused() -> None:
    layer = MultiHeadAttention(8, 2)
    keys, values = layer.keys_and_values(torch.randn(2, 4, 8))
    with pytest.raises(ConfigError, match="5 rows of queries cannot share 2"):
        layer.attend(torch.randn(5, 1, 8), keys, values)
