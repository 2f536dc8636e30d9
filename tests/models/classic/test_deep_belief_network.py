"""The stack of restricted Boltzmann machines; energies and sampling are tested with contrastive divergence."""

import dataclasses
import math

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.deep_belief_network import DeepBeliefNetwork, DeepBeliefNetworkConfig
from layerwise.models.classic.rbm import RBM, RBMConfig, gibbs_chain
from layerwise.nn.protocols import EnergyModel, PictureSampler
from layerwise.ops.random import Draws

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


def test_pictures_go_from_the_top_machine_down_through_all_others() -> None:
    network = DeepBeliefNetwork(dataclasses.replace(CONFIG, gibbs_steps=3)).double()
    assert isinstance(network, PictureSampler)
    ids, draws = torch.arange(4), Draws(2)
    top = gibbs_chain(network.energy_layer(1), ids, draws, steps=3, start_share=0.5)
    below = network.energy_layer(0)
    wanted = torch.sigmoid(torch.einsum("bn,nv->bv", top, below.weight) + below.visible_bias)
    found = network.sample_pictures(ids, draws)
    assert found.shape == (4, 1, 2, 3)
    torch.testing.assert_close(found.flatten(1), wanted, rtol=0, atol=1e-12)


@torch.no_grad()
def test_dropout_leaves_units_out_in_training_alone() -> None:
    """Units stay with probability 1 - p and count 1 / (1 - p) times, so that sums keep their mean (Srivastava 2014)."""
    config = DeepBeliefNetworkConfig(
        num_classes=3, in_channels=1, image_size=(50, 80), hidden_sizes=(2000,), dropout=0.5, input_dropout=0.25
    )
    network, images = DeepBeliefNetwork(config).double(), torch.ones(1, 1, 50, 80, dtype=torch.float64)
    network.energy_layer(0).weight.fill_(1 / 4000)  # the sum of all pixels is 1
    clean = 1 / (1 + math.exp(-1))
    assert network.eval().forward_features(images).flatten().tolist() == pytest.approx([clean] * 2000, rel=1e-12)
    features = network.train().forward_features(images)
    kept = features[features > 0]
    assert len(kept) == pytest.approx(1000, abs=5 * (2000 * 0.25) ** 0.5)
    pixels = (kept / 2).logit().unique()  # what was left of the pixels, one sum for all units
    assert len(pixels) == 1
    assert 0 < abs(float(pixels) - 1) < 5 * (0.25 / 0.75 / 4000) ** 0.5


def test_machines_see_pictures_without_dropout() -> None:
    network = DeepBeliefNetwork(dataclasses.replace(CONFIG, dropout=0.5, input_dropout=0.5)).double().train()
    images = torch.rand(4, 1, 2, 3, dtype=torch.float64)
    assert torch.equal(
        network.visible_units(images, 1), network.energy_layer(0).hidden_probabilities(images.flatten(1))
    )
