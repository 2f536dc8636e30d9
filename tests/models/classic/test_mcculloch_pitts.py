"""Nets of McCulloch-Pitts neurons against the truth tables of logic, written out."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.mcculloch_pitts import PRESETS, McCullochPitts, McCullochPittsConfig, Neuron

TWO_BITS = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
TABLES = {
    "mcculloch_pitts_and": (TWO_BITS, [0, 0, 0, 1]),
    "mcculloch_pitts_or": (TWO_BITS, [0, 1, 1, 1]),
    "mcculloch_pitts_not": ([[0.0], [1.0]], [1, 0]),
    "mcculloch_pitts_xor": (TWO_BITS, [0, 1, 1, 0]),
    "mcculloch_pitts-tiny": (TWO_BITS, [0, 1, 1, 0]),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_computes_its_truth_table(name: str) -> None:
    inputs, expected = TABLES[name]
    assert McCullochPitts(PRESETS[name])(torch.tensor(inputs))[:, 0].tolist() == expected


def test_exclusive_or_takes_two_layers_and_the_others_one() -> None:
    layers = {name: len(PRESETS[name].layers) for name in TABLES if not name.endswith("-tiny")}
    assert layers == {name: 1 + name.endswith("xor") for name in layers}


def net(*neurons: Neuron, in_features: int = 3) -> McCullochPitts:
    return McCullochPitts(McCullochPittsConfig(in_features=in_features, layers=(neurons,)))


def test_one_inhibitory_input_outweighs_any_excitation() -> None:
    network = net(Neuron(threshold=1, excitatory=(0, 0, 0, 1), inhibitory=(2,)))
    assert network(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])).tolist() == [[1.0], [0.0]]


def test_a_connection_named_twice_counts_twice() -> None:
    network = net(Neuron(threshold=2, excitatory=(0, 0, 1)))
    assert network(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])).tolist() == [[1.0], [0.0]]


def test_nothing_can_be_learned() -> None:
    assert list(net(Neuron(threshold=1, excitatory=(0,))).parameters()) == []


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "the net has none"),
        (((),), "a layer has no neurons"),
        (((Neuron(threshold=1, excitatory=(2,)),),), "unit 2 of a layer with 2"),
        (((Neuron(threshold=1),), (Neuron(threshold=1, inhibitory=(1,)),)), "unit 1 of a layer with 1"),
    ],
)
def test_a_net_that_cannot_be_wired_is_refused(layers: tuple[tuple[Neuron, ...], ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        McCullochPitts(McCullochPittsConfig(in_features=2, layers=layers))
