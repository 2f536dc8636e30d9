"""Differentiable augmentation against loops written from the paper's appendix."""

import pytest
import torch
from torch import Tensor

from layerwise.ops.diff_augment import Augmentation, differentiable_augment
from layerwise.ops.random import Draws

KINDS: tuple[Augmentation, ...] = ("colour", "translation", "cutout")


def pictures(count: int = 30, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, 16, 8, generator=generator, dtype=torch.float64) * 2 - 1


def augmented(images: Tensor, ids: Tensor | None = None, kinds: tuple[Augmentation, ...] = KINDS) -> Tensor:
    ids = torch.arange(len(images)) if ids is None else ids
    return differentiable_augment(images, ids, Draws(0, "here"), kinds, "fake")


def numbers(kind: str, count: int) -> list[list[float]]:
    return Draws(0, "here").uniform(torch.arange(count), (3,), f"fake-{kind}").tolist()


def test_colour_is_brightness_saturation_contrast() -> None:
    images = pictures(5)
    for x, found, (u, v, w) in zip(images, augmented(images, kinds=("colour",)), numbers("colour", 5), strict=True):
        y = x + (u - 0.5)
        y = (y - y.mean(0)) * (2 * v) + y.mean(0)
        y = (y - y.mean()) * (w + 0.5) + y.mean()
        torch.testing.assert_close(found, y, rtol=1e-10, atol=1e-10)


def test_translation_moves_by_whole_pixels_up_to_an_eighth() -> None:
    images, seen = pictures(400, 1), set()
    for x, found in zip(images, augmented(images, kinds=("translation",)), strict=True):
        fits = []
        for dy in range(-2, 3):
            for dx in range(-1, 2):
                y = torch.zeros_like(x)
                y[:, max(0, dy) : 16 + min(0, dy), max(0, dx) : 8 + min(0, dx)] = x[
                    :, max(0, -dy) : 16 + min(0, -dy), max(0, -dx) : 8 + min(0, -dx)
                ]
                if torch.equal(y, found):
                    fits.append((dy, dx))
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 15  # each of them comes up


def test_cutout_is_one_rectangle_of_at_most_half_the_sides() -> None:
    images = pictures(200, 1)
    found = augmented(images, kinds=("cutout",))
    sizes = set()
    for x, y in zip(images, found, strict=True):
        hole = (y != x)[0]
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert bool(hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all())
        assert int(hole.sum()) == height * width
        assert float(y[hole[None]].abs().max()) == 0.0
        sizes.add((height, width))
    assert max(sizes) == (8, 4)
    assert min(height for height, _ in sizes) < 8  # some are cut off at the border


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_picture_gets_depends_on_its_own_id_alone(kind: Augmentation) -> None:
    images, ids = pictures(), torch.tensor([3, 11, 7])
    assert torch.equal(augmented(images[ids], ids, (kind,)), augmented(images, kinds=(kind,))[ids])


def test_gradients_pass_twice() -> None:
    images = pictures(3)[:, :, :4, :4].contiguous().requires_grad_(True)
    assert torch.autograd.gradcheck(augmented, (images,))
    assert torch.autograd.gradgradcheck(lambda x: augmented(x).square(), (images,))


def test_no_kinds_change_nothing() -> None:
    assert torch.equal(augmented(pictures(), kinds=()), pictures())
