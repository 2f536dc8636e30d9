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


@pytest.mark.slow
@torch.no_grad()
def test_a_picture_of_512_pixels_is_decoded_in_tiles_like_the_whole_and_without_a_seam() -> None:
    """Of smooth latents, as those of pictures are. Norms and attention see one tile at a time, so tiles are not the
    whole exactly: within 4 % of the picture's range on average.
    """
    torch.manual_seed(0)
    net = LatentDiffusion(PRESETS["latent-diffusion-tiny"]).eval()
    for parameter in net.vae.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    coarse = torch.nn.functional.interpolate(torch.randn(1, 4, 64, 64), size=(256, 256), mode="bicubic")
    whole, tiled = net.to_images_in_tiles(coarse, 512), net.to_images_in_tiles(coarse, 128)
    assert torch.equal(whole, net.vae.decode(coarse / net.vae.config.scaling_factor))
    assert whole.shape == tiled.shape == (1, 3, 512, 512)
    assert not torch.equal(whole, tiled)
    span = float(whole.quantile(0.99) - whole.quantile(0.01))
    assert float((whole - tiled).abs().mean()) < 0.04 * span
    steps = (tiled[..., 1:] - tiled[..., :-1]).abs().mean(dim=(0, 1, 2))
    starts = [round(i * (256 - 64) / 4) for i in range(5)]  # five tiles of 64 latents overlap by 16 at least
    edges = sorted({2 * at - 1 for at in starts if at} | {2 * (at + 64) - 1 for at in starts if at + 64 < 256})
    assert float(steps[edges].max()) <= 1.2 * float(steps.quantile(0.95))
    with pytest.raises(ConfigError, match="16 or more"):
        net.to_images_in_tiles(coarse, 8)
