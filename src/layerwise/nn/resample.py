"""Maps at half and at double the resolution by a learned convolution. Names as in diffusers.

Shapes: B batch, C channels, H W height and width.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Downsample2D(nn.Module):
    """A 3 x 3 convolution with stride 2.

    Args:
        channels: of input and result.
        padding: 1 pads all four sides; 0 pads the right and the lower side only, as the first U-Nets in TensorFlow did.
    """

    def __init__(self, channels: int, padding: int = 1) -> None:
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample2D(nn.Module):
    """Every position four times, then a 3 x 3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
