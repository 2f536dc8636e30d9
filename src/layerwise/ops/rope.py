"""Rotary position embedding: queries and keys are turned by angles that grow with the position.

Su, Lu, Pan, Murtadha, Wen, Liu 2021, "RoFormer: enhanced Transformer with rotary position embedding"
(arXiv:2104.09864), equation 34. The product of a turned query and a turned key depends on their distance alone.

Frequencies are computed in float64 from plain numbers, once a forward pass.

Shapes: B batch, H heads, T positions, K width that is turned (the first of a head's).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def plain_frequencies(width: int, theta: float) -> list[float]:
    """Radians a position of each pair: theta^(-2i / width), i = 0 .. width / 2 - 1 (section 3.2.2)."""
    return [theta ** (-i / width) for i in range(0, width, 2)]


def dynamic_theta(width: int, theta: float, factor: float, trained_len: int, seq_len: int) -> float:
    """The base that grows with the text once it is longer than those of training, "dynamic NTK": the slowest pair is
    slowed down by `factor * seq_len / trained_len - (factor - 1)`, the fastest not at all.

    Args:
        trained_len: longest text of training.
        seq_len: length of this text; below `trained_len` nothing changes.
    """
    stretch = factor * max(seq_len, trained_len) / trained_len - (factor - 1)
    return theta * stretch ** (width / (width - 2))


def yarn_frequencies(
    width: int, theta: float, factor: float, trained_len: int, fast: float, slow: float, truncate: bool = True
) -> list[float]:
    """Pairs that turn often within a text of training stay, those that turn seldom are slowed down by `factor`.

    Peng, Quesnelle, Fan, Shippole 2023, "YaRN" (arXiv:2309.00071), section 3.2, "NTK-by-parts".

    Args:
        fast: turns within `trained_len` from which a pair stays as it is (beta).
        slow: turns up to which it is slowed down in full (alpha).
        truncate: round the ends of the ramp between both outwards to whole pairs, as the reference code does.
    """

    def pair_with(turns: float) -> float:
        """Number of the pair that turns so often, a real number (the inverse of the wavelength's formula)."""
        return width * math.log(trained_len / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_with(fast), pair_with(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    high = high if high > low else low + 0.001
    found: list[float] = []
    for pair, frequency in enumerate(plain_frequencies(width, theta)):
        slowed = min(max((pair - low) / (high - low), 0.0), 1.0)
        found.append(frequency * (1 - slowed) + frequency / factor * slowed)
    return found


def yarn_attention_factor(factor: float, scale: float = 1.0) -> float:
    """What YaRN multiplies queries and keys with: 0.1 scale ln(factor) + 1 (section 3.3, its square on the scores)."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def llama3_frequencies(
    width: int, theta: float, factor: float, trained_len: int, low: float, high: float
) -> list[float]:
    """As Llama 3.1: wavelengths above `trained_len / low` are stretched by `factor`, those below `trained_len / high`
    stay, between both they are mixed (https://github.com/meta-llama/llama-models, `apply_scaling`).
    """
    found: list[float] = []
    for frequency in plain_frequencies(width, theta):
        turns = trained_len * frequency / (2 * math.pi)
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        found.append(kept * frequency + (1 - kept) * frequency / factor)
    return found


def long_frequencies(width: int, theta: float, factors: Sequence[float]) -> list[float]:
    """Each pair is slowed down by a factor of its own, found by search.

    Ding et al. 2024, "LongRoPE" (arXiv:2402.13753), equation 3.
    """
    return [frequency / factor for frequency, factor in zip(plain_frequencies(width, theta), factors, strict=True)]


def long_attention_factor(factor: float, trained_len: int) -> float:
    """sqrt(1 + ln(factor) / ln(trained_len)), as published with Phi-3 (arXiv:2404.14219)."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained_len))


def rotation_table(
    frequencies: Sequence[float], positions: Int[Tensor, "... T"], *, scale: float = 1.0
) -> tuple[Float[Tensor, "... T P"], Float[Tensor, "... T P"]]:
    """Cosine and sine of every pair's angle at every position, float32 on purpose.

    Args:
        frequencies: radians a position of each of the P pairs.
        positions: int64.
        scale: factor of both (an attention factor).
    """
    each = torch.tensor(frequencies, dtype=torch.float64, device=positions.device)
    angles = positions[..., None].double() * each
    return (angles.cos() * scale).float(), (angles.sin() * scale).float()


def rotate(
    x: Float[Tensor, "B H T K"],
    cos: Float[Tensor, "*B T P"],
    sin: Float[Tensor, "*B T P"],
    *,
    interleaved: bool = False,
) -> Float[Tensor, "B H T K"]:
    """(a, b) -> (a cos - b sin, a sin + b cos) for the P pairs of the first 2 P numbers of a head; the rest stays.

    Args:
        x: queries or keys.
        cos, sin: from `rotation_table`; with a batch dimension, one table a row.
        interleaved: pairs are neighbours, as in the paper; otherwise number i goes with number P + i, as in Llama's and
            GPT-NeoX's checkpoints.

    Example:
        >>> cos, sin = rotation_table([math.pi / 2], torch.tensor([1]))
        >>> rotate(torch.tensor([[[[1.0, 0.0]]]]), cos, sin)[..., 1].tolist()  # a quarter turn
        [[[1.0]]]
    """
    pairs = cos.shape[-1]
    wide = torch.promote_types(x.dtype, torch.float32)
    if cos.dim() == 3:
        cos, sin = cos[:, None], sin[:, None]
    cos, sin = cos.to(wide), sin.to(wide)
    turned, rest = x[..., : 2 * pairs].to(wide), x[..., 2 * pairs :]
    a, b = turned.unflatten(-1, (pairs, 2)).unbind(-1) if interleaved else turned.chunk(2, dim=-1)
    both = (a * cos - b * sin, a * sin + b * cos)
    turned = torch.stack(both, dim=-1).flatten(-2) if interleaved else torch.cat(both, dim=-1)
    turned = turned.to(x.dtype)
    return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned
