"""Pictures of several pictures: grids of samples, and how such a grid changed as training went. PNG files."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.track import files

_SIDE = 40  # pixels that a picture in a report has at least
_MOST_FRAMES = 60  # of an animation, evenly spaced
_FRAME_MS, _LAST_MS = 400, 2000  # that a frame stays


def enlarged(pictures: Tensor) -> Tensor:
    """Small pictures [N, C, H, W] with every pixel repeated, so that a report shows more than a stamp."""
    factor = math.ceil(_SIDE / pictures.shape[-1])
    return pictures.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def save_grid(pictures: Tensor, path: Path, gap: int = 2, columns: int | None = None) -> None:
    """Write uint8 pictures [N, C, H, W] with one or three channels as one PNG, about as wide as high where no number of
    columns is given. The file is whole or not there.
    """
    count, channels, height, width = pictures.shape
    if channels not in (1, 3):
        raise DataError(f"Pictures with {channels} channels cannot be written as PNG; 1 or 3 can.")
    columns = columns or math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    canvas = torch.full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[:, top : top + height, left : left + width] = picture
    array = canvas.permute(1, 2, 0).contiguous().numpy()
    stream = io.BytesIO()
    Image.fromarray(array[:, :, 0] if channels == 1 else array).save(stream, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, stream.getvalue())


def chosen_evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """The first, the last and those between, evenly spaced; all where there are few."""
    if len(paths) <= most:
        return list(paths)
    return [paths[round(i * (len(paths) - 1) / (most - 1))] for i in range(most)]


def animate(frames: Sequence[Path], path: Path) -> Path:
    """One picture after the other as an animated PNG that begins again; readers without animations show the first.

    Args:
        frames: PNG files of one size, at least two; of more than 60 some are left out.
    """
    pictures: list[Image.Image] = []
    for frame in chosen_evenly(frames, _MOST_FRAMES):
        with Image.open(frame) as picture:
            pictures.append(picture.copy())
    durations = [_FRAME_MS] * (len(pictures) - 1) + [_LAST_MS]
    stream = io.BytesIO()
    pictures[0].save(
        stream, format="PNG", save_all=True, append_images=pictures[1:], duration=durations, loop=0, disposal=0
    )
    files.write_bytes(path, stream.getvalue())
    return path
