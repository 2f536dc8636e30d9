"""The deep autoencoder unit by unit, its published size, and its layers seen as Boltzmann machines."""

import itertools
import math
from typing import cast

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.classic.autoencoder import PRESETS, Autoencoder, AutoencoderConfig
from layerwise.models.classic.rbm import LinearHiddenMachine
from layerwise.nn.protocols import Autoencoder as AutoencoderProtocol

CONFIG = AutoencoderConfig(in_channels=1, image_size=(2, 2), hidden_sizes=(5, 3), code_size=2)


def make() -> Autoencoder:
    torch.manual_seed(0)
    network = Autoencoder(CONFIG).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return network


def layer(x: list[float], linear: nn.Module, *, logistic: bool) -> list[float]:
    weight, bias = cast(nn.Linear, linear).weight.tolist(), cast(nn.Linear, linear).bias.tolist()
    sums = [bias[j] + sum(weight[j][i] * x[i] for i in range(len(x))) for j in range(len(bias))]
    return [1 / (1 + math.exp(-s)) for s in sums] if logistic else sums


def test_code_and_reconstruction_equal_the_paper_s_network_unit_by_unit() -> None:
    """Logistic units everywhere but in the code."""
    network, image = make(), torch.rand(1, 1, 2, 2, dtype=torch.float64)
    x = image.flatten().tolist()
    for index, linear in enumerate(network.encoder):
        x = layer(x, linear, logistic=index < 2)
    code = x
    for index, linear in enumerate(network.decoder):
        x = layer(x, linear, logistic=index < 2)
    assert network.encode(image)[0].tolist() == pytest.approx(code, rel=1e-12)
    assert network.decode(network.encode(image)).flatten().tolist() == pytest.approx(x, rel=1e-12)
    pixels = [1 / (1 + math.exp(-s)) for s in x]
    assert network(image).reconstruction.flatten().tolist() == pytest.approx(pixels, rel=1e-6)  # given in float32


def test_the_paper_s_network_has_its_number_of_weights() -> None:
    """784-1000-500-250-30 and back, with biases."""
    sizes = [784, 1000, 500, 250, 30]
    wanted = sum(2 * a * b + a + b for a, b in itertools.pairwise(sizes))
    network = Autoencoder(AutoencoderConfig(in_channels=1, image_size=(28, 28)))
    assert sum(p.numel() for p in network.parameters()) == wanted


def test_a_layer_as_a_machine_shares_the_network_s_tensors() -> None:
    network = make()
    machine = network.energy_layer(1)
    assert machine.weight is cast(nn.Linear, network.encoder[1]).weight
    assert machine.hidden_bias is cast(nn.Linear, network.encoder[1]).bias
    assert machine.visible_bias is cast(nn.Linear, network.decoder[1]).bias


def test_only_the_code_s_machine_has_linear_hidden_units() -> None:
    network = make()
    assert [isinstance(network.energy_layer(k), LinearHiddenMachine) for k in range(3)] == [False, False, True]
    with pytest.raises(ConfigError, match="0 to 2"):
        network.energy_layer(3)


def test_unrolled_decoder_is_the_encoder_s_transpose() -> None:
    network = make()
    network.unroll()
    for k in range(3):
        up, down = cast(nn.Linear, network.encoder[k]), cast(nn.Linear, network.decoder[2 - k])
        assert torch.equal(down.weight, up.weight.T)


def test_after_unrolling_the_decoder_goes_down_through_the_machines() -> None:
    """p(v | h) of each machine in turn is what the decoder computes."""
    network, code = make(), torch.randn(3, 2, dtype=torch.float64)
    network.unroll()
    x = code
    for k in (2, 1, 0):
        x = network.energy_layer(k).visible_probabilities(x)
    assert torch.allclose(network.decode(code).sigmoid().flatten(1), x, rtol=0, atol=1e-12)


def test_sizes_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="in_channels and image_size"):
        Autoencoder(PRESETS["autoencoder"])


def test_it_offers_the_autoencoder_protocol() -> None:
    assert isinstance(make(), AutoencoderProtocol)
