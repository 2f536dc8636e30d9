"""What networks for pictures of certain sizes do with others: refuse them by name, or pad them.

Modules of their own, so that branches on sizes stand here alone and a network around them can be traced
(`layerwise.infer.freeze`).
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError


class SizeDependent(nn.Module):
    """A part that looks at the size of what it is given: it stays whole when a network is traced."""


class AtLeast(SizeDependent):
    """Pictures as they are, if they are large enough.

    Args:
        smallest: pixels of the shorter side that the network needs.
        name: of the network.
        advised: size to name in the error.

    Shape:
        images [B, C, H, W] -> the same.
    """

    def __init__(self, smallest: int, name: str, *, advised: int) -> None:
        super().__init__()
        self.smallest, self.name, self.advised = smallest, name, advised

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The pictures.

        Raises:
            ConfigError: they are too small.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest:
            raise ConfigError(
                f"{self.name} takes pictures of at least {self.smallest} x {self.smallest} pixels, got {height} x "
                f"{width}; set data.size={self.advised} or larger."
            )
        return images

    def extra_repr(self) -> str:
        return f"{self.smallest}"


class PadTo(SizeDependent):
    """Pictures in the middle of S x S pixels, their borders repeated.

    Args:
        size: S.
        name: of the network.

    Shape:
        images [B, C, H, W] -> [B, C, S, S].
    """

    def __init__(self, size: int, name: str) -> None:
        super().__init__()
        self.size, self.name = size, name

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C S S"]:
        """The padded pictures.

        Raises:
            ConfigError: they are larger than S x S.
        """
        size, (height, width) = self.size, images.shape[-2:]
        if height > size or width > size:
            raise ConfigError(
                f"{self.name} takes pictures of at most {size} x {size} pixels, got {height} x {width}; set "
                f"data.size={size}."
            )
        top, left = (size - height) // 2, (size - width) // 2
        sides = left, size - width - left, top, size - height - top
        return F.pad(images, sides, mode="replicate") if any(sides) else images

    def extra_repr(self) -> str:
        return f"{self.size}"
