"""Initial distributions by name, given to parameters by patterns of their names or to all weights of a network.

Glorot and Bengio 2010 ("glorot"); He et al. 2015, arXiv:1502.01852 ("he"); LeCun et al. 1998, "Efficient backprop"
("lecun"); Saxe, McClelland, Ganguli 2014, arXiv:1312.6120 ("orthogonal").
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError

Distribution = Literal[
    "zeros", "ones", "normal", "truncated_normal",
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal",
]  # fmt: skip
# Those that need no scale: what a recipe's `init` may name.
SCALE_FREE = (
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal",
)  # fmt: skip


@dataclass(frozen=True)
class Init:
    """A distribution that parameters start from.

    Args:
        name: "normal" has deviation `scale`; "truncated_normal" is that, drawn again beyond two deviations (so its own
            deviation is 0.880 of it); "glorot_*" has variance scale^2 * 2 / (fan_in + fan_out), "he_*"
            scale^2 * 2 / fan_in, "lecun_*" scale^2 / fan_in; "orthogonal" has orthonormal rows or columns, whichever
            are fewer, times `scale`.
        scale: see `name`; without meaning for "zeros" and "ones".
    """

    name: Distribution
    scale: float = 1.0

    @torch.no_grad()
    def fill_(self, tensor: Tensor) -> Tensor:
        """Draw the tensor's values in place from torch's global generator.

        Raises:
            ConfigError: the distribution needs fans and the tensor has fewer than two dimensions.
        """
        if self.name in ("zeros", "ones"):
            return tensor.fill_(float(self.name == "ones"))
        if self.name == "normal":
            return tensor.normal_(0.0, self.scale)
        if self.name == "truncated_normal":
            return nn.init.trunc_normal_(tensor, 0.0, self.scale, -2 * self.scale, 2 * self.scale)
        if tensor.dim() < 2:
            raise ConfigError(f"{self.name} needs two or more dimensions, got shape {tuple(tensor.shape)}")
        if self.name == "orthogonal":
            return nn.init.orthogonal_(tensor, self.scale)
        receptive = math.prod(tensor.shape[2:])
        fan_out, fan_in = tensor.shape[0] * receptive, tensor.shape[1] * receptive
        fan = (fan_in + fan_out) / 2 if self.name.startswith("glorot_") else fan_in
        variance = self.scale**2 / fan * (2 if self.name.startswith("he_") else 1)
        if self.name.endswith("_uniform"):
            bound = math.sqrt(3 * variance)
            return tensor.uniform_(-bound, bound)
        return tensor.normal_(0.0, math.sqrt(variance))


def initialise(module: nn.Module, rules: Mapping[str, Init]) -> None:
    """Fill every parameter by the first rule whose pattern matches its name.

    Args:
        module: its own and its children's parameters are filled.
        rules: shell-style pattern of names ("*.bias") -> distribution, in order.

    Raises:
        ConfigError: a parameter that no rule names, or a rule that no parameter is left for: both are slips in the
        rules.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> initialise(layer, {"bias": Init("zeros"), "*": Init("orthogonal")})
        >>> layer.bias.tolist()
        [0.0, 0.0]
    """
    used: set[str] = set()
    for name, parameter in module.named_parameters():
        pattern = next((p for p in rules if fnmatchcase(name, p)), None)
        if pattern is None:
            raise ConfigError(f"no initial distribution for parameter {name!r}; patterns: {', '.join(rules)}")
        used.add(pattern)
        rules[pattern].fill_(parameter)
    if idle := [pattern for pattern in rules if pattern not in used]:
        raise ConfigError(f"initial distributions that no parameter takes: {', '.join(idle)}")


_LAYERS = nn.Linear | nn.Bilinear | nn.modules.conv._ConvNd | nn.RNNBase  # pyright: ignore[reportPrivateUsage]


def redraw_weights(network: nn.Module, init: Init) -> list[str]:
    """Draw the weight matrices of linear, convolution and recurrent layers again; all else stays as it is.

    A fused recurrent matrix (torch's `weight_ih_l0` holds all gates) counts as one.

    Returns:
        Names of the parameters drawn.

    Raises:
        ConfigError: the network has no such layer.
    """
    owners = {
        id(p) for layer in network.modules() if isinstance(layer, _LAYERS) for p in layer.parameters(recurse=False)
    }
    drawn = [(name, p) for name, p in network.named_parameters() if id(p) in owners and p.dim() >= 2]
    if not drawn:
        raise ConfigError(
            f"init={init.name}: {type(network).__name__} has no linear, convolution or recurrent layer to draw."
        )
    for _, p in drawn:
        init.fill_(p)
    return [name for name, _ in drawn]
