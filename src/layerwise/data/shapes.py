"""Synthetic detection: circles, squares and triangles of random size, colour and overlap.

A picture is a hash of (seed, sample id), so the set needs no files, has any size, and a picture does not depend on how
many others there are.

Shapes: B pictures, K places for objects, M boxes of all pictures, S side of a picture.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from layerwise.core.config import Fraction, NonNegativeInt, PositiveInt, Range
from layerwise.core.errors import ConfigError
from layerwise.data.examples import Batch, Examples, Splits
from layerwise.data.source import DataConfig
from layerwise.ops.boxes import centres_to_corners, covered
from layerwise.ops.random import Draws

CLASS_NAMES = ["circle", "square", "triangle"]
_SPLIT_STEP = 1_000_000_000  # sample ids of validation and test start at one and two of these


@dataclass(frozen=True, kw_only=True)
class ShapesConfig(DataConfig):
    """Options of the shapes.

    Args:
        train_size, val_size, test_size: pictures of each part.
        size: side of a picture, pixels.
        max_objects: places for objects in a picture; their number is even between none and this, less those that would
            hide another.
        extent: smallest and largest side of an object's box, pixels.
        max_hidden: largest share of an object's box that one later object's box may cover.
        noise: largest change of a pixel's colour by noise, of 255.
        seed: of the pictures.
    """

    train_size: PositiveInt = 2000
    val_size: PositiveInt = 300
    test_size: PositiveInt = 500
    size: Annotated[int, Range(16)] = 64
    max_objects: PositiveInt = 5
    extent: tuple[PositiveInt, PositiveInt] = (10, 28)
    max_hidden: Fraction = 0.4
    noise: Annotated[int, Range(0, 127)] = 20
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if not self.extent[0] <= self.extent[1] <= self.size:
            raise ConfigError(f"extent={list(self.extent)}: must rise and be at most size={self.size}.")


def draw_shapes(config: ShapesConfig, sample_ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pictures of these numbers, int64 [B].

    Returns:
        Pictures uint8 [B, 3, S, S]; boxes float32 [B, K, 4] (x1, y1, x2, y2, pixels); classes int64 [B, K]; which
            places are taken, bool [B, K].
    """
    draws, places, side = Draws(config.seed, "shapes"), config.max_objects, config.size
    number = draws.integers(sample_ids, (), "number", places + 1)
    classes = draws.integers(sample_ids, (places,), "class", len(CLASS_NAMES))
    where = draws.uniform(sample_ids, (places, 3), "place")
    extent = config.extent[0] + where[..., 2] * (config.extent[1] - config.extent[0])
    centre = extent[..., None] / 2 + where[..., :2] * (side - extent)[..., None]
    boxes = centres_to_corners(torch.cat([centre, extent[..., None].expand(-1, -1, 2)], dim=-1))
    taken = torch.arange(places) < number[:, None]
    for k in range(1, places):  # a later object gives way to earlier ones that stand
        hidden = torch.vmap(covered)(boxes[:, :k], boxes[:, k : k + 1])[:, :, 0]
        taken[:, k] &= ~((hidden > config.max_hidden) & taken[:, :k]).any(1)
    return _render(config, draws, sample_ids, boxes, classes, taken), boxes, classes, taken


def _render(
    config: ShapesConfig, draws: Draws, sample_ids: Tensor, boxes: Tensor, classes: Tensor, taken: Tensor
) -> Tensor:
    count, places, side = len(sample_ids), config.max_objects, config.size
    background = draws.integers(sample_ids, (3,), "background", 96) + 80
    shift = (
        draws.integers(sample_ids, (places, 3), "colour", 56) + 56
    )  # colours differ from the background by 56 to 111 a channel
    sign = draws.integers(sample_ids, (places, 3), "sign", 2) * 2 - 1
    colours = (background[:, None] + sign * shift).clamp(0, 255).to(torch.int16)
    image = background.to(torch.int16)[:, :, None, None].expand(count, 3, side, side).clone()
    pixel = torch.arange(side) + 0.5
    for k in range(places):
        low, extent = boxes[:, k, :2], boxes[:, k, 2:] - boxes[:, k, :2]
        u = (pixel - low[:, :1]) / extent[:, :1]  # 0 at the box's left edge, 1 at the right: [B, S]
        v = (pixel - low[:, 1:]) / extent[:, 1:]
        u, v = u[:, None, :], v[:, :, None]
        square = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
        circle = (u - 0.5).square() + (v - 0.5).square() <= 0.25
        triangle = square & ((u - 0.5).abs() <= v / 2)
        kind = classes[:, k, None, None]
        inside = torch.where(kind == 0, circle, torch.where(kind == 1, square, triangle)) & taken[:, k, None, None]
        image = torch.where(inside[:, None], colours[:, k, :, None, None], image)
    if config.noise:
        image += (draws.integers(sample_ids, (3, side, side), "noise", 2 * config.noise + 1) - config.noise).to(
            torch.int16
        )
    return image.clamp_(0, 255).to(torch.uint8)


class ShapeExamples(Examples):
    """Pictures drawn once, kept in memory (12 KiB each at 64 pixels).

    Args:
        config: how they are drawn.
        sample_ids: int64 [N].

    Collated: `image` uint8 [B, 3, S, S], `boxes` float32 [M, 4] (x1, y1, x2, y2, pixels), `box_labels` int64 [M],
    `box_sample` int64 [M] (index of the picture in the batch, ascending), `sample_ids` [B].
    """

    def __init__(self, config: ShapesConfig, sample_ids: Tensor) -> None:
        self.sample_ids = sample_ids
        parts = [draw_shapes(config, ids) for ids in sample_ids.split(256)]
        self.image, self.boxes, self.classes, self.taken = (torch.cat(column) for column in zip(*parts, strict=True))

    def __len__(self) -> int:
        return len(self.sample_ids)

    def collate(self, indices: Tensor) -> Batch:
        taken = self.taken.index_select(0, indices)
        return {
            "image": self.image.index_select(0, indices),
            "boxes": self.boxes.index_select(0, indices)[taken],
            "box_labels": self.classes.index_select(0, indices)[taken],
            "box_sample": taken.nonzero()[:, 0],
            "sample_ids": self.sample_ids.index_select(0, indices),
        }

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for part in (self.sample_ids, self.image, self.boxes, self.classes, self.taken):
            digest.update(f"{tuple(part.shape)}{part.dtype}".encode() + part.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


class Shapes:
    """Three classes of shapes on plain noisy backgrounds; some pictures are empty."""

    def __init__(self, config: ShapesConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        sizes = (self.config.train_size, self.config.val_size, self.config.test_size)
        train, val, test = (ShapeExamples(self.config, torch.arange(n) + k * _SPLIT_STEP) for k, n in enumerate(sizes))
        facts = {"num_classes": len(CLASS_NAMES), "in_channels": 3, "image_size": [self.config.size] * 2}
        return Splits(train=train, val=val, test=test, facts=facts, class_names=list(CLASS_NAMES))


DATASETS = {"shapes": ShapesConfig()}
