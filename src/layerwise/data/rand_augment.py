"""RandAugment: a few operations drawn for each picture, all of one strength.

E. D. Cubuk, B. Zoph, J. Shlens, Q. V. Le, "RandAugment: practical automated data augmentation with a reduced search
space", 2020, https://arxiv.org/abs/1909.13719. Ranges of the operations as in torchvision's `RandAugment`.

Differs from the paper: an operation works on all pictures of a batch that drew it at once; geometry is bilinear, about
the centre, black outside; grey pictures are not changed by `saturation`.

Shape legend: B batch, C channels, H W height and width.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.config import PositiveInt, Range
from layerwise.data.examples import Batch
from layerwise.data.transforms import blend, grey_of, images_of, resample, to_uint8
from layerwise.ops.random import Draws


@dataclass(frozen=True, kw_only=True)
class RandAugmentConfig:
    """How much is changed.

    Args:
        num_ops: operations a picture, one after the other.
        magnitude: strength of each, from 0 (none) to 30.
    """

    num_ops: PositiveInt = 2
    magnitude: Annotated[int, Range(0, 30)] = 9


def _geometry(image: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """The picture at `(a x + b y + dx, c x + d y + dy)`, in pixels from the centre; arguments [B]."""
    rows, columns = image.shape[2:]
    matrix = torch.stack(
        [
            torch.stack([a, b * rows / columns, 2 * dx / columns], 1),
            torch.stack([c * columns / rows, d, 2 * dy / rows], 1),
        ],
        1,
    )
    return resample(image, matrix, (rows, columns), "zeros")


def shear_x(image: Tensor, level: Tensor) -> Tensor:
    """Rows pushed aside by `level` (signed, [B]) pixels a row."""
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _geometry(image, one, level, zero, one, zero, zero)


def shear_y(image: Tensor, level: Tensor) -> Tensor:
    """Columns pushed up or down by `level` pixels a column."""
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _geometry(image, one, zero, level, one, zero, zero)


def translate_x(image: Tensor, level: Tensor) -> Tensor:
    """Moved to the left by `level` times the width."""
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _geometry(image, one, zero, zero, one, level * image.shape[3], zero)


def translate_y(image: Tensor, level: Tensor) -> Tensor:
    """Moved up by `level` times the height."""
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return _geometry(image, one, zero, zero, one, zero, level * image.shape[2])


def rotate(image: Tensor, level: Tensor) -> Tensor:
    """Turned counter-clockwise by `level` radians about the centre."""
    cos, sin, zero = level.cos(), level.sin(), torch.zeros_like(level)
    return _geometry(image, cos, -sin, sin, cos, zero, zero)


def brightness(image: Tensor, level: Tensor) -> Tensor:
    """Multiplied by 1 + level."""
    return to_uint8(blend(image.float(), torch.zeros(()), _factor(level)))


def saturation(image: Tensor, level: Tensor) -> Tensor:
    """Away from its own grey by a factor of 1 + level."""
    x = image.float()
    return to_uint8(blend(x, grey_of(x), _factor(level))) if image.shape[1] == 3 else image


def contrast(image: Tensor, level: Tensor) -> Tensor:
    """Away from its mean grey by a factor of 1 + level."""
    x = image.float()
    grey = grey_of(x) if image.shape[1] in (1, 3) else x
    return to_uint8(blend(x, grey.mean((1, 2, 3), keepdim=True), _factor(level)))


def sharpness(image: Tensor, level: Tensor) -> Tensor:
    """Away from its smoothed self by a factor of 1 + level; border pixels stay (as in Pillow)."""
    x = image.float()
    kernel = torch.ones(3, 3, device=image.device)
    kernel[1, 1] = 5
    smooth = x.clone()
    if min(image.shape[2:]) > 2:
        inner = F.conv2d(x.flatten(0, 1)[:, None], kernel[None, None] / 13).unflatten(0, image.shape[:2])[:, :, 0]
        smooth[:, :, 1:-1, 1:-1] = inner.round()
    return to_uint8(blend(x, smooth, _factor(level)))


def posterize(image: Tensor, level: Tensor) -> Tensor:
    """Only the highest 8 - level bits kept."""
    mask = (256 - 2.0 ** level.round()).to(torch.uint8)
    return image & mask[:, None, None, None]


def solarize(image: Tensor, level: Tensor) -> Tensor:
    """Pixels of 255 - level and above inverted."""
    return torch.where(image >= (255 - level)[:, None, None, None], 255 - image, image)


def autocontrast(image: Tensor, level: Tensor) -> Tensor:
    """Each channel stretched to the whole range; one of a single value stays."""
    low = image.amin((2, 3), keepdim=True).double()
    span = image.amax((2, 3), keepdim=True) - low
    scale = 255.0 / span.clamp(min=1)
    stretched = (image * scale - low * scale).clamp_(0, 255).to(torch.uint8)
    return torch.where(span > 0, stretched, image)


def equalize(image: Tensor, level: Tensor) -> Tensor:
    """Each channel's histogram made flat."""
    planes = image.flatten(2).flatten(0, 1).long()
    counts = torch.zeros(len(planes), 256, dtype=torch.int64, device=image.device)
    counts.scatter_add_(1, planes, torch.ones_like(planes))
    last = planes.amax(1, keepdim=True)
    step = (planes.shape[1] - counts.gather(1, last)) // 255
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    levels = torch.where(step > 0, table.gather(1, planes), planes)
    return levels.to(torch.uint8).view(image.shape)


def _factor(level: Tensor) -> Tensor:
    return 1 + level[:, None, None, None].float()


Operation = Callable[[Tensor, Tensor], Tensor]

# Operation, its level at the largest magnitude, and whether the sign of the level is drawn.
OPERATIONS: Mapping[str, tuple[Operation, float, bool]] = {
    "identity": (lambda image, level: image, 0.0, False),
    "shear_x": (shear_x, 0.3, True),
    "shear_y": (shear_y, 0.3, True),
    "translate_x": (translate_x, 150 / 331, True),
    "translate_y": (translate_y, 150 / 331, True),
    "rotate": (rotate, math.radians(30), True),
    "brightness": (brightness, 0.9, True),
    "saturation": (saturation, 0.9, True),
    "contrast": (contrast, 0.9, True),
    "sharpness": (sharpness, 0.9, True),
    "posterize": (posterize, 4.0, False),
    "solarize": (solarize, 255.0, False),
    "autocontrast": (autocontrast, 0.0, False),
    "equalize": (equalize, 0.0, False),
}


class RandAugment:
    """`num_ops` times: one of `OPERATIONS`, all equally likely, at `magnitude / 30` of its largest level."""

    def __init__(self, config: RandAugmentConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        choices = draws.integers(ids, (self.config.num_ops,), "rand_augment", len(OPERATIONS))
        signs = 1 - 2 * draws.integers(ids, (self.config.num_ops,), "rand_augment-sign", 2).double()
        image = image.clone()
        for k in range(self.config.num_ops):
            for index, (operation, largest, signed) in enumerate(OPERATIONS.values()):
                rows = (choices[:, k] == index).nonzero().squeeze(1)
                if len(rows):
                    level = largest * self.config.magnitude / 30 * (signs[rows, k] if signed else torch.ones(len(rows)))
                    image[rows] = operation(image[rows], level.double().to(image.device))
        return {**batch, "image": image}


TRANSFORMS = {"rand_augment": RandAugmentConfig()}
