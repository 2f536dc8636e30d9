"""Latent diffusion as one model of three. Parity with diffusers: tests/interop/test_diffusers_pipeline.py."""

import pytest
import torch

from layerwise.core.config import component
from layerwise.core.errors import ConfigError
from layerwise.models.generative.latent_diffusion import PRESETS, LatentDiffusion, LatentDiffusionConfig


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("stable-diffusion-1", 859_520_964 + 83_653_863 + 123_060_480),
        ("stable-diffusion-2", 865_910_724 + 83_653_863 + 340_387_840),
    ],
)
def test_sizes_are_those_of_the_published_checkpoints(name: str, count: int) -> None:
    with torch.device("meta"):
        network = LatentDiffusion(
            LatentDiffusionConfig(
                unet=PRESETS[name].unet,
                vae=component("autoencoder-kl", in_channels=3),
                text_encoder=component(PRESETS[name].text_encoder.name, vocab_size=49408),
            )
        )
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_latents_go_there_and_back_in_one_scale() -> None:
    torch.manual_seed(0)
    net = LatentDiffusion(PRESETS["latent-diffusion-tiny"]).eval()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    latents = net.to_samples(images)
    assert latents.shape == (2, *net.sample_shape(16, 16))
    torch.testing.assert_close(net.to_images(latents), net.vae(images).reconstruction, rtol=1e-4, atol=1e-5)


def test_parts_that_do_not_fit_are_named() -> None:
    tiny = PRESETS["latent-diffusion-tiny"]
    with pytest.raises(ConfigError, match="latent_channels=2"):
        LatentDiffusion(
            LatentDiffusionConfig(unet=tiny.unet, vae=component("autoencoder-kl-tiny"), text_encoder=tiny.text_encoder)
        )
    with pytest.raises(ConfigError, match="extra_channels=5"):
        LatentDiffusion(
            LatentDiffusionConfig(
                unet=component("latent-unet-tiny", extra_channels=5), vae=tiny.vae, text_encoder=tiny.text_encoder
            )
        )
    with pytest.raises(ConfigError, match="18 x 16"):
        LatentDiffusion(tiny).sample_shape(18, 16)
