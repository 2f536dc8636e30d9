"""The all-convolutional network: what the general contract does not cover."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from layerwise.core.errors import ConfigError
from layerwise.models.vision.convnet import ConvNet, ConvNetConfig


def test_parameters_are_counted_by_hand() -> None:
    """Stages of 32, 64, 128, two convolutions each: 9 i o for the kernel, 2 o for the norm; and the classifier."""
    network = ConvNet(ConvNetConfig(num_classes=10, in_channels=1))
    widths = [1, 32, 32, 64, 64, 128, 128]
    wanted = sum(9 * i * o + 2 * o for i, o in itertools.pairwise(widths)) + 128 * 10 + 10
    assert sum(parameter.numel() for parameter in network.parameters()) == wanted


def test_network_equals_its_layers_written_out() -> None:
    torch.manual_seed(0)
    network = ConvNet(ConvNetConfig(num_classes=3, in_channels=2, widths=(8, 16), depth=2, num_groups=4)).double()
    images = torch.randn(5, 2, 13, 10, dtype=torch.float64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        x = images
        for index, block in enumerate(network.blocks):
            x = F.conv2d(x, block.conv.weight, stride=2 - index % 2, padding=1)
            grouped = x.reshape(5, 4, -1)
            grouped = (grouped - grouped.mean(2, keepdim=True)) / (
                grouped.var(2, correction=0, keepdim=True) + 1e-5
            ).sqrt()
            x = grouped.view_as(x) * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
            x = x.clamp(min=0)
        features = x.flatten(2).sum(2) / (x.shape[2] * x.shape[3])
        assert x.shape[2:] == (4, 3)
        torch.testing.assert_close(network.forward_features(images), features, rtol=1e-10, atol=1e-10)
        wanted = features @ network.classifier.weight.T + network.classifier.bias
        torch.testing.assert_close(network(images), wanted, rtol=1e-10, atol=1e-10)


def test_features_of_four_positions_are_means_of_quarters() -> None:
    network = ConvNet(ConvNetConfig(num_classes=3, in_channels=1, widths=(8, 16), depth=1, pool_size=2)).double()
    maps = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    network.blocks = torch.nn.ModuleList([torch.nn.Identity()])
    quarters = [maps[:, :, a : a + 2, b : b + 3].mean((2, 3)) for a in (0, 2) for b in (0, 3)]
    torch.testing.assert_close(network.forward_features(maps), torch.stack(quarters, dim=2).flatten(1))


def test_feature_size_is_the_width_of_features() -> None:
    network = ConvNet(ConvNetConfig(num_classes=3, in_channels=1, widths=(8, 24), pool_size=2))
    assert network.forward_features(torch.zeros(2, 1, 28, 28)).shape == (2, network.feature_size) == (2, 96)


def test_width_that_groups_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_groups=8"):
        ConvNetConfig(widths=(32, 60))
