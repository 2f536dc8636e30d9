"""Perceptual hashes keep what an eye keeps, and the search for close ones loses none."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.data.picture_hash import close_pairs, connected, perceptual_hashes


def near_hashes(count: int, seed: int) -> np.ndarray:
    """Random hashes, half of which are others with up to nine bits turned."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for i in range(count // 2, count):
        bits = rng.choice(64, rng.integers(0, 10), replace=False).astype(np.uint64)
        hashes[i] = hashes[i - count // 2] ^ np.bitwise_or.reduce(np.uint64(1) << bits, initial=np.uint64(0))
    return hashes


@pytest.mark.parametrize("most_bits", [0, 1, 3, 5, 7])
def test_close_pairs_are_those_of_a_comparison_of_all(most_bits: int) -> None:
    hashes = near_hashes(300, most_bits)
    expected = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if bin(int(hashes[i]) ^ int(hashes[j])).count("1") <= most_bits
    }
    found = [tuple(sorted(pair)) for piece in close_pairs(hashes, most_bits) for pair in piece.tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_crowded_hashes_are_paired_once_each() -> None:
    """Many equal hashes, and a band in which all meet."""
    hashes = np.array([5] * 40 + [5 ^ (1 << 63)] * 3 + [2**64 - 1], np.uint64)
    found = [tuple(sorted(pair)) for piece in close_pairs(hashes) for pair in piece.tolist()]
    assert len(found) == len(set(found)) == 43 * 42 // 2


def test_more_bits_than_the_bands_can_find_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 7"):
        next(close_pairs(np.zeros(2, np.uint64), 8))


def test_no_hashes_have_no_pairs() -> None:
    assert list(close_pairs(np.zeros(0, np.uint64))) == []
    assert list(close_pairs(np.zeros(1, np.uint64))) == []


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Clouds of noise, each its own: uint8 [count, 3, 64, 64]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 9, 9, generator=generator)
    return (torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic") * 255).clamp(0, 255).to(torch.uint8)


def bits_turned(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    return np.bitwise_count(perceptual_hashes(one) ^ perceptual_hashes(other))


def test_light_and_contrast_leave_hashes_as_they_are() -> None:
    image = pictures(50).float()
    assert bits_turned(image, 0.5 * image + 40).max() <= 1  # a frequency at the very median may turn by rounding


def test_compression_turns_few_bits_and_another_picture_half() -> None:
    image = pictures(50)
    again = []
    for each in image:
        held = io.BytesIO()
        Image.fromarray(each.permute(1, 2, 0).numpy()).save(held, "JPEG", quality=75)
        again.append(torch.from_numpy(np.array(Image.open(held))).permute(2, 0, 1))
    assert bits_turned(image, torch.stack(again)).max() <= 7
    assert 28 <= bits_turned(image, image.roll(1, 0)).mean() <= 36


def test_connected_numbers_are_the_components() -> None:
    pairs = np.array([[1, 2], [3, 4], [2, 3], [8, 9], [12, 10], [10, 11], [12, 11]])
    assert connected(pairs) == [[1, 2, 3, 4], [8, 9], [10, 11, 12]]
    assert connected(np.zeros((0, 2), np.int64)) == []
