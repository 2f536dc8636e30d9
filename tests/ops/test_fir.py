"""Filtered convolutions against scipy, in float64: zeros put between, full convolutions, borders cut."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d, correlate2d, upfirdn

from layerwise.ops.fir import TAPS, compose, conv_down, conv_up, filter_kernel, upsample

LINE = np.array(TAPS) / 8.0  # sums to one
FILTER = np.outer(LINE, LINE)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def stuffed(plane: np.ndarray) -> np.ndarray:
    """Zeros after every pixel, both ways."""
    out = np.zeros((2 * plane.shape[0], 2 * plane.shape[1]))
    out[::2, ::2] = plane
    return out


def test_filter_is_the_papers() -> None:
    np.testing.assert_allclose(filter_kernel(TAPS, random(1)).numpy(), FILTER, rtol=1e-14)
    assert FILTER.sum() == pytest.approx(1.0)


def test_composed_kernel_is_the_full_convolution() -> None:
    weight = random(2, 3, 3, 3)
    found = compose(weight)
    for o in range(2):
        for i in range(3):
            np.testing.assert_allclose(found[o, i].numpy(), convolve2d(weight[o, i].numpy(), FILTER), atol=1e-14)


def test_upsampling_is_scipys_upfirdn() -> None:
    """Gain 2 along each axis; the first tap above the first pixel's own place is cut off on either side."""
    x = random(2, 3, 5, 7)
    for b in range(2):
        for c in range(3):
            rows = upfirdn(2 * LINE, x[b, c].numpy(), up=2, axis=0)[1 : 1 + 10]
            wanted = upfirdn(2 * LINE, rows, up=2, axis=1)[:, 1 : 1 + 14]
            np.testing.assert_allclose(upsample(x)[b, c].numpy(), wanted, rtol=1e-12, atol=1e-12)


def test_upsampling_keeps_a_flat_picture_flat_inside() -> None:
    found = upsample(torch.ones(1, 1, 6, 6, dtype=torch.float64))
    torch.testing.assert_close(found[..., 2:-2, 2:-2], torch.ones(1, 1, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize("size", [1, 3])
def test_conv_up_is_zero_stuffing_convolution_and_filter_one_after_the_other(size: int) -> None:
    """With K = 3: the reference's transposed convolution of 2 H + 1 pixels, padded by one, then filtered."""
    x, weight = random(2, 3, 4, 6), random(5, 3, size, size)
    found = conv_up(x, weight)
    assert found.shape == (2, 5, 8, 12)
    rim = (size - 1) // 2
    for b in range(2):
        for o in range(5):
            total = np.zeros((0, 0))
            for i in range(3):
                made = convolve2d(stuffed(x[b, i].numpy()), weight[o, i].numpy())
                made = 4 * convolve2d(made, FILTER)
                total = made if i == 0 else total + made
            cut = rim + 1
            wanted = total[cut : cut + 8, cut : cut + 12]
            np.testing.assert_allclose(found[b, o].numpy(), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 3])
def test_conv_down_is_filter_and_strided_convolution_one_after_the_other(size: int) -> None:
    """Padding at the filter, none at the convolution, every second pixel kept, as in the reference."""
    x, weight = random(2, 3, 8, 6), random(5, 3, size, size)
    found = conv_down(x, weight)
    assert found.shape == (2, 5, 4, 3)
    pad = (size - 1) // 2 + 1
    for b in range(2):
        for o in range(5):
            total = np.zeros((4, 3))
            for i in range(3):
                filtered = convolve2d(np.pad(x[b, i].numpy(), pad), FILTER, mode="valid")
                total += correlate2d(filtered, weight[o, i].numpy(), mode="valid")[::2, ::2]
            np.testing.assert_allclose(found[b, o].numpy(), total, rtol=1e-12, atol=1e-12)
