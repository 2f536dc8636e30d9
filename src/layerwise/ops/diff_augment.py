"""Augmentation that gradients pass through, for a discriminator that sees few pictures.

Paper: S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu, S. Han, "Differentiable augmentation for data-efficient GAN training",
NeurIPS 2020, https://arxiv.org/abs/2006.10738 (section 3.3 and appendix). Real and generated pictures both pass through
it, while the generator learns too, so that what it does never shows in what is generated.

Shapes: B batch, C H W pictures in [-1, 1].
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from layerwise.ops.random import Draws

Augmentation = Literal["colour", "translation", "cutout"]


def differentiable_augment(
    images: Tensor, sample_ids: Tensor, draws: Draws, kinds: Sequence[Augmentation], name: str
) -> Tensor:
    """Pictures [B, C, H, W], each changed by draws of its own.

    Args:
        kinds: "colour" changes brightness by up to 0.5 either way, saturation by a factor of 0 to 2 and contrast by one
            of 0.5 to 1.5; "translation" moves by up to an eighth of the sides, zeros come in; "cutout" sets a rectangle
            of half the sides to zero.
        name: of the draws.
    """
    for kind in kinds:
        u = draws.uniform(sample_ids, (3,), f"{name}-{kind}", torch.float32).to(images.device)
        images = _KINDS[kind](images, u)
    return images


def _colour(x: Tensor, u: Tensor) -> Tensor:
    brightness, saturation, contrast = u.to(x.dtype)[:, :, None, None, None].unbind(1)
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def _translation(x: Tensor, u: Tensor) -> Tensor:
    height, width = x.shape[2:]
    for dim, column, length in ((2, 0, height), (3, 1, width)):
        most = round(length / 8)
        moved = (u[:, column] * (2 * most + 1)).floor().long() - most
        place = torch.arange(length, device=x.device) - moved[:, None]
        inside = (place >= 0) & (place < length)
        shape = [len(x), 1, 1, 1]
        shape[dim] = length
        index = place.clamp(0, length - 1).view(shape).expand(x.shape)
        x = x.gather(dim, index) * inside.view(shape).to(x.dtype)
    return x


def _cutout(x: Tensor, u: Tensor) -> Tensor:
    """The rectangle's centre is anywhere in the picture; what would lie outside is cut off."""
    masks: list[Tensor] = []
    for column, length in ((0, x.shape[2]), (1, x.shape[3])):
        side = round(length / 2)
        centre = (u[:, column] * (length + 1 - side % 2)).floor().long()
        place = torch.arange(length, device=x.device)
        first = (centre - side // 2)[:, None]
        masks.append((place >= first) & (place < first + side))
    hole = masks[0][:, None, :, None] & masks[1][:, None, None, :]
    return x * (~hole).to(x.dtype)


_KINDS = {"colour": _colour, "translation": _translation, "cutout": _cutout}
