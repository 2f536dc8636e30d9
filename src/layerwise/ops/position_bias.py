"""What is added to attention scores for the distance of query and key: ALiBi's slopes, T5's buckets, Shaw's clipping.

The queries are the last T of S positions, as everywhere in `ops.attention`.

Shapes: H heads, T queries, S keys.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layerwise.core.errors import ConfigError


def key_distances(queries: int, keys: int, device: torch.device | None = None) -> Int[Tensor, "T S"]:
    """Key's position minus query's; the queries are the last of the keys' positions."""
    return torch.arange(keys, device=device) - torch.arange(keys - queries, keys, device=device)[:, None]


def alibi_slopes(num_heads: int) -> list[float]:
    """Slope of each head: 2^(-8 h / H), h = 1 .. H, for a power of two.

    Press, Smith, Lewis 2021, "Train short, test long: attention with linear biases enables input length extrapolation"
    (arXiv:2108.12409), section 3. For other numbers, as the reference code: the slopes of the next lower power of two,
    then every second one of the next higher.
    """
    if num_heads < 1:
        raise ConfigError(f"num_heads={num_heads}: must be at least 1")
    lower = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * h / lower) for h in range(1, lower + 1)]
    finer = [2 ** (-8 * h / (2 * lower)) for h in range(1, 2 * lower + 1)]
    return slopes + finer[::2][: num_heads - lower]


def alibi_bias(
    num_heads: int,
    queries: int,
    keys: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "H T S"]:
    """-slope * distance. For causal attention as published; for both directions the distance counts either way."""
    slopes = torch.tensor(alibi_slopes(num_heads), device=device, dtype=dtype)
    return -slopes[:, None, None] * key_distances(queries, keys, device).abs().to(dtype)


def relative_buckets(
    distance: Int[Tensor, "T S"], num_buckets: int, max_distance: int, *, both: bool
) -> Int[Tensor, "T S"]:
    """Number of the bucket of each distance: one each for the nearest, then wider ones on a logarithmic scale.

    Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text Transformer"
    (arXiv:1910.10683), section 2.1, with the reference code's rule.

    Args:
        distance: key's position minus query's.
        num_buckets: B; must be even where `both`.
        max_distance: all from here on share the last bucket.
        both: keys after the query have the upper half of the buckets; otherwise all of them share bucket 0.

    Raises:
        ConfigError: there are too few buckets, or the nearest alone reach `max_distance`.
    """
    each = num_buckets // 2 if both else num_buckets
    exact = each // 2
    if exact < 1 or (both and num_buckets % 2) or max_distance <= exact:
        raise ConfigError(
            f"num_buckets={num_buckets}, max_distance={max_distance}: there must be at least {4 if both else 2} "
            f"buckets{', an even number,' if both else ''} and max_distance above the {exact} nearest"
        )
    away = distance.abs() if both else (-distance).clamp_min(0)
    ratio = (away.clamp_min(1).double() / exact).log() / math.log(max_distance / exact)
    far = (exact + (ratio * (each - exact)).long()).clamp_max(each - 1)
    bucket = torch.where(away < exact, away, far)
    return bucket + each * (distance > 0) if both else bucket


def clipped_distances(distance: Int[Tensor, "T S"], most: int) -> Int[Tensor, "T S"]:
    """Row of each distance in a table of 2 * most + 1: distances beyond `most` are taken as `most`.

    Shaw, Uszkoreit, Vaswani 2018, "Self-attention with relative position representations" (arXiv:1803.02155), equation
    5 ("clip").
    """
    return distance.clamp(-most, most) + most
