"""Scaled dot-product attention: full, causal, windowed, cross and grouped-query, with one mask convention.

Vaswani et al. 2017, "Attention is all you need" (arXiv:1706.03762), equation 1. Grouped queries: Ainslie et al. 2023
(arXiv:2305.13245). Sliding window: Beltagy, Peters, Cohan 2020, "Longformer" (arXiv:2004.05150), section 3.1.

Shapes: B batch, H query heads, G key and value heads (G divides H), T queries, S keys, K and V their widths.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.ops.dropout import dropout as drop

# Below so many keys two products in bf16 are faster on a CPU than torch's fused kernel, with and without gradients, and
# the scores between them are small. Forward and backward, one Zen 5 core, ms by the kernel in bf16, by the kernel in
# float32, by products: 96 rows of 128 keys, 64 wide, 36, 28, 9; 8 rows of 256 keys, 256 wide, 19, 23, 7; 512 rows of 17
# keys, 64 wide, 30, 7, 5.
_FEW_KEYS = 512


def attention(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S V"],
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T V"]:
    """softmax(q k^T * scale + bias) v over the keys that a query may attend to, by torch's fused kernels.

    A query with nothing to attend to gives zeros, and no gradient. Equal to `plain_attention` up to rounding. With a
    window and neither mask nor bias, time and memory grow with T * window, not T * S.

    Args:
        q, k, v: head h of the queries reads head h * G // H of keys and values.
        mask: broadcastable to [B, H, T, S]; True = may attend.
        causal: the queries are the last T of the S positions: query t may attend to keys 0 .. S - T + t. With T = S
            that is the usual triangle; with a cache it is what the new positions may see. Combines with `mask`.
        bias: added to the scores, broadcastable to [B, H, T, S]; gradients flow into it.
        window: only keys nearer than `window` positions: causal, a query sees itself and the `window - 1` before it.
            The queries are the last T positions, as for `causal`. Combines with `mask`.
        scale: None means 1 / sqrt(K).
        dropout: probability of dropping a weight, as `ops.dropout` does; callers pass 0 outside training.

    Raises:
        ConfigError: heads do not divide, the mask is not boolean, mask or bias do not broadcast, the window is empty.
    """
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    _check(q, k, v, mask, bias, window)
    if window is not None and queries + window - 1 < keys:  # positions that no query sees
        first = keys - (queries + window - 1)
        k, v, keys = k[:, :, first:], v[:, :, first:], keys - first
        mask = mask[..., first:] if mask is not None and mask.shape[-1] > 1 else mask
        bias = bias[..., first:] if bias is not None and bias.shape[-1] > 1 else bias
    if window is not None and window >= keys:
        window = None
    grouped = k.shape[1] != heads
    if window is not None and mask is None and bias is None and queries == keys and queries > 2 * window:
        return _windowed(q, k, v, window, causal, scale, dropout)
    if bias is not None:
        return _biased(q, k, v, mask, bias, causal, window, scale, dropout)
    if window is None and mask is None and (not causal or queries == 1 or queries == keys):
        triangle = causal and queries > 1
        return _fused(q, k, v, is_causal=triangle, scale=scale, dropout=dropout, enable_gqa=grouped)
    allowed = _allowed(q, k, mask, causal, window)
    assert allowed is not None
    if mask is None and queries <= keys:
        return _fused(q, k, v, allowed, dropout, scale=scale, enable_gqa=grouped)
    # What a kernel does with a row masked throughout is not documented: such rows attend to all, then become zeros.
    alive = allowed.any(dim=-1, keepdim=True)
    allowed = (allowed | ~alive).expand(batch, -1, -1, -1)
    mixed = _fused(q, k, v, allowed, dropout, scale=scale, enable_gqa=grouped)
    return mixed.masked_fill(~alive, 0.0)


def plain_attention(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S V"],
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "B H T V"], Float[Tensor, "B H T S"]]:
    """`attention` written out, for reading, for tests, and where the weights are wanted.

    Returns:
        The result and the weights before dropout; a row of weights sums to one, or to zero with nothing to attend to.
        Scores and softmax are computed in float32 at least.
    """
    _check(q, k, v, mask, bias, window)
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = torch.einsum("bhtk,bhsk->bhts", q.to(wide), k.to(wide)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias.to(wide)
    if (allowed := _allowed(q, k, mask, causal, window)) is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(wide).min)
        weights = scores.softmax(dim=-1).masked_fill(~allowed, 0.0)
    else:
        weights = scores.softmax(dim=-1)
    dropped = drop(weights, dropout) if dropout else weights
    return torch.einsum("bhts,bhsv->bhtv", dropped, v.to(wide)).to(q.dtype), weights


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> Bool[Tensor, "T S"]:
    """True where query t, one of the last `queries` of `keys` positions, may attend: to positions up to its own."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal=keys - queries)


def window_mask(queries: int, keys: int, window: int, device: torch.device | None = None) -> Bool[Tensor, "T S"]:
    """True where query t, one of the last `queries` of `keys` positions, is nearer than `window` to the key."""
    distance = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
    return distance.abs() < window


