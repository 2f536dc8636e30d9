"""Perceptual hashes of pictures, and an exact search for the hashes that differ in few bits.

The hash follows C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010 (pHash): signs of
the lowest frequencies of a small grey picture against their median. The search is the multi-index hashing of M.
Norouzi, A. Punjani, D. Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012,
https://arxiv.org/abs/1307.2982: two hashes that differ in fewer than eight bits of 64 differ in at most one bit in one
of four bands of 16 bits, so only pairs that meet in a band are compared.

Shapes: B pictures of a batch, C channels, H height, W width, N hashes, S side of a thumbnail.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MOST_BITS = 7  # that four bands with one bit each can find without loss
_SIDE = 32
_BITS, _BANDS, _BAND_BITS = 64, 4, 16
_PAIRS_AT_ONCE = 1 << 21
# The 64 lowest frequencies (vertical, horizontal) but the mean, in order of their sum.
_FREQUENCIES = sorted((u + v, u, v) for u in range(11) for v in range(11) if u + v > 0)[:_BITS]


def thumbnails(image: Tensor, side: int) -> Tensor:
    """Small pictures of equal size, filtered so that nothing aliases; channels stay.

    Args:
        image: [B, C, H, W].
        side: S.

    Returns:
        float32 [B, C, S, S] in the range of `image`.
    """
    return F.interpolate(image.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)


def perceptual_hashes(image: Tensor) -> NDArray[np.uint64]:
    """64 bits a picture [B]: which low frequencies of its grey values lie above their median.

    Brightness and contrast leave them as they are; compression, noise and a little scaling turn few of them. A picture
    of one colour has no frequencies: its hash says nothing.

    Args:
        image: [B, C, H, W].
    """
    grey = thumbnails(image.float().mean(1, keepdim=True), _SIDE)[:, 0]
    rows = max(max(u, v) for _, u, v in _FREQUENCIES) + 1
    at = (2 * torch.arange(_SIDE, dtype=torch.float32) + 1) * math.pi / (2 * _SIDE)
    cosines = torch.cos(torch.arange(rows, dtype=torch.float32)[:, None] * at)
    spectrum = cosines @ grey @ cosines.T
    lowest = spectrum[:, [u for _, u, _ in _FREQUENCIES], [v for _, _, v in _FREQUENCIES]]
    bits = (lowest > lowest.median(1, keepdim=True).values).numpy()
    # Neighbouring frequencies go to different bands, so that all bands tell pictures apart equally well.
    places = np.array([_BAND_BITS * (k % _BANDS) + k // _BANDS for k in range(_BITS)], np.uint64)
    return (bits.astype(np.uint64) << places).sum(1, dtype=np.uint64)


def close_pairs(hashes: NDArray[np.uint64], most_bits: int = MOST_BITS) -> Iterator[NDArray[np.int64]]:
    """Every pair of hashes that differ in at most `most_bits` bits, each pair once, in pieces [P, 2].

    Args:
        hashes: [N].
        most_bits: 0 to 7.

    Raises:
        ValueError: `most_bits` is over 7, where the four bands would lose pairs.
    """
    if not 0 <= most_bits <= MOST_BITS:
        raise ValueError(f"most_bits={most_bits}: must be 0 to {MOST_BITS}")
    for band in range(_BANDS):
        values = _band(hashes, band)
        order = np.argsort(values, kind="stable")
        begins = np.searchsorted(values[order], np.arange((1 << _BAND_BITS) + 1))
        here = np.arange(len(hashes))
        same = begins[values + 1] - 1 - _ranks(order)  # those after one's own place in the bucket
        yield from _matches(hashes, order, here, _ranks(order) + 1, same, band, most_bits)
        for bit in range(_BAND_BITS):
            lower = here[(values >> bit) & 1 == 0]  # the partner has the bit: each pair is met from one side only
            partner = values[lower] | (1 << bit)
            counts = begins[partner + 1] - begins[partner]
            yield from _matches(hashes, order, lower, begins[partner], counts, band, most_bits)


def _band(hashes: NDArray[np.uint64], band: int) -> NDArray[np.int64]:
    return ((hashes >> np.uint64(_BAND_BITS * band)) & np.uint64((1 << _BAND_BITS) - 1)).astype(np.int64)


def _ranks(order: NDArray[np.int64]) -> NDArray[np.int64]:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ranks


def _matches(
    hashes: NDArray[np.uint64],
    order: NDArray[np.int64],
    left: NDArray[np.int64],
    begins: NDArray[np.int64],
    counts: NDArray[np.int64],
    band: int,
    most_bits: int,
) -> Iterator[NDArray[np.int64]]:
    """Of every `left` with `order[begins : begins + counts]`, the pairs that are close and met in no earlier band."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(left):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_AT_ONCE, side="right")))
        some = counts[start:stop]
        one = np.repeat(left[start:stop], some)
        offsets = np.arange(len(one)) - np.repeat(np.cumsum(some) - some, some)
        other = order[np.repeat(begins[start:stop], some) + offsets]
        differing = hashes[one] ^ hashes[other]
        close = np.flatnonzero(np.bitwise_count(differing) <= most_bits)
        one, other, differing = one[close], other[close], differing[close]
        fresh = np.ones(len(one), bool)
        for earlier in range(band):
            fresh &= np.bitwise_count(_band(differing, earlier)) > 1
        if fresh.any():
            yield np.stack([one[fresh], other[fresh]], axis=1)
        start = stop


def connected(pairs: NDArray[np.int64]) -> list[list[int]]:
    """Groups of numbers that pairs [P, 2] connect, each sorted, in order of their first number.

    Example:
        >>> connected(np.array([[5, 2], [2, 9], [3, 4]]))
        [[2, 5, 9], [3, 4]]
    """
    leader: dict[int, int] = {}

    def find(number: int) -> int:
        root = number
        while (above := leader.setdefault(root, root)) != root:
            root = above
        while leader[number] != root:
            leader[number], number = root, leader[number]
        return root

    for one, other in pairs.tolist():
        a, b = find(one), find(other)
        leader[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for number in sorted(leader):
        groups.setdefault(find(number), []).append(number)
    return list(groups.values())
