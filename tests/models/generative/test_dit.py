"""DiT: published sizes, positions. Parity: tests/interop/test_diffusers.py."""

import math

import pytest
import torch

import layerwise as lw
from layerwise.core.errors import ConfigError
from layerwise.models.generative.dit import PRESETS, DiT, DiTConfig, sinusoidal_positions


@pytest.mark.parametrize(("name", "millions"), [("dit-s-2", 33), ("dit-b-2", 130), ("dit-l-2", 458), ("dit-xl-2", 675)])
def test_size_is_the_published_one(name: str, millions: int) -> None:
    """Peebles and Xie 2023, table 1 and table 4."""
    with torch.device("meta"):
        network = lw.create_model(name)
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6) == millions


def test_positions_are_sines_and_cosines_of_column_and_row() -> None:
    found = sinusoidal_positions(8, (2, 3), 2, torch.device("cpu"))
    assert found.shape == (6, 8)
    for row in range(2):
        for column in range(3):
            at = column * 2 / 3  # three columns are stretched to the two that the network was made for
            wanted = [f(place * rate) for place in (at, row) for f in (math.sin, math.cos) for rate in (1.0, 0.01)]
            assert found[3 * row + column].tolist() == pytest.approx(wanted, abs=1e-6)


def test_a_fresh_network_predicts_zero_and_its_blocks_are_the_identity() -> None:
    net = DiT(PRESETS["dit-tiny"])
    assert bool((net(torch.randn(2, 1, 8, 8), torch.tensor([1.0, 9.0])) == 0).all())
    tokens = torch.randn(2, 16, 16)
    assert torch.equal(net.blocks[0](tokens, torch.randn(2, 16)), tokens)


def test_patches_come_back_where_they_were() -> None:
    """A last layer that writes its bias: every patch is that pattern."""
    net = DiT(PRESETS["dit-tiny"])
    with torch.no_grad():
        net.final_layer.linear.bias.copy_(torch.arange(4.0))
    found = net(torch.zeros(1, 1, 4, 6), torch.zeros(1))[0, 0]
    assert torch.equal(found, torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(2, 3))


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match="num_heads=5"):
        DiTConfig(num_heads=5)
    with pytest.raises(ConfigError, match="patch_size=2"):
        DiTConfig(image_size=(7, 8))
    with pytest.raises(ConfigError, match="7 x 8"):
        DiT(PRESETS["dit-tiny"])(torch.zeros(1, 1, 7, 8), torch.zeros(1))
