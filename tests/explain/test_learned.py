"""What each layer learned: filters, feature maps, probes of features that are known."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from layerwise.explain import learned
from layerwise.models.classic.deep_belief_network import PRESETS as BELIEF
from layerwise.models.classic.deep_belief_network import DeepBeliefNetwork
from layerwise.models.classic.lenet5 import LeNet5, LeNet5Config
from layerwise.models.classic.mlp import MLP, MLPConfig


class Sorter(nn.Module):
    """Two blocks: one throws the class away, one keeps nothing else."""

    def __init__(self) -> None:
        super().__init__()
        forget, keep = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            forget.weight.copy_(torch.diag(torch.tensor([0.0, 1.0, 1.0])))
            keep.weight.copy_(torch.diag(torch.tensor([1.0, 0.0, 0.0])))
        self.blocks = nn.ModuleList([forget, keep])
        self.head = nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        self.blocks[0](x)
        y = self.blocks[1](x)
        return torch.stack([-y[:, 0], y[:, 0]], 1)


def examples(seed: int) -> learned.Examples:
    """The class is the sign of the first value."""
    net = Sorter()
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(seed))
    labels = (x[:, 0] > 0).long()
    parts = zip(x.split(128), labels.split(128), strict=True)
    return learned.collect(net, ((a, "3 values", lambda a=a: net(a), b) for a, b in parts))


def test_probe_finds_the_class_where_it_is_and_chance_where_it_is_not() -> None:
    train, val = examples(0), examples(1)
    assert torch.equal(val.predicted, val.labels)
    rows = {row.layer: row for row in learned.probes_by_depth(train, val, 2)}
    assert list(rows) == ["input", "blocks.0", "blocks.1"]
    assert rows["input"].right >= 285
    assert rows["blocks.1"].right >= 285
    assert 110 <= rows["blocks.0"].right <= 190  # of 300; chance is 150, with a deviation of 9
    assert rows["input"].gives == "3 values"
    assert rows["input"].count == 300


def test_maps_have_a_place_for_each_of_the_first_examples() -> None:
    maps = learned.maps_by_depth(examples(0), 100)
    assert [name for name, _, _ in maps] == ["input", "blocks.0", "blocks.1"]
    assert all(places.shape == (100, 2) for _, places, _ in maps)
    assert maps[2][2] == 1.0  # the second block keeps one value


def test_deep_networks_are_shown_at_evenly_spread_layers() -> None:
    names = [str(i) for i in range(55)]
    chosen = learned.evenly(names, 12)
    assert len(chosen) == 12
    assert (chosen[0], chosen[-1]) == ("0", "54")
    assert {int(b) - int(a) for a, b in pairwise(chosen)} == {4, 5}
    assert learned.evenly(names[:3], 12) == ["0", "1", "2"]


def test_filters_of_a_convolution_are_drawn_blue_white_red() -> None:
    net = LeNet5(LeNet5Config(num_classes=3, in_channels=1))
    with torch.no_grad():
        net.conv1.weight.zero_()
        net.conv1.weight[0, 0, 0, 0], net.conv1.weight[0, 0, 4, 4] = 2.0, -2.0
    found = learned.first_filters(net, 1, (32, 32))
    assert found is not None
    what, picture = found
    assert what == "6 filters of 5 x 5 in conv1"
    pixels = np.asarray(picture)
    side = (picture.height) // 5
    assert pixels[0, 0].tolist() == [178, 24, 43]  # red: positive
    assert pixels[5 * side - 1, 5 * side - 1].tolist() == [33, 102, 172]  # blue: negative
    assert pixels[2 * side, 2 * side].tolist() == [247, 247, 247]  # white: zero


def test_filters_of_units_that_see_pixels_are_pictures() -> None:
    mlp = MLP(MLPConfig(in_features=3 * 6 * 4, num_classes=2, hidden=(100,)))
    found = learned.first_filters(mlp, 3, (6, 4))
    assert found is not None
    assert found[0] == "100 filters of 6 x 4 in blocks.0.linear, the 64 of largest norm"
    belief = DeepBeliefNetwork(BELIEF["deep_belief_network-tiny"])
    found = learned.first_filters(belief, 1, (6, 6))
    assert found is not None
    assert found[0] == "8 filters of 6 x 6 in blocks.0"


def test_layers_that_see_no_pixels_have_no_filters() -> None:
    assert learned.first_filters(MLP(MLPConfig(in_features=10, num_classes=2)), 1, (6, 6)) is None
    assert learned.first_filters(nn.Conv2d(1, 2, 1), 1, (6, 6)) is None


def test_feature_maps_begin_with_those_that_vary_most() -> None:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Identity()])

        def forward(self, x: Tensor) -> Tensor:
            return self.blocks[0](x).mean((2, 3))

    x = torch.zeros(1, 20, 4, 4)
    x[0, 7, 1, 2], x[0, 3, 0, 0] = 9.0, 1.0
    net = Maps()
    ((what, picture),) = learned.feature_maps(net, lambda: net(x))
    assert what == "blocks.0: 20 maps of 4 x 4, the 16 that vary most"
    pixels = np.asarray(picture)
    scale = 18  # of 72 pixels a map
    bright = [252, 253, 191]
    assert pixels[scale, 2 * scale].tolist() == bright  # map 7 first
    assert pixels[0, 4 * scale + 2].tolist() == bright  # then map 3
    assert pixels[0, 0].tolist() == [0, 0, 4]
