"""Attention against a loop over batch, heads, queries and keys in float64, written from equation 1 of the paper."""

import math

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.ops.attention import attention, causal_mask, plain_attention

SHAPES = [  # B, H, G, T, S, K, V
    (1, 1, 1, 1, 1, 1, 1),
    (2, 4, 4, 5, 5, 8, 8),
    (2, 4, 2, 5, 5, 8, 8),
    (1, 6, 1, 3, 7, 4, 4),
    (2, 2, 2, 1, 6, 8, 8),
    (2, 2, 1, 7, 3, 8, 8),
    (1, 2, 2, 4, 4, 8, 3),
]
MASKS = ["none", "keys", "queries", "per_head", "two_dims", "blocked_rows"]


def loop(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
    window: int | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """One number at a time; python floats are float64."""
    batch, heads, queries, width = q.shape
    groups, keys = k.shape[1:3]
    full = (
        torch.ones(batch, heads, queries, keys, dtype=torch.bool)
        if mask is None
        else mask.expand(batch, heads, queries, keys)
    )
    out = torch.zeros(batch, heads, queries, v.shape[-1], dtype=torch.float64)
    factor = 1 / math.sqrt(width) if scale is None else scale
    for b in range(batch):
        for h in range(heads):
            g = h * groups // heads
            for t in range(queries):
                seen = [s for s in range(keys) if full[b, h, t, s] and (not causal or s <= keys - queries + t)]
                seen = [s for s in seen if window is None or abs(keys - queries + t - s) < window]
                scores = [factor * sum(float(q[b, h, t, i]) * float(k[b, g, s, i]) for i in range(width)) for s in seen]
                if bias is not None:
                    scores = [x + float(bias[h, t, s]) for x, s in zip(scores, seen, strict=True)]
                top = max(scores, default=0.0)
                total = sum(math.exp(x - top) for x in scores)
                for x, s in zip(scores, seen, strict=True):
                    out[b, h, t] += math.exp(x - top) / total * v[b, g, s].double()
    return out


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    b, h, g, t, s, k, v = shape
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = [(b, h, t, k), (b, g, s, k), (b, g, s, v)]
    q, k_, v_ = (torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes)
    return q, k_, v_


def make_mask(name: str, shape: tuple[int, ...]) -> Tensor | None:
    b, h, _, t, s, _, _ = shape
    generator = torch.Generator().manual_seed(7)
    sizes = {
        "keys": (b, 1, 1, s),
        "queries": (b, 1, t, s),
        "per_head": (1, h, t, s),
        "two_dims": (t, s),
        "blocked_rows": (b, h, t, s),
    }
    if name == "none":
        return None
    mask = torch.rand(sizes[name], generator=generator) > 0.4
    if name == "blocked_rows":
        mask[:, :, t // 2] = False
    return mask


@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_paths_equal_the_loop(shape: tuple[int, ...], causal: bool, mask_name: str) -> None:
    q, k, v = inputs(shape)
    mask = make_mask(mask_name, shape)
    expected = loop(q, k, v, mask, causal, None)
    torch.testing.assert_close(attention(q, k, v, mask=mask, causal=causal), expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(plain_attention(q, k, v, mask=mask, causal=causal)[0], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_the_fast_path_equal_those_of_the_plain_one(
    shape: tuple[int, ...], causal: bool, mask_name: str
) -> None:
    mask = make_mask(mask_name, shape)
    grads: list[tuple[Tensor, ...]] = []
    for path in (attention, lambda *a, **o: plain_attention(*a, **o)[0]):
        leaves = [x.requires_grad_() for x in inputs(shape)]
        out = path(*leaves, mask=mask, causal=causal)
        weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        grads.append(torch.autograd.grad((out * weight).sum(), leaves))
    for fast, plain in zip(*grads, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-10, rtol=0)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 4, 2, 13, 13, 4, 3), (1, 2, 2, 3, 9, 4, 4), (1, 2, 1, 1, 6, 4, 4)])
@pytest.mark.parametrize("mask_name", ["none", "keys", "blocked_rows"])
def test_a_window_equals_the_loop_on_both_paths(
    shape: tuple[int, ...], causal: bool, window: int, mask_name: str
) -> None:
    mask = make_mask(mask_name, shape)
    results: list[list[Tensor]] = []
    for path in (attention, lambda *a, **o: plain_attention(*a, **o)[0]):
        leaves = [x.requires_grad_() for x in inputs(shape)]
        out = path(*leaves, mask=mask, causal=causal, window=window)
        expected = loop(*(x.detach() for x in leaves), mask, causal, None, window)
        torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
        weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        results.append([*torch.autograd.grad((out * weight).sum(), leaves)])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-10, rtol=0)


