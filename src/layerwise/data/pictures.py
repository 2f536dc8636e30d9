"""From the bytes of a picture file to uint8 pixels, the same in training, evaluation, predict and serve.

Grey pictures, palettes, transparency (laid on white), CMYK, 16 bits (scaled to 8 and rounded), animations (first frame)
and EXIF rotation are understood. A size given is reached as `Fit` says: in one resampling, or in the two steps of the
library that a checkpoint came from, to the same pixels.
"""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.fit import Fit

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM")  # of a file, whatever its name ends in
MAY_MOVE = (".gif", ".webp", ".png", ".tif", ".tiff")  # files that can hold several pictures, one after the other
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,  # where a person has made warnings errors
)
# Pillow warns of every picture over 89 million pixels (a camera of today makes them) and refuses double that, and warns
# of metadata that pixels do not depend on; it names no file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what turns a picture of each EXIF orientation upright (EXIF 2.32, tag 0x0112)
_SHOWN = 5
_MOST_PIXELS = 1 << 27  # of a picture on its way to its size
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")


class UnreadablePicture(DataError):
    """A file that is no picture, is truncated, or has pixels that 8 bits cannot stand for."""


def decode_image(
    source: Path | str | bytes, size: tuple[int, int] | Fit | None = None, channels: int | None = None
) -> Tensor:
    """One picture.

    Args:
        source: a file or its bytes.
        size: (height, width) of the result, or how it is reached; None keeps the picture's.
        channels: 1 for grey, 3 for colour; None takes what the picture has.

    Returns:
        uint8 [channels, height, width].

    Raises:
        UnreadablePicture: the file cannot be decoded in full; the message names it.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    fit = Fit(size=size) if isinstance(size, tuple) else size
    try:
        with open_picture(source) as opened:
            if fit is not None and _in_one_step(fit):
                side = 2 * max(fit.size)
                opened.draft(opened.mode, (side, side))  # JPEG decodes at a fraction of its size
            opened.load()
            turn = _UPRIGHT.get(orientation(opened))
            picture = flatten_picture(opened if turn is None else opened.transpose(turn))
            wanted = channels or (1 if picture.mode == "L" else 3)
            picture = picture.convert("L" if wanted == 1 else "RGB")
            if fit is not None:
                picture = fit_picture(picture, fit)
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file.") from None
    except UNREADABLE as error:
        raise UnreadablePicture(f"{name} cannot be read as a picture: {_reason(error)}.") from error
    pixels = np.array(picture)
    return (
        torch.from_numpy(pixels)[None] if pixels.ndim == 2 else torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    )


class OpenPicture:
    """A picture file whose header is read and whose pixels are not.

    Args:
        content: its bytes.

    Attributes:
        height, width: of the picture once it is upright.

    Raises:
        UnreadablePicture: it is no picture.
    """

    def __init__(self, content: bytes) -> None:
        try:
            self._opened = open_picture(content)
            self._turn = _UPRIGHT.get(turned := orientation(self._opened))
        except UNREADABLE as error:
            raise UnreadablePicture(_reason(error)) from error
        self._sideways = turned >= 5
        self.width, self.height = self._opened.size[::-1] if self._sideways else self._opened.size

    def window(self, box: tuple[int, int, int, int], size: tuple[int, int], channels: int) -> Tensor:
        """A window of the picture resized bilinearly with antialiasing: within one grey level of Pillow's on the window
        cut out. A JPEG is decoded at a half, a quarter or an eighth where the window then still has no less than
        `size`; its edges are rounded to the pixels decoded, so they may be off by half a pixel of the result.

        Args:
            box: (top, left, height, width) in the upright picture.
            size: height and width of the result.
            channels: 1 for grey, 3 for colour.

        Returns:
            uint8 [channels, *size], its values laid out channel by channel within a pixel.

        Raises:
            UnreadablePicture: the pixels cannot be decoded in full.
        """
        top, left, height, width = box
        opened, (whole_width, whole_height) = self._opened, self._opened.size
        try:
            shrink = min(height / size[0], width / size[1])
            if shrink >= 2:
                opened.draft(opened.mode, (int(whole_width / shrink), int(whole_height / shrink)))
            opened.load()
            picture = flatten_picture(opened if self._turn is None else opened.transpose(self._turn))
            x, y = picture.width / self.width, picture.height / self.height  # 1, or a JPEG's fraction
            right, bottom = round((left + width) * x), round((top + height) * y)
            left, top = min(round(left * x), right - 1), min(round(top * y), bottom - 1)
            picture = picture.convert("L" if channels == 1 else "RGB").crop((left, top, right, bottom))
        except UNREADABLE as error:
            raise UnreadablePicture(_reason(error)) from error
        pixels = torch.from_numpy(np.array(picture)).view(1, picture.height, picture.width, channels)
        if pixels.shape[1:3] != size:
            pixels = F.interpolate(pixels.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
            return pixels[0]
        return pixels.permute(0, 3, 1, 2)[0]


def open_picture(source: Path | str | bytes | io.BytesIO) -> Image.Image:
    """A picture file's header, for `with`; only formats that are decoded without another program's help.

    Raises:
        PIL.UnidentifiedImageError: none of them, and what else is in `UNREADABLE`.
    """
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)


def orientation(opened: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8; damaged metadata say nothing, and the pixels count."""
    try:
        found = opened.getexif().get(0x0112, 1)
    except (*UNREADABLE, LookupError, TypeError):
        return 1
    return found if found in _UPRIGHT else 1


