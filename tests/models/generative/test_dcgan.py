"""DCGAN: what its card says and the general contract do not cover."""

import math

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.generative.dcgan import DCGAN, PRESETS, DCGANConfig, PixelNorm


def test_pictures_have_the_size_of_the_data_and_lie_in_minus_one_to_one() -> None:
    gan = DCGAN(DCGANConfig(in_channels=3, image_size=(20, 28), widths=(16, 8)))
    with torch.no_grad():
        images, logits = gan(100 * torch.randn(4, gan.latent_size))
    assert images.shape == (4, 3, 20, 28)
    assert logits.shape == (4,)
    assert float(images.abs().max()) <= 1.0


def test_2015_preset_doubles_a_4_by_4_map_four_times_and_has_the_papers_start() -> None:
    torch.manual_seed(0)
    config = PRESETS["dcgan-2015"]
    gan = DCGAN(
        DCGANConfig(
            in_channels=3,
            image_size=(64, 64),
            widths=(64, 32, 16, 8),
            latent_size=config.latent_size,
            generator_norm="batch",
            discriminator_norm="batch",
        )
    )
    assert config.widths == (1024, 512, 256, 128)
    assert gan.generator.start == (64, 4, 4)
    assert gan(torch.randn(2, 100)).images.shape == (2, 3, 64, 64)
    assert gan.generator.project.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not isinstance(gan.discriminator.blocks[0].norm, nn.BatchNorm2d)  # no norm where pictures enter
    assert isinstance(gan.discriminator.blocks[1].norm, nn.BatchNorm2d)


def test_generator_equals_the_same_layers_written_as_zero_stuffed_convolutions() -> None:
    """A transposed convolution of stride 2 is a convolution of the zero-stuffed map with the flipped kernel (1e-10)."""
    torch.manual_seed(0)
    gan = DCGAN(
        DCGANConfig(in_channels=2, image_size=(8, 12), latent_size=5, widths=(16, 8), generator_norm="none")
    ).double()

    def up(x: torch.Tensor, layer: nn.ConvTranspose2d) -> torch.Tensor:
        b, c, h, w = x.shape
        stuffed = torch.zeros(b, c, 2 * h - 1, 2 * w - 1, dtype=torch.float64)
        stuffed[:, :, ::2, ::2] = x
        return nn.functional.conv2d(stuffed, layer.weight.transpose(0, 1).flip(2, 3), layer.bias, padding=2)

    generator, latents = gan.generator, torch.randn(3, 5, dtype=torch.float64)
    with torch.no_grad():
        x = (latents @ generator.project.weight.T + generator.project.bias).clamp(min=0).view(3, 16, 2, 3)
        x = up(x, generator.blocks[0].conv).clamp(min=0)
        wanted = torch.tanh(up(x, generator.output))
        torch.testing.assert_close(generator(latents), wanted, rtol=1e-10, atol=1e-10)


def test_pixel_norm_gives_every_pixel_channels_of_mean_square_one() -> None:
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    found = PixelNorm()(x)
    for b, i, j in [(0, 0, 0), (1, 2, 3)]:
        wanted = x[b, :, i, j] / math.sqrt(sum(float(v) ** 2 for v in x[b, :, i, j]) / 5)
        torch.testing.assert_close(found[b, :, i, j], wanted, rtol=1e-7, atol=0.0)  # eps is 1e-8


def test_default_start_keeps_the_discriminators_scale() -> None:
    """He initialisation: logits of normal pictures start of order one, neither vanishing nor exploding."""
    torch.manual_seed(0)
    gan = DCGAN(DCGANConfig(in_channels=1, image_size=(28, 28)))
    with torch.no_grad():
        spread = float(gan.discriminator(torch.randn(256, 1, 28, 28)).std())
    assert 0.2 < spread < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (30, 28)}, "divisible by 4"),
        ({"widths": ()}, "widths"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DCGANConfig(**options)  # type: ignore[arg-type]


def test_sizes_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="image_size"):
        DCGAN(DCGANConfig(in_channels=1))
