"""How a picture of any size becomes one of a fixed size: settings only. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

from layerwise.core.config import PictureSize
from layerwise.core.errors import ConfigError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
FitMode = Literal["crop", "squash"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a picture of any size becomes one of a fixed size.

    Args:
        size: height and width of the result.
        resize: height and width that the picture is resized to before the centre is cut out; with mode "crop" it keeps
            its proportions and covers both. None: `size`, and with mode "crop" resizing and cutting are one resampling,
            which reads large JPEGs at a fraction of their size.
        interpolation: of the resampling, as Pillow has it (all but "nearest" with antialiasing).
        mode: "crop" keeps the proportions and cuts the centre out; "squash" does not keep them.
    """

    size: PictureSize
    resize: PictureSize | None = None
    interpolation: Interpolation = "bilinear"
    mode: FitMode = "crop"

    def __post_init__(self) -> None:
        if self.resize is not None and any(a < b for a, b in zip(self.resize, self.size, strict=True)):
            raise ConfigError(f"resize={self.resize}: must be at least size={self.size}, which is cut out of it.")
