"""Where a network's layers are."""

from torch import nn

from layerwise.nn.blocks import block_names, repeated_blocks


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.body = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])})

    @property
    def blocks(self) -> nn.Module:
        return self.body["layers"]


def test_blocks_are_named_in_order_of_depth() -> None:
    network = Deep()
    assert block_names(network) == ["body.layers.0", "body.layers.1", "body.layers.2"]
    assert list(repeated_blocks(network).values()) == list(network.blocks.children())


def test_a_network_without_blocks_is_taken_layer_by_layer_but_for_the_first_and_last() -> None:
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2, 2), nn.Linear(2, 2)]
    network = nn.Sequential(*layers)
    assert repeated_blocks(network) == {}
    assert block_names(network) == ["2", "4"]
