"""RandAugment's operations against Pillow, geometry against what it must do to whole pixels, and its draws."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from layerwise.data.rand_augment import (
    OPERATIONS,
    RandAugment,
    RandAugmentConfig,
    autocontrast,
    brightness,
    contrast,
    equalize,
    posterize,
    rotate,
    saturation,
    sharpness,
    shear_x,
    shear_y,
    solarize,
    translate_x,
    translate_y,
)
from layerwise.ops.random import Draws


def smooth_pictures(count: int = 6, height: int = 24, width: int = 30) -> Tensor:
    """Pictures with structure: waves of several colours, uint8 [B, 3, H, W]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [
        [80 + 60 * torch.sin(0.2 * (k + 1) * x + c) + 40 * torch.cos(0.31 * y * (c + 1)) for c in range(3)]
        for k in range(count)
    ]
    return torch.stack([torch.stack(each) for each in waves]).clamp(0, 255).to(torch.uint8)


def to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def levels(count: int, value: float) -> Tensor:
    return torch.full((count,), value, dtype=torch.float64)


@pytest.mark.parametrize("value", [-0.9, -0.27, 0.0, 0.27, 0.9])
@pytest.mark.parametrize(
    ("operation", "enhancer"),
    [
        (brightness, ImageEnhance.Brightness),
        (saturation, ImageEnhance.Color),
        (contrast, ImageEnhance.Contrast),
        (sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_pillows_within_two_grey_levels(operation, enhancer, value: float) -> None:
    # Pillow rounds the grey picture or the mean first and cuts decimals off: each is up to one level, times the factor.
    image = smooth_pictures()
    ours = operation(image, levels(len(image), value))
    for own, picture in zip(ours, image, strict=True):
        theirs = from_pillow(enhancer(to_pillow(picture)).enhance(1 + value))
        assert int((own.int() - theirs.int()).abs().max()) <= 2


@pytest.mark.parametrize("bits", [0, 1, 2, 4])
def test_posterize_is_pillows(bits: int) -> None:
    image = smooth_pictures()
    for own, picture in zip(posterize(image, levels(len(image), bits)), image, strict=True):
        assert torch.equal(own, from_pillow(ImageOps.posterize(to_pillow(picture), 8 - bits)))


@pytest.mark.parametrize("level", [0.0, 76.5, 200.0, 255.0])
def test_solarize_is_pillows(level: float) -> None:
    image = smooth_pictures()
    for own, picture in zip(solarize(image, levels(len(image), level)), image, strict=True):
        assert torch.equal(own, from_pillow(ImageOps.solarize(to_pillow(picture), 255 - level)))


@pytest.mark.parametrize(
    ("operation", "theirs"), [(autocontrast, ImageOps.autocontrast), (equalize, ImageOps.equalize)]
)
def test_histogram_operations_are_pillows(operation, theirs) -> None:
    image = torch.cat([smooth_pictures(), torch.full((1, 3, 24, 30), 77, dtype=torch.uint8)])
    for own, picture in zip(operation(image, levels(len(image), 0)), image, strict=True):
        assert torch.equal(own, from_pillow(theirs(to_pillow(picture))))


def test_translations_by_whole_pixels_are_shifts() -> None:
    image = smooth_pictures()
    left = translate_x(image, levels(len(image), 3 / 30))
    assert torch.equal(left[..., :-3], image[..., 3:])
    assert not left[..., -3:].any()
    down = translate_y(image, levels(len(image), -2 / 24))
    assert torch.equal(down[..., 2:, :], image[..., :-2, :])
    assert not down[..., :2, :].any()


@pytest.mark.parametrize("value", [math.pi / 2, -math.pi / 2, math.pi])
def test_right_angles_are_turns(value: float) -> None:
    image = smooth_pictures(height=20, width=20)
    assert torch.equal(rotate(image, levels(len(image), value)), image.rot90(round(value / (math.pi / 2)), (2, 3)))


def test_shears_are_pillows_about_the_centre() -> None:
    image, level = smooth_pictures(), 0.2
    for operation, swapped in ((shear_x, False), (shear_y, True)):
        for own, picture in zip(operation(image, levels(len(image), level)), image, strict=True):
            # Pillow works from the corner: the centre (15, 12) is held by an offset.
            matrix = (1, 0, 0, level, 1, -level * 15) if swapped else (1, level, -level * 12, 0, 1, 0)
            theirs = from_pillow(
                to_pillow(picture).transform((30, 24), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
            )
            inside = from_pillow(
                Image.new("RGB", (30, 24), (255, 255, 255)).transform(
                    (30, 24), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST
                )
            ).bool()
            inside[:, :2], inside[:, -2:], inside[..., :2], inside[..., -2:] = False, False, False, False
            for shift in (-1, 1):  # and not beside the outside, where we blend with black and Pillow does not
                inside &= inside.roll(shift, 2) & inside.roll(shift, 1)
            assert int(inside.sum()) > 1000
            assert int((own.int() - theirs.int()).abs()[inside].max()) <= 1


def apply(image: Tensor, ids: Tensor, epoch: int = 0, **options: int) -> Tensor:
    transform = RandAugment(RandAugmentConfig(**options))
    return transform({"image": image, "sample_ids": ids}, Draws(0, "augment", epoch))["image"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_draws_are_those_of_the_sample_whatever_the_batch(channels: int) -> None:
    image = smooth_pictures(12).repeat(1, 2, 1, 1)[:, :channels]
    ids = torch.arange(100, 112)
    whole, kept = apply(image, ids), image.clone()
    assert torch.equal(image, kept)
    assert torch.equal(apply(image[5:9], ids[5:9]), whole[5:9])
    assert not torch.equal(apply(image, ids, epoch=1), whole)
    assert apply(image[:0], ids[:0]).shape == (0, channels, 24, 30)


def test_no_magnitude_leaves_all_but_the_histogram_operations() -> None:
    image, ids = smooth_pictures(64), torch.arange(64)
    free = [name for name in OPERATIONS if name not in ("autocontrast", "equalize")]
    chosen = Draws(0, "augment", 0).integers(ids, (1,), "rand_augment", len(OPERATIONS))[:, 0]
    still = torch.tensor([list(OPERATIONS)[k] in free for k in chosen.tolist()])
    result = apply(image, ids, num_ops=1, magnitude=0)
    assert torch.equal(result[still], image[still])
    assert not torch.equal(result, image)


def test_all_operations_are_drawn_equally_often() -> None:
    chosen = Draws(3, "augment", 0).integers(torch.arange(14_000), (1,), "rand_augment", len(OPERATIONS))
    counts = chosen.flatten().bincount(minlength=len(OPERATIONS))
    # Binomial(14000, 1 / 14): mean 1000, deviation 30.5; five of them.
    assert int((counts - 1000).abs().max()) < 153
