"""The latent diffusion U-Net: published sizes. Parity: tests/interop/test_diffusers.py."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.generative.unet_conditional import PRESETS, UNetConditional, UNetConditionalConfig


@pytest.mark.parametrize(
    ("name", "count"), [("stable-diffusion-1-unet", 859_520_964), ("stable-diffusion-2-unet", 865_910_724)]
)
def test_size_is_that_of_the_published_checkpoints(name: str, count: int) -> None:
    """860 and 865 million in the model cards; the exact numbers are those of the files in diffusers' layout."""
    with torch.device("meta"):
        network = UNetConditional(PRESETS[name])
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_the_context_changes_the_prediction() -> None:
    torch.manual_seed(0)
    net = UNetConditional(PRESETS["latent-unet-tiny"])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    latents, times = torch.randn(1, 4, 8, 8), torch.tensor([5.0])
    first, second = (net(latents, times, torch.randn(1, 5, 12)) for _ in range(2))
    assert not torch.allclose(first, second)


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match="num_heads=3"):
        UNetConditionalConfig(num_heads=(3, 8, 8, 8))
    with pytest.raises(ConfigError, match="one for each"):
        UNetConditionalConfig(attention=(True,))
    with pytest.raises(ConfigError, match="7 x 8"):
        UNetConditional(PRESETS["latent-unet-tiny"])(torch.zeros(1, 4, 7, 8), torch.zeros(1), torch.zeros(1, 2, 12))
