"""A discriminator that judges overlapping patches of a picture, each by itself.

P. Isola, J.-Y. Zhu, T. Zhou, A. Efros, "Image-to-image translation with conditional adversarial networks", CVPR 2017,
https://arxiv.org/abs/1611.07004 (section 3.2.2; appendix 6.1.2).

Differs from the paper: group norm in place of batch norm, so that a picture's logits do not depend on its batch mates.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.nn.group_norm import GroupNorm
from layerwise.nn.init import Init, initialise

_MOST_WIDER = 8  # times the first width


class PatchDiscriminator(nn.Module):
    """Convolutions of stride 2, then two of stride 1: a logit for each patch, large for real.

    Args:
        in_channels: of pictures.
        width: channels of the first maps; each level doubles them, up to eight times.
        num_levels: halvings of the resolution; three levels see patches of 70 x 70 pixels, two of 34, one of 16.
        num_groups: of the norms; divides `width`.

    Shape:
        pictures [B, in_channels, H, W] -> logits [B, 1, about H / 2 ** num_levels, about W / 2 ** num_levels].

    Attributes:
        pyramid_channels, pyramid_strides: of the maps that `forward_pyramid` gives.
    """

    def __init__(self, in_channels: int, width: int = 64, num_levels: int = 3, num_groups: int = 16) -> None:
        super().__init__()
        widths = [width * min(2**i, _MOST_WIDER) for i in range(num_levels + 1)]
        self.pyramid_channels = tuple(widths)
        self.pyramid_strides = (*(2 ** (i + 1) for i in range(num_levels)), 2**num_levels)
        before = [in_channels, *widths[:-1]]
        self.convs = nn.ModuleList(
            nn.Conv2d(inner, outer, 4, stride=2 if i < num_levels else 1, padding=1)
            for i, (inner, outer) in enumerate(zip(before, widths, strict=True))
        )
        self.norms = nn.ModuleList(
            nn.Identity() if i == 0 else GroupNorm(num_groups, outer) for i, outer in enumerate(widths)
        )
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal of deviation 0.02, as in the paper; biases 0, norms 1."""
        initialise(self, {"norms.*.weight": Init("ones"), "*.bias": Init("zeros"), "*": Init("normal", 0.02)})

    def forward_pyramid(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """The maps after each activation, finest first."""
        maps, x = [], images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
            maps.append(x)
        return maps

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 h w"]:
        """The logits."""
        return self.head(self.forward_pyramid(images)[-1])
