"""Features of each layer: what the layer after it is given."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.explain.layers import as_vectors, recorded_layers, shape_text
from layerwise.models.classic.deep_belief_network import PRESETS as BELIEF
from layerwise.models.classic.deep_belief_network import DeepBeliefNetwork
from layerwise.models.classic.lenet5 import LeNet5, LeNet5Config
from layerwise.models.classic.mlp import MLP
from layerwise.models.classic.mlp import PRESETS as MLPS
from layerwise.models.vision.convnet import PRESETS as CONVNETS
from layerwise.models.vision.convnet import ConvNet


def test_layers_without_blocks_are_what_the_next_layer_is_given() -> None:
    """LeNet-5's by hand: S2, S4, C5 and F6 of the paper, pooling and activation included."""
    for connections in ("full", "table"):
        torch.manual_seed(0)
        net = LeNet5(LeNet5Config(num_classes=4, in_channels=1, connections=connections)).eval()
        images = torch.randn(3, 1, 32, 32)
        with torch.no_grad(), recorded_layers(net) as found:
            net(images)
            mask = 1.0 if net.connection_mask is None else net.connection_mask
            s2 = F.avg_pool2d(torch.tanh(F.conv2d(images, net.conv1.weight, net.conv1.bias)), 2)
            s4 = F.avg_pool2d(torch.tanh(F.conv2d(s2, net.conv2.weight * mask, net.conv2.bias)), 2)
        assert list(found) == ["conv1", "conv2", "conv3", "fc1"]
        torch.testing.assert_close(found["conv1"], s2)
        torch.testing.assert_close(found["conv2"], s4)
        assert found["conv3"].shape == (3, 120)
        torch.testing.assert_close(found["fc1"], net.forward_features(images))


def test_blocks_give_their_outputs_and_what_is_made_of_the_last_one_comes_after() -> None:
    net = ConvNet(CONVNETS["convnet-tiny"]).eval()
    with torch.no_grad(), recorded_layers(net) as found:
        net(torch.randn(2, 1, 28, 28))
    assert {name: tuple(x.shape) for name, x in found.items()} == {
        "blocks.0": (2, 8, 14, 14),
        "blocks.1": (2, 16, 7, 7),
        "before classifier": (2, 16),
    }
    torch.testing.assert_close(found["before classifier"], found["blocks.1"].mean((2, 3)))


def test_the_last_block_is_not_told_twice() -> None:
    net = MLP(MLPS["mlp-tiny"]).eval()
    with torch.no_grad(), recorded_layers(net) as found:
        net(torch.randn(2, 12))
    assert list(found) == ["blocks.0", "blocks.1"]


def test_every_machine_of_a_belief_network_is_seen() -> None:
    net = DeepBeliefNetwork(BELIEF["deep_belief_network-tiny"]).eval()
    images = torch.rand(2, 1, 6, 6)
    with torch.no_grad(), recorded_layers(net) as found:
        net(images)
        torch.testing.assert_close(found["blocks.0"], net.visible_units(images, 1))
        torch.testing.assert_close(found["blocks.1"], net.forward_features(images))


def test_hooks_are_gone_afterwards_and_compiled_code_is_back() -> None:
    net = ConvNet(CONVNETS["convnet-tiny"]).eval()
    marker = object()
    net.blocks[0]._compiled_call_impl = marker  # pyright: ignore[reportAttributeAccessIssue]
    with torch.no_grad(), recorded_layers(net) as found:
        net(torch.randn(1, 1, 8, 8))  # the marker cannot be called
    kept = dict(found)
    assert net.blocks[0]._compiled_call_impl is marker
    net.blocks[0]._compiled_call_impl = None
    net(torch.randn(1, 1, 8, 8))
    assert list(found) == list(kept)
    assert all(found[name] is kept[name] for name in kept)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_gradients_flow_to_recorded_features() -> None:
    net = LeNet5(LeNet5Config(num_classes=4, in_channels=1)).eval()
    with recorded_layers(net) as found:
        scores = net(torch.randn(1, 1, 32, 32))
        (gradient,) = torch.autograd.grad(scores[0, 1], found["fc1"])
    torch.testing.assert_close(gradient[0], net.fc2.weight[1])


class Tokens(nn.Module):
    """A block that gives a tuple, as attention layers do."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return x + 1, None


class TokenNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Tokens(), Tokens()])
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x, _ = block(x)
        return self.head(x.mean(1))


def test_tokens_in_tuples_are_taken_and_averaged_over_positions() -> None:
    net, x = TokenNet(), torch.randn(2, 3, 4)
    with recorded_layers(net) as found:
        net(x)
    assert list(found) == ["blocks.0", "blocks.1", "before head"]
    torch.testing.assert_close(as_vectors(found["blocks.1"], 100), (x + 2).mean(1))
    assert shape_text(found["blocks.1"]) == "3 tokens of 4"


def test_large_maps_are_averaged_over_windows_until_they_fit() -> None:
    x = torch.arange(2 * 3 * 5 * 5, dtype=torch.float32).view(2, 3, 5, 5)
    assert torch.equal(as_vectors(x, 75), x.flatten(1))
    halved = as_vectors(x, 27)  # 3 x 3 windows of at most 2 x 2, those at the edge cut off
    assert halved.shape == (2, 27)
    expected = [float(x[0, 0, i : i + 2, j : j + 2].mean()) for i in range(0, 5, 2) for j in range(0, 5, 2)]
    assert halved[0, :9].tolist() == expected
    torch.testing.assert_close(as_vectors(x, 1), x.mean((2, 3)))


def test_shapes_in_words() -> None:
    assert shape_text(torch.zeros(2, 6, 14, 12)) == "6 maps of 14 x 12"
    assert shape_text(torch.zeros(2, 1, 8, 8)) == "1 map of 8 x 8"
    assert shape_text(torch.zeros(2, 84)) == "84 values"
