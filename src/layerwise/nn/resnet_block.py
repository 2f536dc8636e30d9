"""The residual block of diffusion U-Nets and their autoencoders.

Ho et al. 2020 (arXiv:2006.11239), appendix B: group norm before each convolution, the time added between them. Scale
and shift by the time: Dhariwal and Nichol 2021 (arXiv:2105.05233), section 3. Names as in diffusers.

Shapes: B batch, I and O channels, T width of the time embedding, H W height and width.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.nn.group_norm import GroupNorm


class ResnetBlock2D(nn.Module):
    """`shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + W silu(time))))`.

    Args:
        in_channels, out_channels: where they differ the shortcut is a 1 x 1 convolution.
        time_channels: width of the time embedding; None: there is no time.
        num_groups, eps: of both group norms.
        scale_shift: the time scales and shifts the second norm's result in place of being added before it.
        dropout: probability of dropping a value before the second convolution in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_channels: int | None = None,
        num_groups: int = 32,
        eps: float = 1e-6,
        scale_shift: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = GroupNorm(num_groups, in_channels, eps=eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = (
            None if time_channels is None else nn.Linear(time_channels, (2 if scale_shift else 1) * out_channels)
        )
        self.norm2 = GroupNorm(num_groups, out_channels, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def inner(self, x: Float[Tensor, "B I H W"], time: Float[Tensor, "B T"] | None = None) -> Float[Tensor, "B O H W"]:
        """What the second convolution reads."""
        hidden = self.conv1(self.norm1(x, silu=True))
        if self.time_emb_proj is None or time is None:
            hidden = self.norm2(hidden, silu=True)
        else:
            moved = self.time_emb_proj(F.silu(time))[:, :, None, None]
            if self.scale_shift:
                scale, shift = moved.chunk(2, dim=1)
                hidden = F.silu(self.norm2(hidden) * (1 + scale) + shift)
            else:
                hidden = self.norm2(hidden + moved, silu=True)
        return self.dropout(hidden)

    def shortcut(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        """What the second convolution's result is added to."""
        return x if self.conv_shortcut is None else self.conv_shortcut(x)

    def forward(
        self, x: Float[Tensor, "B I H W"], time: Float[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B O H W"]:
        return self.conv2(self.inner(x, time)) + self.shortcut(x)