def _fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    dropout: float = 0.0,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """torch's kernel, or two products where they are faster; `allowed` is boolean or added to the scores."""
    few = q.dtype == torch.bfloat16 and k.shape[2] < _FEW_KEYS
    if q.device.type != "cpu" or not (few or dropout):  # with dropout torch has no kernel there but the two products
        return F.scaled_dot_product_attention(q, k, v, allowed, dropout, is_causal, scale=scale, enable_gqa=enable_gqa)
    if enable_gqa:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    if is_causal:
        allowed = causal_mask(q.shape[2], k.shape[2], q.device)
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-1, -2)
    if allowed is not None and allowed.dtype == torch.bool:
        scores = scores.masked_fill(~allowed, float("-inf"))
    elif allowed is not None:
        scores = scores + allowed
    weights = scores.softmax(dim=-1)  # computed in float32 inside
    return (drop(weights, dropout) if dropout else weights) @ v


def _windowed(
    q: Tensor, k: Tensor, v: Tensor, window: int, causal: bool, scale: float | None, dropout: float
) -> Tensor:
    """Blocks of `window` queries, each with its own block of keys and the neighbouring ones: T * window scores."""
    heads, length = q.shape[1], q.shape[2]
    blocks = -(-length // window)
    extra = blocks * window - length
    after = 0 if causal else 1
    whole = [F.pad(x, (0, 0, window, extra + after * window)) for x in (k, v)]
    # [B, G, (1 + blocks + after) * window, K] -> [B * blocks, G, (2 + after) * window, K]
    k, v = (
        torch.cat([x.unflatten(2, (-1, window))[:, :, i : i + blocks] for i in range(2 + after)], dim=3)
        .transpose(1, 2)
        .flatten(0, 1)
        for x in whole
    )
    split = F.pad(q, (0, 0, 0, extra)).unflatten(2, (blocks, window)).transpose(1, 2).flatten(0, 1)
    at = torch.arange(window, device=q.device)
    offset = at[:, None] + window - torch.arange((2 + after) * window, device=q.device)  # query's minus key's position
    near = (offset.abs() < window) & (offset >= 0) if causal else offset.abs() < window
    place = torch.arange(blocks, device=q.device)[:, None] * window - window
    place = place + torch.arange((2 + after) * window, device=q.device)
    there = ((place >= 0) & (place < length))[:, None, None, :]
    # Queries that only fill the last block up attend to something, so that no row is masked throughout.
    filling = (place[:, window : 2 * window] >= length)[:, None, :, None]
    allowed = (near & there) | filling
    allowed = allowed.expand(q.shape[0], *allowed.shape).flatten(0, 1)
    mixed = _fused(split, k, v, allowed, dropout, scale=scale, enable_gqa=k.shape[1] != heads)
    mixed = mixed.unflatten(0, (q.shape[0], blocks)).transpose(1, 2).flatten(2, 3)
    return mixed[:, :, :length]


def _biased(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    bias: Tensor,
    causal: bool,
    window: int | None,
    scale: float | None,
    dropout: float,
) -> Tensor:
    """Scores with a bias: mask and bias go into the kernel as one summand."""
    allowed = _allowed(q, k, mask, causal, window)
    bias = bias.to(q.dtype)[(None,) * (4 - bias.dim())]
    alive = None
    if allowed is not None:
        alive = allowed.any(dim=-1, keepdim=True)
        bias = torch.where(allowed | ~alive, bias, float("-inf"))
    bias = bias.expand(q.shape[0], -1, q.shape[2], k.shape[2])
    grouped = k.shape[1] != q.shape[1]
    mixed = _fused(q, k, v, bias, dropout, scale=scale, enable_gqa=grouped)
    return mixed if alive is None else mixed.masked_fill(~alive, 0.0)


def _allowed(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, window: int | None) -> Tensor | None:
    """Mask, triangle and window together, 4-dimensional, broadcastable to [B, H, T, S]; None allows all."""
    parts = [] if mask is None else [mask]
    if causal:
        parts.append(causal_mask(q.shape[2], k.shape[2], q.device))
    if window is not None:
        parts.append(window_mask(q.shape[2], k.shape[2], window, q.device))
    if not parts:
        return None
    both = parts[0]
    for part in parts[1:]:
        both = both & part
    return both[(None,) * (4 - both.dim())]


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, window: int | None) -> None:
    if k.shape[1] == 0 or q.shape[1] % k.shape[1] or v.shape[1] != k.shape[1]:
        raise ConfigError(
            f"{k.shape[1]} key heads and {v.shape[1]} value heads must be equal and divide {q.shape[1]} query heads"
        )
    if window is not None and window < 1:
        raise ConfigError(f"window={window}: a query sees at least itself; must be at least 1")
    if mask is not None and mask.dtype != torch.bool:
        raise ConfigError(f"an attention mask is boolean (True = may attend), got {mask.dtype}")
    full = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    for name, given in (("mask", mask), ("bias", bias)):
        if given is not None and (
            given.dim() > 4
            or any(have not in (1, want) for have, want in zip(reversed(given.shape), reversed(full), strict=False))
        ):
            raise ConfigError(f"{name} of shape {tuple(given.shape)} does not broadcast to [B, H, T, S] = {list(full)}")
