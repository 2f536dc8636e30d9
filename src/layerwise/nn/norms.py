"""Normalisations by name, and the one whose numerics torch leaves to the kernel.

Batch norm: Ioffe and Szegedy 2015 (arXiv:1502.03167). Layer norm: Ba, Kiros, Hinton 2016 (arXiv:1607.06450). RMS norm:
Zhang and Sennrich 2019 (arXiv:1910.07467). Group norm: Wu and He 2018 (arXiv:1803.08494).

Shapes: B batch, C channels, D features.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError

Norm = Literal["batch_norm", "layer_norm", "group_norm", "rms_norm", "none"]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, with the statistics in float32 whatever the input's
    type.

    The quotient is rounded to the input's type before the weight multiplies it, as in Llama's reference code.

    Args:
        d_model: size of the last dimension.
        eps: added to the mean square.

    References:
        Zhang and Sennrich 2019, equation 4.
    """

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * scaled.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class ChannelRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight_c with the mean over channels and positions of a sample; statistics in float32
    whatever the input's type.

    The form of RMS norm that goes with layer norm on maps (group norm with one group).

    Args:
        channels: size of dimension 1.
        eps: added to the mean square.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "B C *positions"]) -> Float[Tensor, "B C *positions"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        root = torch.rsqrt(wide.square().flatten(1).mean(1) + self.eps)
        scaled = (wide * root.view(-1, *[1] * (x.dim() - 1))).to(x.dtype)
        return scaled * self.weight.view(-1, *[1] * (x.dim() - 2))


def make_norm(name: Norm, channels: int, *, positions: int = 0, eps: float = 1e-5, num_groups: int = 32) -> nn.Module:
    """A normalisation layer by name.

    Args:
        name: "batch_norm" takes the statistics of each channel over batch and positions, "group_norm" of each group of
            channels of a sample over its positions, "layer_norm" and "rms_norm" of the whole sample; "none" is the
            identity.
        channels: size of the normalised dimension.
        positions: dimensions after the channels: 0 for features [..., D], 1 for sequences [B, C, T], 2 for maps
            [B, C, H, W].
        eps: added to variance or mean square.
        num_groups: of "group_norm"; must divide `channels`.

    Raises:
        ConfigError: the groups do not divide the channels.
    """
    if name == "none":
        return nn.Identity()
    if name == "batch_norm":
        return (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[positions](channels, eps=eps)
    if name == "group_norm":
        if channels % num_groups:
            raise ConfigError(f"num_groups={num_groups} must divide channels={channels}")
        return nn.GroupNorm(num_groups, channels, eps=eps)
    if positions == 0:
        return nn.LayerNorm(channels, eps=eps) if name == "layer_norm" else RMSNorm(channels, eps=eps)
    return nn.GroupNorm(1, channels, eps=eps) if name == "layer_norm" else ChannelRMSNorm(channels, eps=eps)
