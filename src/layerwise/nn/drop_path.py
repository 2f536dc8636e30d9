"""Stochastic depth: whole residual branches are left out while training, for each sample by itself.

Huang, Sun, Liu, Sedra, Weinberger, "Deep networks with stochastic depth", 2016, https://arxiv.org/abs/1603.09382
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError


class DropPath(nn.Module):
    """`x * keep / (1 - rate)` in training, with one draw `keep` in {0, 1} a sample; `x` in evaluation.

    Args:
        rate: share of samples whose branch is left out, in [0, 1).

    Raises:
        ConfigError: the rate is not in [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ConfigError(f"drop_path={rate}: must be >= 0 and < 1.")
        self.rate = rate

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        if not self.training or self.rate == 0:
            return x
        keep = torch.empty(len(x), *[1] * (x.dim() - 1), device=x.device, dtype=x.dtype).bernoulli_(1 - self.rate)
        return x * keep.div_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def drop_path_rates(largest: float, depth: int) -> list[float]:
    """A rate for each block: linear from 0 at the first to `largest` at the last (Huang et al. 2016, section 4)."""
    return [largest * i / max(1, depth - 1) for i in range(depth)]
