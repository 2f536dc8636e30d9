"""Self-attention between the positions of a map, in diffusion U-Nets and their autoencoders.

Ho et al. 2020 (arXiv:2006.11239), appendix B. Names as in diffusers.

Shapes: B batch, C channels, H W height and width.
"""

from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.nn.attention import merge_heads, split_heads
from layerwise.nn.group_norm import GroupNorm
from layerwise.ops.attention import attention


class SpatialAttention(nn.Module):
    """`x + to_out(attention(norm(x)))` over all positions.

    Args:
        channels: of input and result.
        head_dim: channels of a head; None means one head.
        num_groups: of the group norm; None: there is none.
        eps: of the group norm.
    """

    def __init__(self, channels: int, *, head_dim: int | None, num_groups: int | None, eps: float = 1e-6) -> None:
        super().__init__()
        if head_dim is not None and channels % head_dim:
            raise ConfigError(f"head_dim={head_dim} must divide channels={channels}")
        self.num_heads = 1 if head_dim is None else channels // head_dim
        self.group_norm = None if num_groups is None else GroupNorm(num_groups, channels, eps=eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        normed = x if self.group_norm is None else self.group_norm(x)
        tokens = normed.flatten(2).transpose(1, 2)
        q, k, v = (split_heads(project(tokens), self.num_heads) for project in (self.to_q, self.to_k, self.to_v))
        mixed = self.to_out[0](merge_heads(attention(q, k, v)))
        return x + mixed.transpose(1, 2).unflatten(2, tuple(x.shape[2:]))
