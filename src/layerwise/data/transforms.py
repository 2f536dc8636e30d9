"""Augmentation of training pictures: whole batches of uint8 `image` [B, C, H, W], every draw hashed from (seed, epoch,
sample id, operation).

What a picture gets therefore does not depend on its batch, on workers or on resumption. Labels stay as they are, so
these serve tasks whose labels do not move with the pixels (classification, contrastive learning), not boxes or masks.

Shape legend: B batch, C channels, H W height and width.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.config import Fraction, NonNegativeFloat, NonNegativeInt, PictureSize, PositiveFloat, Range
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Batch
from layerwise.ops.random import Draws


@dataclass(frozen=True, kw_only=True)
class FlipConfig:
    """Mirror.

    Args:
        probability: share of pictures that are mirrored.
        direction: "horizontal" swaps left and right, "vertical" top and bottom.
    """

    probability: Fraction = 0.5
    direction: Literal["horizontal", "vertical"] = "horizontal"


@dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    """Shift by whole pixels, each direction on its own; what comes in from outside is black.

    Args:
        pixels: largest shift.
    """

    pixels: NonNegativeInt = 2


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Cut a window at a random place.

    Args:
        size: height and width of the window; None takes the picture's.
        padding: pixels added on every side first.
        fill: "zero" pads with black, "reflect" with the mirrored picture.
    """

    size: PictureSize | None = None
    padding: NonNegativeInt = 4
    fill: Literal["zero", "reflect"] = "zero"


@dataclass(frozen=True, kw_only=True)
class RandomResizedCropConfig:
    """Cut a window of random area and shape and resize it (Szegedy et al. 2015).

    Args:
        size: height and width of the result; None takes the picture's.
        scale: smallest and largest share of the picture's area.
        ratio: smallest and largest width / height.
        source: what it is cut out of. "picture" is the one brought to `data.size`, decoded once and kept where memory
            allows; "file" is the file's own, of whatever size and shape, as published for ImageNet: the window is
            resized with antialiasing, nothing is lost to an earlier resizing, and every batch decodes its files.
    """

    size: PictureSize | None = None
    scale: tuple[Annotated[float, Range(0, 1, open_low=True)], Annotated[float, Range(0, 1, open_low=True)]] = (
        0.08,
        1.0,
    )
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 4 / 3)
    source: Literal["picture", "file"] = "picture"

    def __post_init__(self) -> None:
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio}.items():
            if low > high:
                raise ConfigError(f"{name}={low:g}, {high:g}: the first must not be larger than the second.")


@dataclass(frozen=True, kw_only=True)
class AffineConfig:
    """Rotate, scale and move about the centre, bilinear, black outside.

    Args:
        degrees: largest rotation either way.
        scale: smallest and largest magnification.
        translate: largest shift, as a share of height and width.
    """

    degrees: NonNegativeFloat = 10.0
    scale: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.1)
    translate: Fraction = 0.1

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ConfigError(
                f"scale={self.scale[0]:g}, {self.scale[1]:g}: the first must not be larger than the second."
            )


@dataclass(frozen=True, kw_only=True)
class ColourJitterConfig:
    """Change brightness, contrast, saturation and hue, in this order. Grey pictures have no saturation and hue to
    change.

    Args:
        brightness, contrast, saturation: factors are drawn from [1 - value, 1 + value].
        hue: largest turn of the colour circle, as a share of it.
    """

    brightness: Fraction = 0.2
    contrast: Fraction = 0.2
    saturation: Fraction = 0.2
    hue: Annotated[float, Range(0, 0.5)] = 0.0


@dataclass(frozen=True, kw_only=True)
class ErasingConfig:
    """Fill a random rectangle (Zhong et al. 2020, https://arxiv.org/abs/1708.04896).

    Args:
        probability: share of pictures with a rectangle.
        scale: smallest and largest share of the picture's area.
        ratio: smallest and largest width / height.
        value: what it is filled with, 0 to 255.
    """

    probability: Fraction = 0.25
    scale: tuple[Annotated[float, Range(0, 1, open_low=True)], Annotated[float, Range(0, 1, open_low=True)]] = (
        0.02,
        0.33,
    )
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.3, 3.3)
    value: Annotated[int, Range(0, 255)] = 0

    def __post_init__(self) -> None:
        for name, (low, high) in {"scale": self.scale, "ratio": self.ratio}.items():
            if low > high:
                raise ConfigError(f"{name}={low:g}, {high:g}: the first must not be larger than the second.")


