"""Pictures of what explain found, as PIL images: filters, maps, heat over a picture.

Numbers become colours by palettes that read in grey print as well: dark to light for amounts, blue by white to red for
signed values.
"""

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from layerwise.core.errors import NumericsError

Colours = NDArray[np.uint8]  # [..., 3]

_AMOUNT = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
_SIGNED = ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43))
_FOR, _AGAINST = (214, 47, 39), (34, 94, 190)
_PAPER, _INK, _GREY = (255, 255, 255), (29, 32, 37), (102, 109, 120)
_PANEL = 224  # pixels of a picture's longer side
_GAP = 12


def palette(values: NDArray[np.floating], anchors: Sequence[tuple[int, int, int]]) -> Colours:
    """Values in [0, 1] to colours between evenly spaced anchors."""
    places = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(values, places, [a[k] for a in anchors]) for k in range(3)], -1).round().astype(np.uint8)


def _finite(values: Tensor) -> Tensor:
    if not bool(values.isfinite().all()):
        raise NumericsError("values that are not finite cannot be drawn")
    return values


def amounts(values: Tensor) -> Colours:
    """[H, W], dark for the least and light for the most.

    Raises:
        NumericsError: a value is not finite, here and below.
    """
    span = _finite(values).max() - values.min()
    return palette(((values - values.min()) / span.clamp(min=1e-12)).cpu().double().numpy(), _AMOUNT)


def signed(values: Tensor) -> Colours:
    """[H, W], blue below zero, white at zero, red above."""
    return palette((0.5 + 0.5 * _finite(values) / values.abs().max().clamp(min=1e-12)).cpu().double().numpy(), _SIGNED)


def colour_filter(values: Tensor) -> Colours:
    """A filter over colours [3, H, W] as the picture it answers to most; grey is no answer."""
    scaled = 0.5 + 0.5 * _finite(values) / values.abs().max().clamp(min=1e-12)
    return (255 * scaled).round().permute(1, 2, 0).cpu().numpy().astype(np.uint8)


def raw_picture(image: Tensor) -> Colours:
    """uint8 [C, H, W] of one channel (grey) or three and more (their first three are red, green, blue)."""
    colours = image[:1].expand(3, -1, -1) if image.shape[0] < 3 else image[:3]
    return colours.permute(1, 2, 0).cpu().numpy()


