"""Restricted Boltzmann machine.

Paper: P. Smolensky, "Information processing in dynamical systems: foundations of harmony theory", in Parallel
Distributed Processing 1, MIT Press, 1986; learning by G. E. Hinton, "Training products of experts by minimizing
contrastive divergence", Neural Computation 14(8), 2002, https://www.cs.toronto.edu/~hinton/absps/nccd.pdf; practice by
G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010,
https://www.cs.toronto.edu/~hinton/absps/guideTR.pdf.

Differs from the paper: pictures in [0, 1] are taken as probabilities of binary pixels, as the guide's section 3 has it.

Shapes: B batch, V visible units, N hidden units, C H W pictures.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError

CARD = Card(
    title="Restricted Boltzmann machine",
    authors="Paul Smolensky; Geoffrey E. Hinton",
    paper="Training products of experts by minimizing contrastive divergence",
    year=2002,
    link="https://www.cs.toronto.edu/~hinton/absps/nccd.pdf",
    inputs={"images": "float [B, in_channels, H, W] in [0, 1]"},
    outputs={
        "hidden": "float [B, hidden_size], probability that each hidden unit is on",
        "free_energy": "float [B], minus the log of the unnormalised probability of the picture",
    },
    differences=("Grey levels are taken as probabilities of binary pixels.",),
    capabilities=("differentiable", "features"),
)


@dataclass(frozen=True, kw_only=True)
class RBMConfig:
    """Sizes of the machine.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures; None takes the data's. Visible units: in_channels x height x
            width.
        hidden_size: hidden units.
    """

    in_channels: PositiveInt | None = None
    image_size: tuple[PositiveInt, PositiveInt] | None = None
    hidden_size: PositiveInt = 500


class RBMOutput(NamedTuple):
    """Hidden probabilities [B, N] and free energies [B]."""

    hidden: Tensor
    free_energy: Tensor


class RBMLayer(nn.Module):
    """Two layers of binary units with the energy `E(v, h) = -v.b - h.c - h W v`.

    Args:
        visible_size: visible units.
        hidden_size: hidden units.

    Shape:
        visible [B, V], hidden [B, N]; weight [N, V].
    """

    def __init__(self, *, visible_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden_size, visible_size))
        self.visible_bias = nn.Parameter(torch.empty(visible_size))
        self.hidden_bias = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights N(0, 0.01), biases 0 (section 8 of the guide)."""
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.visible_bias)
        nn.init.zeros_(self.hidden_bias)

    def hidden_probabilities(self, visible: Float[Tensor, "B V"]) -> Float[Tensor, "B N"]:
        """p(h = 1 | v)."""
        return torch.sigmoid(F.linear(visible, self.weight, self.hidden_bias))

    def sample_hidden(self, visible: Float[Tensor, "B V"], uniform: Float[Tensor, "B N"]) -> tuple[Tensor, Tensor]:
        """p(h = 1 | v) and a draw from it, decided by `uniform` in [0, 1)."""
        probabilities = self.hidden_probabilities(visible)
        return probabilities, (uniform < probabilities).to(visible.dtype)

    def sample_visible(self, hidden: Float[Tensor, "B N"], uniform: Float[Tensor, "B V"]) -> tuple[Tensor, Tensor]:
        """p(v = 1 | h) and a draw from it, decided by `uniform` in [0, 1)."""
        probabilities = torch.sigmoid(F.linear(hidden, self.weight.T, self.visible_bias))
        return probabilities, (uniform < probabilities).to(hidden.dtype)

    def free_energy(self, visible: Float[Tensor, "B V"]) -> Float[Tensor, " B"]:
        """`F(v) = -v.b - sum_j log(1 + exp(c_j + W_j v))`, so that p(v) is proportional to exp(-F(v))."""
        inner = F.linear(visible, self.weight, self.hidden_bias)
        inner = (
            inner if inner.dtype == torch.float64 else inner.float()
        )  # float32 on purpose: a sum over all hidden units
        return -(visible * self.visible_bias).sum(1) - F.softplus(inner).sum(1)


class RBM(RBMLayer):
    """An `RBMLayer` over pictures.

    Shape:
        images [B, C, H, W] in [0, 1] -> hidden [B, N], free_energy [B].

    Example:
        >>> rbm = RBM(RBMConfig(in_channels=1, image_size=(28, 28), hidden_size=6))
        >>> rbm(torch.zeros(2, 1, 28, 28)).hidden.shape
        torch.Size([2, 6])
    """

    def __init__(self, config: RBMConfig) -> None:
        if config.in_channels is None or config.image_size is None:
            raise ConfigError(
                "in_channels and image_size are needed to build an RBM; they come from the data or are given."
            )
        super().__init__(
            visible_size=config.in_channels * config.image_size[0] * config.image_size[1],
            hidden_size=config.hidden_size,
        )
        self.config, self.feature_size = config, config.hidden_size

    def energy_layer(self, index: int) -> RBMLayer:
        """The machine itself, which is its only layer.

        Raises:
            ConfigError: another layer was asked for.
        """
        if index != 0:
            raise ConfigError(f"layer={index}: an RBM has one layer, 0.")
        return self

    def visible_units(self, images: Float[Tensor, "B C H W"], index: int = 0) -> Float[Tensor, "B V"]:
        """The pictures as visible units of the layer."""
        return images.flatten(1)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N"]:
        """Hidden probabilities."""
        return self.hidden_probabilities(self.visible_units(images))

    def forward(self, images: Float[Tensor, "B C H W"]) -> RBMOutput:
        """Hidden probabilities and free energies."""
        visible = self.visible_units(images)
        return RBMOutput(self.hidden_probabilities(visible), self.free_energy(visible))


PRESETS = {
    "rbm": RBMConfig(),
    "rbm-tiny": RBMConfig(in_channels=1, image_size=(6, 6), hidden_size=8),
}


def example_batch(config: RBMConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures in [0, 1]."""
    return {
        "images": torch.rand(batch_size, config.in_channels or 1, *(config.image_size or (28, 28)), generator=generator)
    }
