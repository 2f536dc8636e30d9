"""Normalisations by name, and the one whose numerics torch leaves to the kernel.

Layer norm: Ba, Kiros, Hinton 2016 (arXiv:1607.06450). RMS norm: Zhang and Sennrich 2019 (arXiv:1910.07467). Group
norm: Wu and He 2018 (arXiv:1803.08494).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError

Norm = Literal["layer_norm", "rms_norm", "group_norm"]


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


def make_norm(name: Norm, channels: int, *, eps: float = 1e-5, num_groups: int = 32) -> nn.Module:
    """A normalisation layer by name.

    Args:
        name: "layer_norm" and "rms_norm" work on the last dimension, "group_norm" on dimension 1 (channels first).
        channels: size of that dimension.
        eps: added to variance or mean square.
        num_groups: of "group_norm"; must divide `channels`.

    Raises:
        ConfigError: the groups do not divide the channels.
    """
    if name == "layer_norm":
        return nn.LayerNorm(channels, eps=eps)
    if name == "rms_norm":
        return RMSNorm(channels, eps=eps)
    if channels % num_groups:
        raise ConfigError(f"num_groups={num_groups} must divide channels={channels}")
    return nn.GroupNorm(num_groups, channels, eps=eps)