@dataclass(frozen=True, kw_only=True)
class BinariseConfig:
    """Black or white, the grey level being the probability of white: other pixels in every epoch. It has no options."""


# ----------------------------------------------------------------------------------------------------- shared pieces


def images_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """(pictures, sample ids) of a raw batch."""
    image = batch.get("image")
    if image is None or image.dtype != torch.uint8 or image.dim() != 4:
        got = "no such column" if image is None else f"{image.dtype} with shape {list(image.shape)}"
        raise DataError(f"data.augment changes pictures: uint8 [B, C, H, W] under 'image'; the data has {got}.")
    return image, batch["sample_ids"]


def to_uint8(image: Tensor) -> Tensor:
    """Rounded to grey levels."""
    return image.round().clamp_(0, 255).to(torch.uint8)


def _windows(padded: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Window [height, width] of every picture at its own (top, left).

    All windows' rows are taken at once from a view in which a row starts at every pixel: 16 times faster here than
    indexing pictures and pixels (423 us against 27 us for 128 pictures of 28 x 28).
    """
    count, channels, rows, columns = padded.shape
    if count == 0:  # a process without a share of the batch
        return padded.new_empty(0, channels, height, width)
    device, flat = padded.device, padded.contiguous().view(-1)
    every_row = flat.as_strided((flat.numel() - width + 1, width), (1, 1))
    plane = torch.arange(count * channels, device=device).view(count, channels) * (rows * columns)
    first = plane + (top * columns + left)[:, None]
    starts = first[:, :, None] + torch.arange(0, height * columns, columns, device=device)
    return every_row.index_select(0, starts.view(-1)).view(count, channels, height, width)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + u * (high - low)


def _boxes(
    draws: Draws,
    ids: Tensor,
    name: str,
    size: tuple[int, int] | tuple[Tensor, Tensor],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whole-pixel (top, left, height, width), int64 [B] each, of boxes with area and shape in range that fit into the
    picture.

    Ten tries a sample; where none fits, the centred box with the nearest allowed shape (as torchvision's
    RandomResizedCrop).

    Args:
        size: rows and columns of the pictures, one pair for all or int64 [B] each.
    """
    rows, columns = (side if isinstance(side, Tensor) else ids.new_full((len(ids),), side) for side in size)
    u = draws.uniform(ids, (10, 2), name, torch.float64)
    area = (rows * columns)[:, None] * _between(u[..., 0], *scale)
    shape = torch.exp(_between(u[..., 1], math.log(ratio[0]), math.log(ratio[1])))
    heights, widths = (area / shape).sqrt().round().long(), (area * shape).sqrt().round().long()
    fits = (heights >= 1) & (heights <= rows[:, None]) & (widths >= 1) & (widths <= columns[:, None])
    first = fits.long().argmax(1, keepdim=True)
    height, width = heights.gather(1, first).squeeze(1), widths.gather(1, first).squeeze(1)
    nearest = (columns.double() / rows).clamp(*ratio)
    none = ~fits.any(1)
    height = torch.where(none, torch.minimum(rows, (columns / nearest).round().long().clamp(min=1)), height)
    width = torch.where(none, torch.minimum(columns, (rows * nearest).round().long().clamp(min=1)), width)
    place = draws.uniform(ids, (2,), f"{name}-place", torch.float64)
    place = torch.where(none[:, None], torch.full_like(place, 0.5), place)
    top = (place[:, 0] * (rows - height + 1)).floor().long()
    left = (place[:, 1] * (columns - width + 1)).floor().long()
    return top, left, height, width


def resample(image: Tensor, matrix: Tensor, size: tuple[int, int], outside: Literal["zeros", "border"]) -> Tensor:
    """Bilinear samples at `matrix` [B, 2, 3] times the output's pixel coordinates (x, y, 1), both in [-1, 1] from edge
    to edge.
    """
    grid = F.affine_grid(matrix.to(torch.float32), [len(image), image.shape[1], *size], align_corners=False)
    return to_uint8(
        F.grid_sample(image.to(torch.float32), grid, mode="bilinear", padding_mode=outside, align_corners=False)
    )


# -------------------------------------------------------------------------------------------------------- transforms


class Flip:
    """Mirrored with probability `probability`."""

    def __init__(self, config: FlipConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        name = f"flip-{self.config.direction}"
        chosen = draws.uniform(ids, (), name) < self.config.probability
        mirrored = image.flip(3 if self.config.direction == "horizontal" else 2)
        # Whole pictures are put back: choosing pixel by pixel takes far longer than mirroring.
        others = (~chosen).nonzero().view(-1)
        _as_rows(mirrored).index_copy_(0, others, _as_rows(image).index_select(0, others))
        return {**batch, "image": mirrored}


def _as_rows(image: Tensor) -> Tensor:
    """Each picture as it lies in memory, [B, C * H * W]; a view, but for pictures laid out otherwise than contiguous or
    channels last.
    """
    last = not image.is_contiguous() and image.is_contiguous(memory_format=torch.channels_last)
    return (image.permute(0, 2, 3, 1) if last else image).reshape(len(image), -1)


class Shift:
    """Moved by (dy, dx), both uniform on -pixels .. pixels."""

    def __init__(self, config: ShiftConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        most = self.config.pixels
        if most == 0:
            return batch
        place = draws.integers(ids, (2,), "shift", 2 * most + 1)
        padded = F.pad(image, (most, most, most, most))
        return {**batch, "image": _windows(padded, place[:, 0], place[:, 1], *image.shape[2:])}


class Crop:
    """A window at a uniform place of the padded picture."""

    def __init__(self, config: CropConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        rows, columns = image.shape[2:]
        height, width = self.config.size or (rows, columns)
        pad = self.config.padding
        if height > rows + 2 * pad or width > columns + 2 * pad:
            raise ConfigError(f"crop.size={height}, {width}: pictures are {rows} x {columns} and are padded by {pad}.")
        if self.config.fill == "reflect" and pad >= min(rows, columns):
            raise ConfigError(
                f"crop.padding={pad}: must be less than the picture's side of {min(rows, columns)} to reflect."
            )
        padded = _pad_reflect(image, pad) if self.config.fill == "reflect" else F.pad(image, (pad, pad, pad, pad))
        u = draws.uniform(ids, (2,), "crop", torch.float64)
        top = (u[:, 0] * (rows + 2 * pad - height + 1)).long()
        left = (u[:, 1] * (columns + 2 * pad - width + 1)).long()
        return {**batch, "image": _windows(padded, top, left, height, width)}


def _pad_reflect(image: Tensor, pad: int) -> Tensor:
    """Mirrored at the border pixel, which is not repeated (torch's own reflection takes no uint8)."""

    def places(length: int) -> Tensor:
        position = torch.arange(-pad, length + pad, device=image.device).abs()
        return torch.minimum(position, 2 * (length - 1) - position)

    return image.index_select(2, places(image.shape[2])).index_select(3, places(image.shape[3]))


class RandomResizedCrop:
    """A box of random area and shape, resized bilinearly (without antialiasing: choose `size` at most that of the
    pictures). Out of files it is cut while they are decoded: `windows` says where.
    """

    def __init__(self, config: RandomResizedCropConfig) -> None:
        self.config = config

    @property
    def cuts_files(self) -> bool:
        """Whether the window is the file's own, so that `windows` is asked in place of calling this."""
        return self.config.source == "file"

    def windows(self, ids: Tensor, sizes: Tensor, draws: Draws) -> Tensor:
        """Where to cut.

        Args:
            ids: samples, int64 [B].
            sizes: rows and columns of each sample's picture, int64 [B, 2].

        Returns:
            (top, left, height, width) of each, int64 [B, 4].
        """
        rows, columns = sizes.unbind(1)
        found = _boxes(draws, ids, "random_resized_crop", (rows, columns), self.config.scale, self.config.ratio)
        return torch.stack(found, 1)

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        rows, columns = image.shape[2:]
        top, left, height, width = _boxes(
            draws, ids, "random_resized_crop", (rows, columns), self.config.scale, self.config.ratio
        )
        matrix = torch.zeros(len(image), 2, 3, dtype=torch.float64, device=image.device)
        matrix[:, 0, 0], matrix[:, 1, 1] = width / columns, height / rows
        matrix[:, 0, 2] = (2 * left + width) / columns - 1
        matrix[:, 1, 2] = (2 * top + height) / rows - 1
        return {**batch, "image": resample(image, matrix, self.config.size or (rows, columns), "border")}


class Affine:
    """Rotated by an angle, scaled by a factor (uniform in its logarithm), moved."""

    def __init__(self, config: AffineConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        rows, columns = image.shape[2:]
        u = draws.uniform(ids, (4,), "affine", torch.float64)
        angle = torch.deg2rad(_between(u[:, 0], -self.config.degrees, self.config.degrees))
        factor = torch.exp(_between(u[:, 1], math.log(self.config.scale[0]), math.log(self.config.scale[1])))
        move = _between(u[:, 2:], -2 * self.config.translate, 2 * self.config.translate)  # in units of half a side
        # The output at p shows the input at R(-angle) (p - move) / factor, in pixels; the grid's units are half sides.
        cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
        matrix = torch.zeros(len(image), 2, 3, dtype=torch.float64, device=image.device)
        matrix[:, 0, 0], matrix[:, 0, 1] = cos, sin * rows / columns
        matrix[:, 1, 0], matrix[:, 1, 1] = -sin * columns / rows, cos
        matrix[:, :, 2] = -(matrix[:, :, :2] @ move[:, :, None]).squeeze(2)
        return {**batch, "image": resample(image, matrix, (rows, columns), "zeros")}


class ColourJitter:
    """Brightness `f x`, contrast about the mean grey, saturation about the own grey, hue turned; rounded once at the
    end.
    """

    def __init__(self, config: ColourJitterConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        if image.shape[1] not in (1, 3):
            raise ConfigError(f"colour_jitter takes pictures of one or three channels, got {image.shape[1]}.")
        config = self.config
        u = draws.uniform(ids, (4, 1, 1, 1), "colour_jitter")
        x = image.to(torch.float32)
        if config.brightness:
            x = (x * _between(u[:, 0], 1 - config.brightness, 1 + config.brightness)).clamp_(0, 255)
        if config.contrast:
            x = blend(
                x, grey_of(x).mean((1, 2, 3), keepdim=True), _between(u[:, 1], 1 - config.contrast, 1 + config.contrast)
            )
        if x.shape[1] == 3 and config.saturation:
            x = blend(x, grey_of(x), _between(u[:, 2], 1 - config.saturation, 1 + config.saturation))
        if x.shape[1] == 3 and config.hue:
            x = turn_hue(x, _between(u[:, 3, 0], -config.hue, config.hue))
        return {**batch, "image": to_uint8(x)}


def grey_of(x: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, [B, 1, H, W]."""
    return x if x.shape[1] == 1 else torch.einsum("bchw,c->bhw", x, x.new_tensor([0.299, 0.587, 0.114]))[:, None]


def blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """`other + factor (x - other)`, cut to [0, 255]: factor 1 is x, above 1 is away from `other`."""
    return (other + factor * (x - other)).clamp_(0, 255)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """RGB [B, 3, H, W] with the hue of HSV moved by `turn` (a share of the circle, [B, 1, 1]); value and chroma stay.

    With k = (n + 6 hue) mod 6 for n = 5, 3, 1, a channel is `value - chroma * clamp(min(k, 4 - k), 0, 1)`.
    """
    red, green, blue = x.unbind(1)
    value = x.amax(1)
    chroma = value - x.amin(1)
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * turn
    channels: list[Tensor] = []
    for n in (5.0, 3.0, 1.0):
        k = torch.remainder(n + hue, 6.0)
        channels.append(value - chroma * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0))
    return torch.stack(channels, 1)


class Erasing:
    """A rectangle of one value, with probability `probability`."""

    def __init__(self, config: ErasingConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        rows, columns = image.shape[2:]
        top, left, height, width = _boxes(draws, ids, "erasing", (rows, columns), self.config.scale, self.config.ratio)
        chosen = draws.uniform(ids, (), "erasing-chosen") < self.config.probability
        y, x = torch.arange(rows, device=image.device), torch.arange(columns, device=image.device)
        inside_y = (y >= top[:, None]) & (y < (top + height)[:, None]) & chosen[:, None]
        inside_x = (x >= left[:, None]) & (x < (left + width)[:, None])
        mask = inside_y[:, None, :, None] & inside_x[:, None, None, :]
        return {**batch, "image": image.masked_fill(mask, self.config.value)}


class Binarise:
    """`255 * [u < x / 255]` with u uniform a value."""

    def __init__(self, config: BinariseConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        image, ids = images_of(batch)
        white = draws.uniform_pairs(ids, tuple(image.shape[1:]), "binarise") * 255 < image
        return {**batch, "image": white.to(torch.uint8).mul_(255)}


TRANSFORMS = {
    "flip": FlipConfig(),
    "shift": ShiftConfig(),
    "crop": CropConfig(),
    "random_resized_crop": RandomResizedCropConfig(),
    "affine": AffineConfig(),
    "colour_jitter": ColourJitterConfig(),
    "erasing": ErasingConfig(),
    "binarise": BinariseConfig(),
}
