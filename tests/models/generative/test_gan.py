"""GAN of 2014: what its card says and the general contract do not cover."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.generative.gan import GAN, GANConfig


def test_networks_are_the_layers_multiplied_out() -> None:
    """Float64, 1e-12."""
    torch.manual_seed(0)
    gan = GAN(GANConfig(in_channels=2, image_size=(3, 4), latent_size=5, hidden_sizes=(7, 9), dropout=0.0)).double()
    latents = torch.randn(6, 5, dtype=torch.float64)
    with torch.no_grad():
        found = gan(latents)
        state = [value for value in gan.generator.state_dict().values()]
        x = latents
        for weight, bias in (state[0:2], state[2:4]):
            x = (x @ weight.T + bias).clamp(min=0)
        x = torch.tanh(x @ state[4].T + state[5])
        torch.testing.assert_close(found.images, x.view(6, 2, 3, 4), rtol=1e-12, atol=1e-12)
        state = [value for value in gan.discriminator.state_dict().values()]
        for weight, bias in (state[0:2], state[2:4]):
            x = x @ weight.T + bias
            x = torch.where(x > 0, x, 0.2 * x)
        torch.testing.assert_close(found.logits, (x @ state[4].T + state[5])[:, 0], rtol=1e-12, atol=1e-12)


def test_discriminator_drops_units_in_training_only() -> None:
    gan = GAN(GANConfig(in_channels=1, image_size=(6, 6), dropout=0.5))
    images = torch.randn(4, 1, 6, 6)
    assert not torch.equal(gan.discriminator(images), gan.discriminator(images))
    gan.eval()
    assert torch.equal(gan.discriminator(images), gan.discriminator(images))


def test_sizes_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="image_size"):
        GAN(GANConfig(in_channels=1))
