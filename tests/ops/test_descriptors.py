"""Descriptors of pictures against scikit-image and numpy."""

import numpy as np
import pytest
import torch
from skimage.feature import hog as reference_hog

from layerwise.core.errors import ConfigError
from layerwise.ops.descriptors import color_histogram, hog


def pictures(channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(channels + height).integers(0, 256, (3, channels, height, width)).astype(np.uint8)


@pytest.mark.parametrize(
    ("channels", "height", "width", "cell"), [(1, 28, 28, 7), (1, 8, 8, 2), (3, 33, 41, 8), (3, 20, 16, 4)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.uint8, 1e-5)], ids=["float64", "uint8"])
def test_hog_is_that_of_scikit_image(
    channels: int, height: int, width: int, cell: int, dtype: torch.dtype, tolerance: float
) -> None:
    """It adds up the votes of a cell in float32, so that float64 agrees to 1e-7."""
    images = pictures(channels, height, width)
    got = hog(torch.from_numpy(images).to(dtype), cell_size=cell)
    for picture, descriptor in zip(images, got.numpy(), strict=True):
        plain = picture[0] if channels == 1 else picture.transpose(1, 2, 0)
        wanted = reference_hog(
            plain.astype(np.float64),
            orientations=9,
            pixels_per_cell=(cell, cell),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
            channel_axis=None if channels == 1 else -1,
        )
        np.testing.assert_allclose(descriptor, wanted, atol=tolerance)


def test_hog_of_a_flat_picture_is_zero() -> None:
    assert not hog(torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)).any()


def test_hog_tells_the_direction_of_an_edge() -> None:
    """Left dark, right light: the gradient points along the x axis, 0 degrees, the first of nine directions."""
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8:] = 1.0
    directions = hog(image).view(-1, 9).sum(0)
    assert directions[0] > 0
    assert not directions[1:].any()


def test_a_picture_smaller_than_a_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="15 x 32 pixels"):
        hog(torch.zeros(1, 1, 15, 32))


@pytest.mark.parametrize(("channels", "bins"), [(3, 8), (1, 64), (3, 5), (2, 256)])
def test_histogram_is_that_of_numpy(channels: int, bins: int) -> None:
    images = pictures(channels, 7, 9)
    # Part k of b holds the values v with floor(v b / 256) = k: edges at k 256 / b, rounded up to whole values.
    edges = [np.ceil(np.arange(bins + 1) * 256 / bins)] * channels
    for picture, histogram in zip(images, color_histogram(torch.from_numpy(images), bins).numpy(), strict=True):
        counts, _ = np.histogramdd(picture.reshape(channels, -1).T, bins=edges)
        np.testing.assert_allclose(histogram, counts.ravel() / (7 * 9), atol=1e-7)
