"""A network seen as the maps that detectors and U-Nets build on."""

from jaxtyping import Float
from torch import Tensor, nn

from layerwise.nn.protocols import Pyramid, require


class FeaturePyramid(nn.Module):
    """`forward` gives the network's maps instead of its logits.

    Args:
        network: offers `Pyramid`.

    Attributes:
        pyramid_channels: of each map, finest first.
        pyramid_strides: pixels of the picture to one position of each map.

    Raises:
        UnsupportedError: the network has no pyramid.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        pyramid = require(network, Pyramid, "features_only=True")
        self.network = network
        self.pyramid_channels, self.pyramid_strides = pyramid.pyramid_channels, pyramid.pyramid_strides

    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """Maps [B, C_i, about H / s_i, about W / s_i]."""
        return require(self.network, Pyramid, "features_only=True").forward_pyramid(images)