def sheet(tiles: Sequence[Colours], *, columns: int, side: int, gap: int = 2) -> Image.Image:
    """Tiles [h, w, 3] of one size in rows, each enlarged by a whole factor to about `side` pixels."""
    height, width = tiles[0].shape[:2]
    scale = max(1, round(side / max(height, width)))
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    page = np.full((rows * (height * scale + gap) - gap, columns * (width * scale + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height * scale + gap), index % columns * (width * scale + gap)
        page[top : top + height * scale, left : left + width * scale] = tile.repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(page)


def overlay(image: Tensor, heat: Tensor) -> Colours:
    """A picture in pale grey under its heat: red speaks for the score, blue against it.

    Args:
        image: uint8 [C, H, W].
        heat: [H, W] or coarser (it is then interpolated), signed; the strongest one in a hundred values are as opaque
            as the strongest.
    """
    size = (image.shape[1], image.shape[2])
    if _finite(heat).shape != size:
        heat = F.interpolate(heat[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    grey = raw_picture(image).astype(np.float64).mean(-1, keepdims=True) * 0.45 + 255 * 0.55
    top = max(float(torch.quantile(heat.abs().flatten().double(), 0.99)), float(heat.abs().max()) * 1e-3, 1e-12)
    strength = (heat.abs() / top).clamp(max=1).cpu().double().numpy()[..., None]
    colour = np.where(heat.cpu().numpy()[..., None] >= 0, np.array(_FOR, float), np.array(_AGAINST, float))
    return (grey + strength * 0.9 * (colour - grey)).round().clip(0, 255).astype(np.uint8)


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file; the same picture gives the same bytes."""
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and knows most alphabets."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def explained_rows(rows: Sequence[tuple[Tensor, Tensor, Sequence[str]]]) -> Image.Image:
    """One row an input: the picture, the picture under its heat, lines of text (the first one large).

    Args:
        rows: (uint8 [C, H, W], heat [h, w], lines).
    """
    return stacked([_row(*row) for row in rows])


def stacked(pages: Sequence[Image.Image]) -> Image.Image:
    """Pages below each other."""
    page = Image.new("RGB", (max(one.width for one in pages), sum(one.height for one in pages)), _PAPER)
    top = 0
    for one in pages:
        page.paste(one, (0, top))
        top += one.height
    return page


def captioned(parts: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures below each other, each under its caption."""
    face, width = font(13), max(420, *(picture.width for _, picture in parts))
    pages: list[Image.Image] = []
    for caption, picture in parts:
        lines = _wrapped(caption, face, width)
        page = Image.new("RGB", (width + 2 * _GAP, 18 * len(lines) + picture.height + 2 * _GAP), _PAPER)
        for index, line in enumerate(lines):
            ImageDraw.Draw(page).text((_GAP, _GAP // 2 + 18 * index), line, font=face, fill=_INK)
        page.paste(picture, (_GAP, _GAP + 18 * len(lines)))
        pages.append(page)
    return stacked(pages)


def _row(image: Tensor, heat: Tensor, lines: Sequence[str]) -> Image.Image:
    panels = [_panel(raw_picture(image)), _panel(overlay(image, heat))]
    sizes = [20, *[13] * (len(lines) - 1)]
    texts = [_wrapped(line, font(size), 236) for line, size in zip(lines, sizes, strict=True)]
    heights = [len(parts) * round(size * 1.35) + 4 for parts, size in zip(texts, sizes, strict=True)]
    left = sum(panel.width + _GAP for panel in panels) + _GAP
    height = max(panels[0].height, sum(heights)) + 2 * _GAP
    row = Image.new("RGB", (left + 248, height), _PAPER)
    for index, panel in enumerate(panels):
        row.paste(panel, (_GAP + index * (panel.width + _GAP), _GAP))
    draw, top = ImageDraw.Draw(row), _GAP
    for parts, size, tall in zip(texts, sizes, heights, strict=True):
        for index, part in enumerate(parts):
            ink = _INK if size > 13 else _GREY
            draw.text((left, top + index * round(size * 1.35)), part, font=font(size), fill=ink)
        top += tall
    return row


def _panel(colours: Colours) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(colours))
    factor = _PANEL / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.NEAREST if factor > 2 else Image.Resampling.BICUBIC)


def _wrapped(text: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines of at most `width` pixels, broken at spaces where there are any; at most four, the rest cut off."""
    lines, rest = [], text
    while rest and len(lines) < 4:
        length = len(rest)
        while length > 1 and face.getlength(rest[:length]) > width:
            length -= 1
        cut = rest.rfind(" ", 1, length) if length < len(rest) and rest[length] != " " else -1
        cut = cut if cut > 0 else length
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    if rest:
        lines[-1] = lines[-1][:-1] + "\N{HORIZONTAL ELLIPSIS}"
    return lines or [""]


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> Image.Image:
    """(name, signed value, text) as bars around zero, red to the right and blue to the left."""
    largest = max((abs(value) for _, value, _ in rows), default=0.0) or 1.0
    face, high, names, half = font(13), 24, 260, 130
    page = Image.new("RGB", (names + 2 * half + 120, high * (len(rows) + 1) + 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    middle = names + half
    draw.text((_GAP, _GAP), _wrapped(title, face, page.width - 2 * _GAP)[0], font=face, fill=_INK)
    for index, (name, value, text) in enumerate(rows):
        top = _GAP + (index + 1) * high
        draw.text((names - 12, top + 3), _wrapped(name, face, names - 24)[0], font=face, fill=_INK, anchor="ra")
        end = middle + value / largest * (half - 8)
        draw.rectangle(
            (min(middle, end), top + 4, max(middle, end), top + high - 6), fill=_FOR if value >= 0 else _AGAINST
        )
        draw.text((names + 2 * half + 8, top + 3), text, font=face, fill=_GREY)
    draw.line((middle, _GAP + high, middle, page.height - _GAP), fill=_GREY)
    return page
