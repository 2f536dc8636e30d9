"""Restricted Boltzmann machine.

Paper: P. Smolensky, "Information processing in dynamical systems: foundations of harmony theory", in Parallel
Distributed Processing 1, MIT Press, 1986; learning by G. E. Hinton, "Training products of experts by minimizing
contrastive divergence", Neural Computation 14(8), 2002, https://www.cs.toronto.edu/~hinton/absps/nccd.pdf; practice by
G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010,
https://www.cs.toronto.edu/~hinton/absps/guideTR.pdf.

Differs from the paper: pictures in [0, 1] are taken as probabilities of binary pixels, as the guide's section 3 has it.

Shapes: B batch (chains), V visible units, N hidden units, C H W pictures.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import Fraction, PictureSize, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.ops.random import Draws

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
    capabilities=("differentiable", "features", "generates"),
)


@dataclass(frozen=True, kw_only=True)
class RBMConfig:
    """Sizes of the machine.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures; None takes the data's. Visible units: in_channels x height x
            width.
        hidden_size: hidden units.
        gibbs_steps: length of the chain that pictures are drawn with.
        start_share: share of visible units that are on where that chain starts; near the share in the data, chains
            come to the data sooner.
    """

    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = None
    hidden_size: PositiveInt = 500
    gibbs_steps: PositiveInt = 1000
    start_share: Fraction = 0.5


class RBMOutput(NamedTuple):
    """Hidden probabilities [B, N] and free energies [B]."""

    hidden: Tensor
    free_energy: Tensor


class BinaryMachine:
    """Binary units with the energy `E(v, h) = -v.b - h.c - h W v`, over tensors that a subclass holds.

    Attributes:
        weight: W [N, V].
        visible_bias: b [V].
        hidden_bias: c [N].
    """

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor

    def hidden_probabilities(self, visible: Float[Tensor, "B V"]) -> Float[Tensor, "B N"]:
        """p(h = 1 | v)."""
        return torch.sigmoid(F.linear(visible, self.weight, self.hidden_bias))

    def visible_probabilities(self, hidden: Float[Tensor, "B N"]) -> Float[Tensor, "B V"]:
        """p(v = 1 | h)."""
        return torch.sigmoid(torch.addmm(self.visible_bias, hidden, self.weight))

    def sample_hidden(self, visible: Float[Tensor, "B V"], uniform: Float[Tensor, "B N"]) -> tuple[Tensor, Tensor]:
        """p(h = 1 | v) and a draw from it, decided by `uniform` in [0, 1)."""
        probabilities = self.hidden_probabilities(visible)
        return probabilities, _is_on(uniform, probabilities).to(visible.dtype)

    def sample_visible(self, hidden: Float[Tensor, "B N"], uniform: Float[Tensor, "B V"]) -> tuple[Tensor, Tensor]:
        """p(v = 1 | h) and a draw from it, decided by `uniform` in [0, 1)."""
        probabilities = self.visible_probabilities(hidden)
        return probabilities, _is_on(uniform, probabilities).to(hidden.dtype)

    def free_energy(self, visible: Float[Tensor, "B V"]) -> Float[Tensor, " B"]:
        """`F(v) = -v.b - sum_j log(1 + exp(c_j + W_j v))`, so that p(v) is proportional to exp(-F(v))."""
        inner = _wide(F.linear(visible, self.weight, self.hidden_bias))
        return -(visible * self.visible_bias).sum(1) - F.softplus(inner).sum(1)


def _is_on(uniform: Tensor, probabilities: Tensor) -> Tensor:
    """Whether a unit is on; compared in one dtype, which takes a fifth of the time of two."""
    return uniform < probabilities.to(uniform.dtype)


def _wide(x: Tensor) -> Tensor:
    """Float32 on purpose, or float64: what is summed over all hidden units."""
    return x if x.dtype == torch.float64 else x.float()


class RBMLayer(BinaryMachine, nn.Module):
    """A `BinaryMachine` with parameters of its own.

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


