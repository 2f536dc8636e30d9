"""GAN: a generator and a discriminator of fully connected layers.

Paper: I. Goodfellow, J. Pouget-Abadie, M. Mirza, B. Xu, D. Warde-Farley, S. Ozair, A. Courville, Y. Bengio, "Generative
adversarial nets", NeurIPS 2014, https://arxiv.org/abs/1406.2661

Differs from the paper: the discriminator has leaky rectifiers where the paper has maxout, and ends in a logit; latents
are normal; the generator's hidden units are rectifiers only.

Shapes: B batch, Z latent size, C H W pictures.
"""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PictureSize, PositiveInt, Probability
from layerwise.core.errors import ConfigError

CARD = Card(
    title="GAN",
    authors=(
        "Ian Goodfellow, Jean Pouget-Abadie, Mehdi Mirza, Bing Xu, David Warde-Farley, Sherjil Ozair, Aaron Courville, "
        "Yoshua Bengio"
    ),
    paper="Generative adversarial nets",
    year=2014,
    link="https://arxiv.org/abs/1406.2661",
    inputs={"latents": "float [B, latent_size], standard normal"},
    outputs={
        "images": "float [B, in_channels, H, W] in [-1, 1], what the generator makes of the latents",
        "logits": "float [B], the discriminator's logit of each of them: positive says real",
    },
    differences=(
        "The discriminator has leaky rectifiers instead of maxout.",
        "Normal latents instead of uniform ones.",
    ),
    capabilities=("differentiable", "generates"),
)

_SLOPE = 0.2


@dataclass(frozen=True, kw_only=True)
class GANConfig:
    """Sizes of both networks.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures; None takes the data's.
        latent_size: numbers that a picture is made from.
        hidden_sizes: units of the generator's hidden layers; the discriminator has them reversed.
        dropout: probability of dropping a hidden unit of the discriminator in training.
    """

    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = None
    latent_size: PositiveInt = 100
    hidden_sizes: tuple[PositiveInt, ...] = (512, 1024)
    dropout: Probability = 0.3


class GANOutput(NamedTuple):
    """Generated pictures [B, C, H, W] and the discriminator's logits of them [B]."""

    images: Tensor
    logits: Tensor


class Generator(nn.Sequential):
    """Latents [B, Z] to pictures [B, C, H, W] in [-1, 1]."""

    def __init__(self, *, latent_size: int, hidden_sizes: tuple[int, ...], picture_shape: tuple[int, int, int]) -> None:
        hidden = [
            layer for a, b in itertools.pairwise((latent_size, *hidden_sizes)) for layer in (nn.Linear(a, b), nn.ReLU())
        ]
        last = (latent_size, *hidden_sizes)[-1]
        super().__init__(*hidden, nn.Linear(last, math.prod(picture_shape)), nn.Tanh(), nn.Unflatten(1, picture_shape))


class Discriminator(nn.Sequential):
    """Pictures [B, C, H, W] to one logit each [B]."""

    def __init__(self, *, picture_shape: tuple[int, int, int], hidden_sizes: tuple[int, ...], dropout: float) -> None:
        sizes = (math.prod(picture_shape), *hidden_sizes)
        hidden = [
            layer
            for a, b in itertools.pairwise(sizes)
            for layer in (nn.Linear(a, b), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout))
        ]
        super().__init__(nn.Flatten(), *hidden, nn.Linear(sizes[-1], 1), nn.Flatten(0))


class GAN(nn.Module):
    """`generator` and `discriminator`; called, it judges its own pictures.

    Shape:
        latents [B, latent_size] -> images [B, in_channels, H, W] in [-1, 1], logits [B].

    Example:
        >>> gan = GAN(GANConfig(in_channels=1, image_size=(28, 28)))
        >>> gan(torch.zeros(3, gan.latent_size)).images.shape
        torch.Size([3, 1, 28, 28])
    """

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        if config.in_channels is None or config.image_size is None:
            raise ConfigError("in_channels and image_size are needed; they come from the data or are given.")
        self.config, self.latent_size = config, config.latent_size
        shape = (config.in_channels, *config.image_size)
        self.generator = Generator(
            latent_size=config.latent_size, hidden_sizes=config.hidden_sizes, picture_shape=shape
        )
        self.discriminator = Discriminator(
            picture_shape=shape, hidden_sizes=config.hidden_sizes[::-1], dropout=config.dropout
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. (2015); biases 0."""
        for network, slope in ((self.generator, 0.0), (self.discriminator, _SLOPE)):
            for module in network.modules():
                if isinstance(module, nn.Linear):
                    nn.init.kaiming_normal_(module.weight, a=slope)
                    nn.init.zeros_(module.bias)

    def forward(self, latents: Float[Tensor, "B Z"]) -> GANOutput:
        """Pictures made of the latents and the discriminator's logits of them."""
        images = self.generator(latents)
        return GANOutput(images, self.discriminator(images))


PRESETS = {
    "gan": GANConfig(),
    "gan-tiny": GANConfig(in_channels=1, image_size=(6, 6), latent_size=4, hidden_sizes=(12, 16), dropout=0.0),
}


def example_batch(config: GANConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Standard normal latents."""
    return {"latents": torch.randn(batch_size, config.latent_size, generator=generator)}
