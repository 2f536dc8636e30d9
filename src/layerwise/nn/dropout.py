"""Dropout as a layer: `layerwise.ops.dropout` in training, nothing in evaluation."""

from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.ops.dropout import dropout


class Dropout(nn.Module):
    """x / (1 - p) where a draw says so, else 0; the identity in evaluation.

    Args:
        p: probability of dropping an element, rounded to 1 / 256 on a CPU; what is kept is divided by the share that
            is really kept.

    Raises:
        ConfigError: `p` is not in [0, 1).

    Example:
        >>> import torch
        >>> Dropout(0.3).eval()(torch.ones(2)).tolist()
        [1.0, 1.0]
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ConfigError(f"dropout={p}: must be >= 0 and < 1")
        self.p = p

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return dropout(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