class BeliefLayer(RBMLayer):
    """A machine of a stack: called, it gives what goes up, p(h = 1 | v)."""

    def forward(self, visible: Float[Tensor, "B V"]) -> Float[Tensor, "B N"]:
        return self.hidden_probabilities(visible)


@dataclass(frozen=True)
class SharedMachine(BinaryMachine):
    """A `BinaryMachine` over tensors that belong to others: the layers of an autoencoder, seen as a machine."""

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor


@dataclass(frozen=True)
class LinearHiddenMachine(SharedMachine):
    """Binary visible units, and hidden ones that are normal with unit variance around `c + W v`.

    `E(v, h) = -v.b + |h - c|^2 / 2 - h W v`; hidden "probabilities" are means (section 13.2 of the guide).
    """

    def hidden_probabilities(self, visible: Float[Tensor, "B V"]) -> Float[Tensor, "B N"]:
        """The mean of h given v."""
        return F.linear(visible, self.weight, self.hidden_bias)

    def sample_hidden(self, visible: Float[Tensor, "B V"], uniform: Float[Tensor, "B N"]) -> tuple[Tensor, Tensor]:
        """The mean of h given v and a draw, decided by `uniform` in [0, 1) through the inverse normal distribution."""
        mean = self.hidden_probabilities(visible)
        noise = torch.special.ndtri(uniform.clamp(min=2.0**-25))
        return mean, (mean + noise).to(visible.dtype)

    def free_energy(self, visible: Float[Tensor, "B V"]) -> Float[Tensor, " B"]:
        """`F(v) = -v.b - |c + W v|^2 / 2 + |c|^2 / 2 - (N / 2) log(2 pi)`."""
        inner = _wide(F.linear(visible, self.weight, self.hidden_bias))
        constant = self.hidden_bias.square().sum() / 2 - len(self.hidden_bias) * math.log(2 * math.pi) / 2
        return constant - (visible * self.visible_bias).sum(1) - inner.square().sum(1) / 2


def gibbs_chain(
    machine: BinaryMachine, sample_ids: Int[Tensor, " B"], draws: Draws, *, steps: int, start_share: float
) -> Float[Tensor, "B V"]:
    """p(v = 1 | h) at the end of chains that start from independent visible units.

    Args:
        machine: what is drawn from.
        sample_ids: one a chain; a chain depends on its own alone.
        draws: random numbers.
        steps: from visible units to hidden ones and back, at least one.
        start_share: probability that a unit is on at the start.
    """
    shape, dtype = machine.visible_bias.shape, machine.visible_bias.dtype
    visible = (draws.uniform_pairs(sample_ids, shape, "start", dtype) < start_share).to(dtype)
    probabilities = visible
    for step in range(steps):
        uniform = draws.uniform_pairs(sample_ids, machine.hidden_bias.shape, f"hidden-{step}", dtype)
        hidden = machine.sample_hidden(visible, uniform)[1]
        uniform = draws.uniform_pairs(sample_ids, shape, f"visible-{step}", dtype)
        probabilities, visible = machine.sample_visible(hidden, uniform)
    return probabilities


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

    def sample_pictures(self, sample_ids: Int[Tensor, " B"], draws: Draws) -> Float[Tensor, "B C H W"]:
        """Pictures in [0, 1] from chains of `gibbs_steps`: pixel probabilities, not samples, as is usual to show."""
        made = gibbs_chain(self, sample_ids, draws, steps=self.config.gibbs_steps, start_share=self.config.start_share)
        return made.view(len(made), -1, *(self.config.image_size or ()))

    def forward(self, images: Float[Tensor, "B C H W"]) -> RBMOutput:
        """Hidden probabilities and free energies."""
        visible = self.visible_units(images)
        return RBMOutput(self.hidden_probabilities(visible), self.free_energy(visible))


PRESETS = {
    "rbm": RBMConfig(),
    "rbm-tiny": RBMConfig(in_channels=1, image_size=(6, 6), hidden_size=8, gibbs_steps=5),
}


def example_batch(config: RBMConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures in [0, 1]."""
    return {
        "images": torch.rand(batch_size, config.in_channels or 1, *(config.image_size or (28, 28)), generator=generator)
    }
