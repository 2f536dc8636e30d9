"""McCulloch-Pitts neurons: all-or-none units with a threshold, wired by hand.

Paper: W. McCulloch, W. Pitts, "A logical calculus of the ideas immanent in nervous activity", Bulletin of Mathematical
Biophysics 5, 1943, https://doi.org/10.1007/BF02478259

Differs from the paper: nets without circles alone; a signal takes one time step a layer, so that a layer's index is the
time at which it fires, and time itself is not modelled. A threshold of 0 is allowed and makes a unit fire unless it is
inhibited; the paper has negation only within a conjunction (figure 1d).

Shapes: B batch, F inputs, P units of the layer before, U units of a layer, K units of the last layer.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.core.errors import ConfigError

CARD = Card(
    title="McCulloch-Pitts neuron",
    authors="Warren McCulloch, Walter Pitts",
    paper="A logical calculus of the ideas immanent in nervous activity",
    year=1943,
    link="https://doi.org/10.1007/BF02478259",
    inputs={"images": "float [B, in_features], active where at least one half"},
    outputs={"fires": "float [B, K], 1 where the unit fires and 0 elsewhere"},
    differences=(
        "Nets without circles alone; a layer a time step.",
        "A threshold of 0 makes a unit fire unless inhibited, which gives NOT by one unit.",
    ),
    capabilities=(),
)


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """One unit.

    Args:
        threshold: active excitatory inputs that it takes to fire.
        excitatory: indices of units of the layer before (of the inputs, for the first layer); one named twice counts
            twice.
        inhibitory: likewise; a single active one keeps the unit from firing.
    """

    threshold: NonNegativeInt
    excitatory: tuple[NonNegativeInt, ...] = ()
    inhibitory: tuple[NonNegativeInt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class McCullochPittsConfig:
    """A net.

    Args:
        in_features: inputs.
        layers: the neurons of each layer, from the inputs on; the last layer's are the outputs.
    """

    in_features: PositiveInt
    layers: tuple[tuple[Neuron, ...], ...]


class ThresholdLayer(nn.Module):
    """Units that fire where no inhibitory input is active and excitatory ones reach the threshold.

    Args:
        in_features: units of the layer before.
        neurons: see `Neuron`.

    Shape:
        float [B, P] of zeros and ones -> float [B, U] of zeros and ones.

    Raises:
        ConfigError: a connection from a unit that there is not, or no neurons.
    """

    excitatory: Tensor
    inhibitory: Tensor
    threshold: Tensor

    def __init__(self, in_features: int, neurons: tuple[Neuron, ...]) -> None:
        super().__init__()
        if not neurons:
            raise ConfigError("layers: a layer has no neurons.")
        for neuron in neurons:
            for source in (*neuron.excitatory, *neuron.inhibitory):
                if source >= in_features:
                    raise ConfigError(
                        f"layers: a connection from unit {source} of a layer with {in_features} (they count from 0)."
                    )
        for name, sources in (
            ("excitatory", [neuron.excitatory for neuron in neurons]),
            ("inhibitory", [neuron.inhibitory for neuron in neurons]),
        ):
            counts = [[float(row.count(source)) for source in range(in_features)] for row in sources]
            self.register_buffer(name, torch.tensor(counts))
        self.register_buffer("threshold", torch.tensor([float(neuron.threshold) for neuron in neurons]))

    def forward(self, x: Float[Tensor, "B P"]) -> Float[Tensor, "B U"]:
        excited = x @ self.excitatory.t() >= self.threshold
        inhibited = x @ self.inhibitory.t() > 0
        return (excited & ~inhibited).to(self.threshold.dtype)


class McCullochPitts(nn.Module):
    """A unit fires when `sum_j E_j x_j >= theta` and `I_j x_j = 0` for every j: inhibition is absolute.

    Nothing can be learned: connections and thresholds are the configuration, and buffers here.

    Shape:
        images [B, in_features] -> fires [B, K].

    Example:
        >>> both = Neuron(threshold=2, excitatory=(0, 1))
        >>> net = McCullochPitts(McCullochPittsConfig(in_features=2, layers=((both,),)))
        >>> net(torch.tensor([[0.0, 1.0], [1.0, 1.0]])).tolist()
        [[0.0], [1.0]]
    """

    def __init__(self, config: McCullochPittsConfig) -> None:
        super().__init__()
        if not config.layers:
            raise ConfigError("layers: the net has none.")
        self.config = config
        widths = (config.in_features, *(len(neurons) for neurons in config.layers))
        self.blocks = nn.Sequential(
            *(ThresholdLayer(before, neurons) for before, neurons in zip(widths, config.layers, strict=False))
        )

    def reset_parameters(self) -> None:
        """There is nothing to draw."""

    def forward(self, images: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """Which output units fire, one time step a layer after the inputs."""
        return self.blocks((images >= 0.5).to(images.dtype))


PRESETS = {
    "mcculloch_pitts_and": McCullochPittsConfig(in_features=2, layers=((Neuron(threshold=2, excitatory=(0, 1)),),)),
    "mcculloch_pitts_or": McCullochPittsConfig(in_features=2, layers=((Neuron(threshold=1, excitatory=(0, 1)),),)),
    "mcculloch_pitts_not": McCullochPittsConfig(in_features=1, layers=((Neuron(threshold=0, inhibitory=(0,)),),)),
    "mcculloch_pitts_xor": McCullochPittsConfig(
        in_features=2,
        layers=(
            (
                Neuron(threshold=1, excitatory=(0,), inhibitory=(1,)),
                Neuron(threshold=1, excitatory=(1,), inhibitory=(0,)),
            ),
            (Neuron(threshold=1, excitatory=(0, 1)),),
        ),
    ),
    "mcculloch_pitts-tiny": McCullochPittsConfig(
        in_features=2,
        layers=(
            (Neuron(threshold=1, excitatory=(0, 1)), Neuron(threshold=2, excitatory=(0, 1))),
            (Neuron(threshold=1, excitatory=(0,), inhibitory=(1,)),),
        ),
    ),
}


def example_batch(config: McCullochPittsConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random zeros and ones."""
    return {"images": torch.randint(2, (batch_size, config.in_features), generator=generator).float()}
