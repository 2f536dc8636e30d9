"""Packed denoisers equal the networks that they were made of."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.api.models import create_model
from layerwise.core.errors import UnsupportedError
from layerwise.infer.freeze import FusedConv2d
from layerwise.infer.pack_denoiser import PackedResnetBlock, pack_denoiser
from layerwise.infer.pack_linear import PackedLinear

SIZES: dict[str, dict[str, Any]] = {
    "ddpm-small": {"in_channels": 3, "num_classes": 4},
    "ddpm-tiny": {"scale_shift": True},
    "dit-tiny": {},
    "latent-diffusion-tiny": {},
    "latent-unet-tiny": {"linear_projection": True},
}


def made(name: str) -> tuple[nn.Module, list[Tensor]]:
    """A network whose zero weights are none, and inputs in forward's order."""
    torch.manual_seed(0)
    network = create_model(name, **SIZES[name]).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    size = (4, 8, 8) if name.startswith("latent") else (3, 16, 16) if name == "ddpm-small" else (1, 8, 8)
    samples, times = torch.randn(3, *size), torch.tensor([900.0, 500.0, 3.0])
    if not name.startswith("latent"):
        return network, [samples, times, torch.tensor([0, 3, 1])]
    unet: Any = getattr(network, "unet", network)
    return network, [samples, times, torch.randn(3, 5, unet.config.context_size)]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@torch.no_grad()
def test_forward_is_equal_up_to_rounding(name: str, dtype: torch.dtype, tolerance: float) -> None:
    network, inputs = made(name)
    expected = network(*inputs)
    packed = pack_denoiser(network, dtype)
    found = packed(*inputs)
    assert float((found - expected).norm()) <= tolerance * float(expected.norm())
    assert any(isinstance(module, PackedLinear) for module in packed.modules())
    assert any(isinstance(module, FusedConv2d) for module in packed.modules()) or name.startswith("dit")
    assert not any(type(module) in (nn.Linear, nn.Conv2d) for module in packed.modules())


@torch.no_grad()
def test_pictures_and_conditions_of_latent_diffusion_are_equal_up_to_rounding() -> None:
    network: Any = made("latent-diffusion-tiny")[0]
    latents, tokens, images = torch.randn(2, 4, 8, 8), torch.randint(5, (2, 7)), torch.rand(2, 3, 16, 16) * 2 - 1

    def stages(network: Any) -> list[Tensor]:
        return [network.to_images(latents), network.embed_condition(tokens), network.to_samples(images)]

    expected = stages(network)
    for found, wanted in zip(stages(pack_denoiser(network)), expected, strict=True):
        assert float((found - wanted).norm()) <= 1e-5 * float(wanted.norm())


@torch.no_grad()
def test_a_layer_that_was_changed_from_outside_stays() -> None:
    network, inputs = made("ddpm-small")
    block: Any = network.get_submodule("mid_block.resnets.0")
    seen: list[int] = []
    block.register_forward_hook(lambda *_: seen.append(1))
    block.conv1.register_forward_hook(lambda module, given, result: 2 * result)
    expected = copy.deepcopy(network)(*inputs)
    seen.clear()
    packed = pack_denoiser(network)
    assert float((packed(*inputs) - expected).norm()) <= 1e-5 * float(expected.norm())
    assert seen == [1]
    assert type(packed.get_submodule("mid_block.resnets.0.conv1")) is nn.Conv2d
    assert isinstance(packed.get_submodule("mid_block.resnets.1"), PackedResnetBlock)


def test_training_and_other_types_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="eval"):
        pack_denoiser(made("ddpm-small")[0].train())
    with pytest.raises(UnsupportedError, match="float32"):
        pack_denoiser(made("ddpm-small")[0].double())
