"""Reconstruction losses against sums written out pixel by pixel."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.models.classic.autoencoder import Autoencoder, AutoencoderConfig
from layerwise.objectives.base import Context
from layerwise.objectives.reconstruction import Reconstruction, ReconstructionConfig
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


def make() -> Autoencoder:
    torch.manual_seed(1)
    config = AutoencoderConfig(in_channels=1, image_size=(2, 3), hidden_sizes=(5,), code_size=2)
    return Autoencoder(config).double()


def batch(count: int = 5) -> dict[str, Tensor]:
    images = torch.rand(count, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return {"images": images, "sample_ids": torch.arange(count)}


def pairs(network: Autoencoder, data: dict[str, Tensor]) -> list[tuple[float, float]]:
    """(pixel, reconstructed pixel) of every picture."""
    logits = network.decode(network.encode(data["images"])).flatten().tolist()
    return [(x, 1 / (1 + math.exp(-s))) for x, s in zip(data["images"].flatten().tolist(), logits, strict=True)]


def test_cross_entropy_is_that_of_grey_levels_as_probabilities() -> None:
    network, data = make(), batch()
    terms = Reconstruction(ReconstructionConfig())(network, data, CONTEXT)
    wanted = sum(-x * math.log(r) - (1 - x) * math.log(1 - r) for x, r in pairs(network, data))
    assert terms["cross_entropy"].sum.item() == pytest.approx(wanted, rel=1e-12)
    assert terms["cross_entropy"].count == 5.0
    assert terms["squared_error"].sum.item() == pytest.approx(sum((x - r) ** 2 for x, r in pairs(network, data)))
    assert not terms["squared_error"].minimised


def test_squared_error_and_its_gradient_are_the_definition() -> None:
    network, data = make(), batch()
    term = Reconstruction(ReconstructionConfig(loss="squared"))(network, data, CONTEXT)["squared_error"]
    found = pairs(network, data)
    assert term.sum.item() == pytest.approx(sum((x - r) ** 2 for x, r in found), rel=1e-12)
    term.sum.backward()
    bias = network.decoder[-1].get_parameter("bias").grad
    assert bias is not None
    slopes = [2 * (r - x) * r * (1 - r) for x, r in found]
    assert bias.tolist() == pytest.approx([sum(slopes[i::6]) for i in range(6)], rel=1e-10)


@pytest.mark.parametrize("options", [{}, {"loss": "squared"}])
def test_counts_are_known_before_the_forward_pass(options: dict[str, Any]) -> None:
    objective, data = Reconstruction(ReconstructionConfig(**options)), batch(3)
    terms = objective(make(), data, CONTEXT)
    assert objective.counts(data, "main") == {name: term.count for name, term in terms.items()}


def test_unroll_starts_the_decoder_as_the_encoder_s_transpose() -> None:
    network = make()
    Reconstruction(ReconstructionConfig()).setup(network)
    weights = [network.encoder[k].get_parameter("weight") for k in (0, 1)]
    mirrored = [network.decoder[k].get_parameter("weight") for k in (1, 0)]
    assert not any(torch.equal(a.T, b) for a, b in zip(weights, mirrored, strict=True))
    Reconstruction(ReconstructionConfig(unroll=True)).setup(network)
    assert all(torch.equal(a.T, b) for a, b in zip(weights, mirrored, strict=True))


def test_a_network_without_a_code_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="code_size, decode, encode"):
        Reconstruction(ReconstructionConfig()).setup(nn.Linear(2, 2))