def _reason(error: Exception) -> str:
    """What is wrong, without the object in memory that Pillow names."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is empty, no picture, or none of {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):
        return str(error).replace("Image size (", "it is too large (").partition(",")[0]
    return str(error).removesuffix(".")


def flatten_picture(picture: Image.Image) -> Image.Image:
    """The picture in mode L or RGB, transparency laid on white."""
    mode = picture.mode
    if mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        return Image.fromarray(_to_8_bits(np.asarray(picture), mode))
    if mode in ("LA", "La"):
        picture = picture.convert("LA")
        white = Image.new("L", picture.size, 255)
        white.paste(picture.getchannel("L"), mask=picture.getchannel("A"))
        return white
    grey = is_grey(mode, picture.getpalette() if mode == "P" else None)
    if mode in ("RGBA", "RGBa", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, (255, 255, 255))
        white.paste(picture, mask=picture.getchannel("A"))
        picture = white
    return picture.convert("L" if grey else "RGB")


def _to_8_bits(pixels: Any, mode: str) -> Any:
    """16-bit integers by 255 / 65535, floats in [0, 1] by 255, both rounded.

    Raises:
        ValueError: other ranges, whose white nobody can know.
    """
    if mode == "F":
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError("its floating-point pixels are not all in [0, 1]")
        return np.round(pixels * 255.0).astype(np.uint8)
    wide = pixels.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise ValueError("its 32-bit pixels are not all in 0..65535")
    return ((wide + 128) // 257).astype(np.uint8)


def _in_one_step(fit: Fit) -> bool:
    return fit.resize is None and fit.mode == "crop"


def fit_picture(picture: Image.Image, fit: Fit) -> Image.Image:
    """The picture brought to `fit.size`; one that has it already is left as it is, unless more is cut off."""
    resample = Image.Resampling[fit.interpolation.upper()]
    (height, width), (have_width, have_height) = fit.size, picture.size
    if _in_one_step(fit):
        if (have_height, have_width) == fit.size:
            return picture
        scale = max(height / have_height, width / have_width)
        box_width, box_height = width / scale, height / scale
        left, top = (have_width - box_width) / 2, (have_height - box_height) / 2
        box = (max(left, 0.0), max(top, 0.0), min(left + box_width, have_width), min(top + box_height, have_height))
        return picture.resize((width, height), resample, box=box)
    new_height, new_width = fit.resize or fit.size
    if fit.mode == "crop":
        new_height, new_width = _covering(have_height, have_width, new_height, new_width)
        if new_height * new_width > _MOST_PIXELS:
            raise ValueError(f"{have_width} x {have_height} is too long a strip to be resized to {width} x {height}")
    picture = picture.resize((new_width, new_height), resample)
    top, left = round((new_height - height) / 2), round((new_width - width) / 2)
    return picture.crop((left, top, left + width, top + height))


def _covering(have_height: int, have_width: int, height: int, width: int) -> tuple[int, int]:
    """Smallest size of the same proportions that covers height x width. The longer side of a square's cover is rounded
    down, as torchvision and timm do.
    """
    scale = max(height / have_height, width / have_width)
    if height != width:
        return max(height, round(have_height * scale)), max(width, round(have_width * scale))
    if have_height <= have_width:
        return height, math.floor(height * have_width / have_height)
    return math.floor(width * have_height / have_width), width


class Header(NamedTuple):
    """What a picture's header tells.

    Attributes:
        height, width: once it is upright.
        grey: it has no colours.
        moves: it is an animation, or has several pages; the first is taken.
    """

    height: int
    width: int
    grey: bool
    moves: bool


def probe_image(source: Path | bytes) -> Header:
    """A picture's header.

    Raises:
        UnreadablePicture: not a picture.
    """
    try:
        with open_picture(source) as opened:
            width, height = opened.size
            if orientation(opened) >= 5:
                width, height = height, width
            grey = is_grey(opened.mode, opened.getpalette() if opened.mode == "P" else None)
            moves = opened.format != "MPO" and getattr(opened, "is_animated", False)  # MPO: one picture and previews
            return Header(height, width, grey, moves)
    except UNREADABLE as error:
        raise UnreadablePicture(_reason(error)) from error


def moving_note(names: Sequence[str]) -> str:
    """What a person should know of animations; '' of none."""
    if not names:
        return ""
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    several = f"{len(names)} files hold" if len(names) > 1 else "1 file holds"
    return f"{several} several pictures (animations or pages); the first is taken: {shown}."


def is_grey(mode: str, palette: list[int] | None) -> bool:
    """Whether a picture of this mode (and palette of red, green, blue triples) has no colours."""
    if palette is not None:
        return palette[0::3] == palette[1::3] == palette[2::3]
    return mode in _GREY_MODES
