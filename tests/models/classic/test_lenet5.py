"""LeNet-5: the paper's parameter counts, its table of connections, a naive forward pass."""

import math

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.lenet5 import PRESETS, LeNet5, LeNet5Config


def build(**options: object) -> LeNet5:
    torch.manual_seed(0)
    return LeNet5(LeNet5Config(num_classes=10, in_channels=1, **options))  # pyright: ignore[reportArgumentType]


def test_parameter_counts_are_the_published_ones() -> None:
    net = build()
    layers = {name: sum(p.numel() for p in module.parameters()) for name, module in net.named_children()}
    assert layers["conv1"] == 156  # C1 of the paper
    assert layers["conv3"] == 48_120  # C5
    assert layers["fc1"] == 10_164  # F6
    assert sum(layers.values()) == 61_706


def test_the_table_of_connections_leaves_the_papers_1516_parameters_of_c3() -> None:
    net = build(connections="table")
    assert net.connection_mask is not None
    connected = int(net.connection_mask.sum()) * 25 + 16
    assert connected == 1_516
    per_map = net.connection_mask.sum(1).flatten().int().tolist()
    assert per_map == [3] * 6 + [4] * 9 + [6]
    assert net.connection_mask.sum(0).flatten().int().tolist() == [10] * 6


def test_a_map_that_is_not_connected_does_not_matter() -> None:
    net = build(connections="table").double()
    images = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    before = net(images)
    with torch.no_grad():
        net.conv2.weight[0, 3:] += 5.0  # the first C3 map sees S2 maps 0, 1, 2 only
    assert torch.equal(net(images), before)
    with torch.no_grad():
        net.conv2.weight[0, 2] += 5.0
    assert not torch.allclose(net(images), before)


def test_the_forward_pass_is_the_papers_layer_by_layer() -> None:
    net = build().double()
    image = torch.randn(1, 1, 32, 32, dtype=torch.float64)

    def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        size = x.shape[1] - 4
        out = torch.empty(weight.shape[0], size, size, dtype=torch.float64)
        for k in range(weight.shape[0]):
            for i in range(size):
                for j in range(size):
                    out[k, i, j] = (x[:, i : i + 5, j : j + 5] * weight[k]).sum() + bias[k]
        return out

    def pool(x: torch.Tensor) -> torch.Tensor:
        return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4

    with torch.no_grad():
        x = pool(torch.tanh(convolve(image[0], net.conv1.weight, net.conv1.bias)))  # pyright: ignore[reportArgumentType]
        x = pool(torch.tanh(convolve(x, net.conv2.weight, net.conv2.bias)))  # pyright: ignore[reportArgumentType]
        x = torch.tanh(convolve(x, net.conv3.weight, net.conv3.bias)).flatten()  # pyright: ignore[reportArgumentType]
        x = torch.tanh(net.fc1.weight @ x + net.fc1.bias)
        expected = net.fc2.weight @ x + net.fc2.bias
        assert torch.allclose(net(image)[0], expected, rtol=0, atol=1e-12)


def test_smaller_pictures_are_padded_with_their_border() -> None:
    net = build().double()
    small = torch.full((1, 1, 28, 28), 0.7, dtype=torch.float64)
    assert torch.equal(net(small), net(torch.full((1, 1, 32, 32), 0.7, dtype=torch.float64)))


def test_larger_pictures_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"data.size=32"):
        build()(torch.zeros(1, 1, 40, 32))


def test_initial_weights_have_glorots_variance() -> None:
    net = build()
    weight = net.fc1.weight.detach()
    gain = 5 / 3
    assert weight.std().item() == pytest.approx(gain * math.sqrt(2 / (120 + 84)), rel=0.05)
    assert net.fc1.bias.abs().max() == 0


def test_presets_differ_as_named() -> None:
    assert PRESETS["lenet5-1998"].connections == "table"
    with pytest.raises(ConfigError, match="connections=table"):
        LeNet5Config(connections="table", channels=(4, 16, 120))
