"""Scaled dot-product attention: full, causal, cross and grouped-query, with one mask convention.

Vaswani et al. 2017, "Attention is all you need" (arXiv:1706.03762), equation 1. Grouped queries: Ainslie et al. 2023
(arXiv:2305.13245).

Shapes: B batch, H query heads, G key and value heads (G divides H), T queries, S keys, K and V their widths.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from layerwise.core.errors import ConfigError


def attention(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S V"],
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T V"]:
    """softmax(q k^T * scale) v over the keys that a query may attend to, by torch's fused kernels.

    A query with nothing to attend to gives zeros, and no gradient. Equal to `plain_attention` up to rounding.

    Args:
        q, k, v: head h of the queries reads head h * G // H of keys and values.
        mask: broadcastable to [B, H, T, S]; True = may attend.
        causal: the queries are the last T of the S positions: query t may attend to keys 0 .. S - T + t. With T = S
            that is the usual triangle; with a cache it is what the new positions may see. Combines with `mask`.
        scale: None means 1 / sqrt(K).
        dropout: probability of dropping a weight; callers pass 0 outside training.

    Raises:
        ConfigError: heads do not divide, or the mask is not boolean or does not broadcast.
    """
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    _check(q, k, v, mask)
    grouped = k.shape[1] != heads
    if mask is None and (not causal or queries == 1 or queries == keys):
        triangle = causal and queries > 1
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=triangle, scale=scale, dropout_p=dropout, enable_gqa=grouped
        )
    allowed = _allowed(q, k, mask, causal)
    if mask is None and queries <= keys:
        return F.scaled_dot_product_attention(q, k, v, allowed, dropout, scale=scale, enable_gqa=grouped)
    # What a kernel does with a row masked throughout is not documented: such rows attend to all, then become zeros.
    alive = allowed.any(dim=-1, keepdim=True)
    allowed = (allowed | ~alive).expand(batch, -1, -1, -1)
    mixed = F.scaled_dot_product_attention(q, k, v, allowed, dropout, scale=scale, enable_gqa=grouped)
    return mixed.masked_fill(~alive, 0.0)


def plain_attention(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S V"],
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "B H T V"], Float[Tensor, "B H T S"]]:
    """`attention` written out, for reading, for tests, and where the weights are wanted.

    Returns:
        The result and the weights before dropout; a row of weights sums to one, or to zero with nothing to attend to.
        Scores and softmax are computed in float32 at least.
    """
    _check(q, k, v, mask)
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = torch.einsum("bhtk,bhsk->bhts", q.to(wide), k.to(wide)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None or causal:
        allowed = _allowed(q, k, mask, causal)
        scores = scores.masked_fill(~allowed, torch.finfo(wide).min)
        weights = scores.softmax(dim=-1).masked_fill(~allowed, 0.0)
    else:
        weights = scores.softmax(dim=-1)
    dropped = F.dropout(weights, dropout) if dropout else weights
    return torch.einsum("bhts,bhsv->bhtv", dropped, v.to(wide)).to(q.dtype), weights


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> Bool[Tensor, "T S"]:
    """True where query t, one of the last `queries` of `keys` positions, may attend: to positions up to its own."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(diagonal=keys - queries)


def _allowed(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """The mask and the triangle together, 4-dimensional, broadcastable to [B, H, T, S]."""
    triangle = causal_mask(q.shape[2], k.shape[2], q.device) if causal else None
    if mask is None or triangle is None:
        both = triangle if mask is None else mask
        assert both is not None
    else:
        both = mask & triangle
    return both[(None,) * (4 - both.dim())]


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    if k.shape[1] == 0 or q.shape[1] % k.shape[1] or v.shape[1] != k.shape[1]:
        raise ConfigError(
            f"{k.shape[1]} key heads and {v.shape[1]} value heads must be equal and divide {q.shape[1]} query heads"
        )
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ConfigError(f"an attention mask is boolean (True = may attend), got {mask.dtype}")
    full = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    if mask.dim() > 4 or any(
        have not in (1, want) for have, want in zip(reversed(mask.shape), reversed(full), strict=False)
    ):
        raise ConfigError(f"mask of shape {tuple(mask.shape)} does not broadcast to [B, H, T, S] = {list(full)}")