def test_a_window_over_a_long_text_builds_no_mask_of_its_length() -> None:
    """A dense mask of 200,000 tokens would be 40 GB; the last query's result is that of its own window."""
    x = torch.randn(1, 1, 200_000, 2)
    out = attention(x, x, x, causal=True, window=50)
    tail = x[:, :, -50:]
    torch.testing.assert_close(out[:, :, -1:], plain_attention(tail[:, :, -1:], tail, tail)[0])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("mask_name", ["none", "per_head", "blocked_rows"])
def test_a_bias_is_added_to_the_scores_and_gets_its_gradient(causal: bool, window: int | None, mask_name: str) -> None:
    shape = (2, 4, 2, 5, 6, 3, 3)
    mask = make_mask(mask_name, shape)
    grads: list[tuple[Tensor, ...]] = []
    for path in (attention, lambda *a, **o: plain_attention(*a, **o)[0]):
        leaves = [x.requires_grad_() for x in inputs(shape)]
        bias = torch.linspace(-2, 2, 4 * 5 * 6, dtype=torch.float64).view(4, 5, 6).requires_grad_()
        out = path(*leaves, mask=mask, bias=bias, causal=causal, window=window)
        expected = loop(*(x.detach() for x in leaves), mask, causal, None, window, bias.detach())
        torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
        weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        grads.append(torch.autograd.grad((out * weight).sum(), (*leaves, bias)))
    for fast, plain in zip(*grads, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-10, rtol=0)


def test_plain_gradients_are_right_by_finite_differences() -> None:
    shape = (1, 2, 1, 3, 4, 2, 2)
    leaves = [x.requires_grad_() for x in inputs(shape)]
    mask = make_mask("blocked_rows", shape)
    assert torch.autograd.gradcheck(lambda q, k, v: plain_attention(q, k, v, mask=mask, causal=True)[0], leaves)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_lower_precision_is_near_the_loop(dtype: torch.dtype, tolerance: float) -> None:
    shape = (2, 4, 2, 9, 9, 16, 16)
    q, k, v = inputs(shape, dtype)
    mask = make_mask("blocked_rows", shape)
    expected = loop(q, k, v, mask, True, None)
    for out in (attention(q, k, v, mask=mask, causal=True), plain_attention(q, k, v, mask=mask, causal=True)[0]):
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=0)


def test_scale_is_taken() -> None:
    q, k, v = inputs((2, 2, 2, 3, 4, 8, 8))
    expected = loop(q, k, v, None, False, 0.3)
    torch.testing.assert_close(attention(q, k, v, scale=0.3), expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(plain_attention(q, k, v, scale=0.3)[0], expected, atol=1e-10, rtol=0)


def test_rows_with_nothing_to_attend_give_zeros_and_no_gradient_nan() -> None:
    q, k, v = (x.requires_grad_() for x in inputs((1, 2, 2, 3, 4, 8, 8), torch.float32))
    out = attention(q, k, v, mask=torch.zeros(3, 4, dtype=torch.bool))
    assert bool((out == 0).all())
    for grad in torch.autograd.grad(out.sum(), (q, k, v)):
        assert bool((grad == 0).all())


def test_causal_queries_stand_at_the_end_of_the_keys() -> None:
    q, k, v = inputs((2, 4, 4, 8, 8, 4, 4))
    whole = attention(q, k, v, causal=True)
    torch.testing.assert_close(attention(q[:, :, 5:], k, v, causal=True), whole[:, :, 5:], atol=1e-12, rtol=0)
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]


