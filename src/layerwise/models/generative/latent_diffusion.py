"""Latent diffusion: a text encoder, a U-Net that denoises latents under a text, and an autoencoder that makes pictures
of them. Stable Diffusion 1 and 2 are this.

Paper: R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer, "High-resolution image synthesis with latent diffusion
models", CVPR 2022. https://arxiv.org/abs/2112.10752
Reference code: https://github.com/CompVis/stable-diffusion; names as in the folders of diffusers' pipelines.

Differs from the paper: the text encoder is CLIP's, as in Stable Diffusion, in place of a transformer trained along.

Shapes: B batch, C channels and H W height and width of pictures, Z h w of latents, T tokens, E width of the text.
"""

from dataclasses import dataclass
from typing import Annotated, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import Component, Kind, component, parse_component, to_tree
from layerwise.core.errors import ConfigError
from layerwise.models.generative.autoencoder_kl import AutoencoderKL
from layerwise.models.generative.unet_conditional import UNetConditional
from layerwise.models.multimodal.clip import CLIPText

CARD = Card(
    title="Latent diffusion",
    authors="Robin Rombach, Andreas Blattmann, Dominik Lorenz, Patrick Esser, Bjoern Ommer",
    paper="High-resolution image synthesis with latent diffusion models",
    year=2022,
    link="https://arxiv.org/abs/2112.10752",
    inputs={
        "latents": "float [B, Z, h, w], noisy, scaled to about unit variance",
        "timesteps": "float [B], 0 is without noise",
        "context": "float [B, T, E], the text encoder's features",
    },
    outputs={"prediction": "float [B, Z, h, w], of the noise, the latents or the velocity, as trained"},
    differences=("The text encoder is CLIP's, as in Stable Diffusion.",),
    capabilities=("generates",),
    published={"*": {"in_channels": 3, "vocab_size": 49408}},
)


_LEAST_TILE = 8  # latents


@dataclass(frozen=True, kw_only=True)
class LatentDiffusionConfig:
    """The three networks; what one gives is what the next takes.

    Args:
        unet: denoises latents.
        vae: makes latents of pictures and pictures of latents.
        text_encoder: makes the context of tokens.
    """

    unet: Annotated[Component, Kind("model")] = component("stable-diffusion-1-unet")
    vae: Annotated[Component, Kind("model")] = component("autoencoder-kl")
    text_encoder: Annotated[Component, Kind("model")] = component("clip-text-l-14")


def _resolved(part: Component) -> Component:
    return part if part.config is not None else parse_component("model", to_tree(part), "model")


class LatentDiffusion(nn.Module):
    """What noisy latents, their time and a text say of noise and latents.

    Args:
        config: the three networks.

    Shape:
        latents [B, Z, h, w], timesteps [B], context [B, T, E] -> [B, Z, h, w].

    Raises:
        ConfigError: the parts do not fit each other.

    Example:
        >>> net = LatentDiffusion(PRESETS["latent-diffusion-tiny"])
        >>> net.sample_shape(16, 16)
        (4, 8, 8)
    """

    def __init__(self, config: LatentDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = cast(UNetConditional, _resolved(config.unet).build())
        self.vae = cast(AutoencoderKL, _resolved(config.vae).build())
        self.text_encoder = cast(CLIPText, _resolved(config.text_encoder).build())
        unet, vae, text = self.unet.config, self.vae.config, self.text_encoder.config
        if unet.latent_channels != vae.latent_channels or unet.context_size != text.d_model:
            raise ConfigError(
                f"unet.latent_channels={unet.latent_channels} and unet.context_size={unet.context_size} must be "
                f"vae.latent_channels={vae.latent_channels} and text_encoder.d_model={text.d_model}."
            )
        if unet.extra_channels:
            raise ConfigError(
                f"unet.extra_channels={unet.extra_channels}: a U-Net that also reads a mask and a picture is no "
                "text-to-image model; load the folder `unet` by itself."
            )
        self.picture_size = (unet.latent_size[0] * self.vae.factor, unet.latent_size[1] * self.vae.factor)
        self.max_seq_len = text.max_seq_len

    @property
    def autoencoder(self) -> AutoencoderKL:
        """The part that is trained first, by itself."""
        return self.vae

    def reset_parameters(self) -> None:
        """Each part its own."""
        self.unet.reset_parameters()
        self.vae.reset_parameters()
        self.text_encoder.reset_parameters()

    def sample_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Of the latents of pictures of that size.

        Raises:
            ConfigError: it does not divide.
        """
        factor = self.vae.factor * 2 ** (len(self.unet.config.widths) - 1)
        if height % factor or width % factor:
            raise ConfigError(f"pictures of {height} x {width} pixels: height and width must divide by {factor}.")
        return (self.vae.config.latent_channels, height // self.vae.factor, width // self.vae.factor)

    def to_samples(
        self, images: Float[Tensor, "B C H W"], noise: Float[Tensor, "B Z h w"] | None = None
    ) -> Float[Tensor, "B Z h w"]:
        """Scaled latents of pictures in [-1, 1]: their mean, or a draw by standard normal noise."""
        mean, log_variance = self.vae.encode(images)
        latents = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return latents * self.vae.config.scaling_factor

    def to_images(self, samples: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B C H W"]:
        """Pictures of scaled latents; large ones in tiles."""
        return self.vae.decode_tiles(samples / self.vae.config.scaling_factor)

    def to_images_in_tiles(self, samples: Float[Tensor, "B Z h w"], pixels: int) -> Float[Tensor, "B C H W"]:
        """Pictures of scaled latents, in tiles of so many pixels a side that overlap by a quarter.

        Raises:
            ConfigError: no tile is so small.
        """
        factor = self.vae.factor
        if pixels < _LEAST_TILE * factor:
            raise ConfigError(f"tiles of {pixels} pixels: this autoencoder needs {_LEAST_TILE * factor} or more.")
        tile = pixels // factor
        return self.vae.decode_tiles(samples / self.vae.config.scaling_factor, tile, tile // 4)

    def embed_condition(self, condition: Int64[Tensor, "B T"]) -> Float[Tensor, "B T E"]:
        """Features of tokens."""
        return self.text_encoder(condition).last_hidden_state

    def forward(
        self,
        latents: Float[Tensor, "B Z h w"],
        timesteps: Float[Tensor, " B"],
        context: Float[Tensor, "B T E"],
    ) -> Float[Tensor, "B Z h w"]:
        """The prediction."""
        return self.unet(latents, timesteps, context)


PRESETS = {
    "stable-diffusion-1": LatentDiffusionConfig(),
    "stable-diffusion-2": LatentDiffusionConfig(
        unet=component("stable-diffusion-2-unet"), text_encoder=component("clip-text-h-14")
    ),
    "latent-diffusion-small": LatentDiffusionConfig(
        unet=component("latent-unet-small"),
        vae=component("autoencoder-kl-small"),
        text_encoder=component("clip-text-small"),
    ),
    "latent-diffusion-tiny": LatentDiffusionConfig(
        unet=component("latent-unet-tiny"),
        vae=component("autoencoder-kl-tiny", latent_channels=4),
        text_encoder=component("clip-text-tiny"),
    ),
}


def example_batch(config: LatentDiffusionConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Noise, at random times, with five random tokens' features."""
    unet = _resolved(config.unet).config
    return {
        "latents": torch.randn(batch_size, unet.latent_channels, *unet.latent_size, generator=generator),
        "timesteps": 1000 * torch.rand(batch_size, generator=generator),
        "context": torch.randn(batch_size, 5, unet.context_size, generator=generator),
    }
