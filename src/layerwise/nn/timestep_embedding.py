"""How far along a diffusion process is, as a vector that layers can use.

Sinusoids: Vaswani et al. 2017 (arXiv:1706.03762), section 3.5; for the time of a diffusion process Ho et al. 2020
(arXiv:2006.11239), appendix B.

Shapes: B batch, D width.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def sinusoidal_embedding(
    timesteps: Tensor, width: int, *, cosine_first: bool = False, freq_shift: int = 0, max_period: float = 10_000.0
) -> Float[Tensor, "B D"]:
    """sin(t w_i) and cos(t w_i) with w_i = max_period^(-i / (width / 2 - freq_shift)), i = 0 .. width / 2 - 1.

    Computed in float32 whatever the type of the network, as all published ones were trained: in bfloat16 neighbouring
    times would be equal.

    Args:
        timesteps: [B], whole or fractional.
        width: of the result; an odd one ends with a zero.
        cosine_first: the cosines come before the sines.
        freq_shift: 1 makes the last frequency exactly 1 / max_period.
        max_period: of the slowest wave.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) * -math.log(max_period)
    angles = timesteps.float()[:, None] * torch.exp(exponents / (half - freq_shift))
    waves = (angles.cos(), angles.sin()) if cosine_first else (angles.sin(), angles.cos())
    return F.pad(torch.cat(waves, dim=-1), (0, width % 2))


class TimestepEmbedding(nn.Module):
    """`linear_2(silu(linear_1(sinusoids)))`.

    Args:
        in_channels: width of the sinusoids.
        d_model: width of the result.
    """

    def __init__(self, in_channels: int, d_model: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, d_model)
        self.linear_2 = nn.Linear(d_model, d_model)

    def forward(self, waves: Float[Tensor, "B I"]) -> Float[Tensor, "B D"]:
        return self.linear_2(F.silu(self.linear_1(waves)))
