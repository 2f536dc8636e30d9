"""The stack of restricted Boltzmann machines; energies and sampling are tested with contrastive divergence."""

import math

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.deep_belief_network import DeepBeliefNetwork, DeepBeliefNetworkConfig
from layerwise.models.classic.rbm import RBM, RBMConfig
from layerwise.nn.protocols import EnergyModel

CONFIG = DeepBeliefNetworkConfig(num_classes=3, in_channels=1, image_size=(2, 3), hidden_sizes=(5, 4))


def make() -> DeepBeliefNetwork:
    torch.manual_seed(0)
    network = DeepBeliefNetwork(CONFIG).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network


def test_logits_equal_a_sigmoid_network_unit_by_unit() -> None:
    network = make()
    image = torch.rand(1, 1, 2, 3, dtype=torch.float64)
    x = image.flatten().tolist()
    for block in network.blocks:
        w, c = block.weight.tolist(), block.hidden_bias.tolist()
        x = [1 / (1 + math.exp(-(c[j] + sum(w[j][i] * x[i] for i in range(len(x)))))) for j in range(len(c))]
    weight, bias = network.classifier.weight.tolist(), network.classifier.bias.tolist()
    wanted = [bias[k] + sum(weight[k][j] * x[j] for j in range(4)) for k in range(3)]
    assert network(image)[0].tolist() == pytest.approx(wanted, rel=1e-12)


def test_a_machine_sees_the_mean_activations_of_those_below() -> None:
    network, images = make(), torch.rand(4, 1, 2, 3, dtype=torch.float64)
    assert torch.equal(network.visible_units(images, 0), images.flatten(1))
    below = network.blocks[0].hidden_probabilities(images.flatten(1))
    assert torch.equal(network.visible_units(images, 1), below)


def test_every_machine_offers_the_energy_protocol() -> None:
    assert all(isinstance(network_layer, EnergyModel) for network_layer in make().blocks)
    assert isinstance(RBM(RBMConfig(in_channels=1, image_size=(2, 3), hidden_size=4)), EnergyModel)


def test_logits_do_not_depend_on_visible_biases() -> None:
    network, images = make(), torch.rand(4, 1, 2, 3, dtype=torch.float64)
    network(images).sum().backward()
    unreached = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert unreached == {"blocks.0.visible_bias", "blocks.1.visible_bias"}


def test_layers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 to 1"):
        make().energy_layer(2)
    with pytest.raises(ConfigError, match="layer=1"):
        RBM(RBMConfig(in_channels=1, image_size=(2, 3))).energy_layer(1)


def test_sizes_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="hidden_sizes"):
        DeepBeliefNetworkConfig(hidden_sizes=())
    with pytest.raises(ConfigError, match="image_size"):
        DeepBeliefNetwork(DeepBeliefNetworkConfig(num_classes=3, in_channels=1))