def test_weights_sum_to_one_or_to_zero() -> None:
    q, k, v = inputs((2, 2, 2, 4, 5, 8, 8))
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[2] = False
    _, weights = plain_attention(q, k, v, mask=mask)
    torch.testing.assert_close(
        weights.sum(-1), torch.tensor([1.0, 1, 0, 1]).double().expand(2, 2, 4), atol=1e-12, rtol=0
    )
    assert weights.shape == (2, 2, 4, 5)


@pytest.mark.parametrize("masked", [False, True])
def test_dropout_keeps_the_mean_and_drops_the_stated_share(masked: bool) -> None:
    torch.manual_seed(0)
    keys = 1000
    q, k = torch.zeros(1, 8, 16, 4), torch.zeros(1, 8, keys, 4)
    v = torch.ones(1, 8, keys, 4)
    mask = torch.ones(16, keys, dtype=torch.bool) if masked else None
    out = attention(q, k, v, mask=mask, dropout=0.25)
    # Each output is a mean of 1000 draws of {0, 4/3}: its standard deviation is sqrt(0.25 / 0.75 / 1000) = 0.018.
    assert abs(float(out.mean()) - 1) < 0.01
    assert 0.013 < float(out[..., 0].std()) < 0.024


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", ["full", "causal", "masked", "biased"])
def test_the_same_draws_drop_the_same_weights_as_in_the_plain_form(options: str, dtype: torch.dtype) -> None:
    shape = (2, 4, 2, 5, 5, 8, 8)
    q, k, v = (x.to(dtype).requires_grad_() for x in inputs(shape))
    torch.manual_seed(1)
    given = {
        "full": {},
        "causal": {"causal": True},
        "masked": {"mask": torch.tensor([True, True, False, True, False])},
        "biased": {"bias": torch.randn(4, 5, 5, dtype=dtype)},
    }[options]
    results = []
    for function in (attention, lambda *args, **kwargs: plain_attention(*args, **kwargs)[0]):
        torch.manual_seed(2)
        out = function(q, k, v, dropout=0.3, **given)
        results.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v))])
    torch.testing.assert_close(results[0], results[1])


def test_wrong_masks_and_heads_are_named() -> None:
    q, k, v = inputs((2, 4, 4, 3, 3, 8, 8))
    with pytest.raises(ConfigError, match="boolean"):
        attention(q, k, v, mask=torch.zeros(3, 3))
    with pytest.raises(ConfigError, match=r"\(3, 2\) does not broadcast"):
        attention(q, k, v, mask=torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(ConfigError, match=r"bias of shape \(5, 3, 3\) does not broadcast"):
        attention(q, k, v, bias=torch.ones(5, 3, 3))
    with pytest.raises(ConfigError, match="window=0"):
        attention(q, k, v, window=0)
    with pytest.raises(ConfigError, match="3 key heads"):
        attention(q, k[:, :3], v[:, :3])


@pytest.mark.parametrize("kind", ["plain", "causal", "masked", "bias", "grouped"])
def test_bf16_with_few_keys_and_its_gradients_are_near_float64(kind: str) -> None:
    """Within 2e-2 of the norm, under autocast as well: scores and weights are rounded to eight bits."""
    groups = 2 if kind == "grouped" else 4
    q, k, v = (each.bfloat16().requires_grad_() for each in inputs((2, 4, groups, 5, 5, 8, 8), torch.float32))
    wide = [each.detach().double().requires_grad_() for each in (q, k, v)]
    mask = make_mask("blocked_rows", (2, 4, groups, 5, 5, 8, 8)) if kind == "masked" else None
    bias = torch.randn(4, 5, 5).bfloat16() if kind == "bias" else None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = attention(q, k, v, mask=mask, bias=bias, causal=kind == "causal")
    wanted, _ = plain_attention(*wide, mask=mask, bias=None if bias is None else bias.double(), causal=kind == "causal")
    assert got.dtype == torch.bfloat16
    pull = torch.randn(got.shape).bfloat16()
    got.backward(pull)
    wanted.backward(pull.double())
    pairs = [(got.detach(), wanted.detach()), *((a.grad, b.grad) for a, b in zip((q, k, v), wide, strict=True))]
    for narrow, exact in pairs:
        assert narrow is not None
        assert exact is not None
        assert float((narrow.double() - exact).norm()) <= 2e-2 * float(exact.norm())
