"""The autoencoder of latent diffusion: pictures to latents an eighth as wide, and back.

Paper: R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer, "High-resolution image synthesis with latent diffusion
models", CVPR 2022. https://arxiv.org/abs/2112.10752 (section 3.1, appendix G).
Reference code: the authors' https://github.com/CompVis/latent-diffusion; names as in diffusers' `AutoencoderKL`.

Differs from the paper: none. `decode_tiles` decodes large latents in overlapping tiles, whose memory does not grow with
the picture.

Shapes: B batch, C channels, H W height and width of pictures, Z channels of the latents, h w their height and width.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PictureSize, PositiveFloat, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.group_norm import GroupNorm
from layerwise.nn.init import Init, initialise
from layerwise.nn.resample import Downsample2D, Upsample2D
from layerwise.nn.resnet_block import ResnetBlock2D
from layerwise.nn.spatial_attention import SpatialAttention

CARD = Card(
    title="KL autoencoder",
    authors="Robin Rombach, Andreas Blattmann, Dominik Lorenz, Patrick Esser, Bjoern Ommer",
    paper="High-resolution image synthesis with latent diffusion models",
    year=2022,
    link="https://arxiv.org/abs/2112.10752",
    inputs={
        "images": "float [B, in_channels, H, W] in [-1, 1]; H and W divide by 2 ** (levels - 1)",
        "noise": "float [B, latent_channels, h, w], standard normal; left out, the latents' mean is decoded",
    },
    outputs={
        "reconstruction": "float [B, in_channels, H, W]",
        "mean": "float [B, latent_channels, h, w], of the latents",
        "log_variance": "float [B, latent_channels, h, w], of the latents, in [-30, 20]",
    },
    capabilities=("differentiable",),
    published={"*": {"in_channels": 3}},
)


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig:
    """Sizes of the autoencoder; the defaults are Stable Diffusion's.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        latent_channels: channels of the latents.
        widths: channels of each level, finest first; each level halves the resolution of the one before.
        num_blocks: residual blocks of a level in the encoder; the decoder has one more.
        num_groups: of the group norms.
        scaling_factor: latents are multiplied by it, so that their variance is about one.
        attention: whether the positions of the coarsest maps attend to each other.
        image_size: of the pictures it was made for; it works at others too.
    """

    in_channels: PositiveInt | None = None
    latent_channels: PositiveInt = 4
    widths: tuple[PositiveInt, ...] = (128, 256, 512, 512)
    num_blocks: PositiveInt = 2
    num_groups: PositiveInt = 32
    scaling_factor: PositiveFloat = 0.18215
    attention: bool = True
    image_size: PictureSize | None = None

    def __post_init__(self) -> None:
        if not self.widths or any(width % self.num_groups for width in self.widths):
            raise ConfigError(f"num_groups={self.num_groups} must divide each of widths={self.widths}, at least one.")


class AutoencoderKLOutput(NamedTuple):
    """Reconstruction [B, C, H, W]; mean and logarithm of the variance of the latents [B, Z, h, w]."""

    reconstruction: Tensor
    mean: Tensor
    log_variance: Tensor


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, width: int, num_groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(
            [SpatialAttention(width, head_dim=None, num_groups=num_groups)] if attention else []
        )
        self.resnets = nn.ModuleList(ResnetBlock2D(width, width, num_groups=num_groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.resnets[0](x)
        for mix in self.attentions:
            x = mix(x)
        return self.resnets[1](x)


class DownLevel(nn.Module):
    """Residual blocks, then half the resolution."""

    def __init__(self, inner: int, outer: int, *, num_blocks: int, num_groups: int, last: bool) -> None:
        super().__init__()
        widths = [inner] + [outer] * (num_blocks - 1)
        self.resnets = nn.ModuleList(ResnetBlock2D(width, outer, num_groups=num_groups) for width in widths)
        self.downsamplers = nn.ModuleList([] if last else [Downsample2D(outer, padding=0)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class UpLevel(nn.Module):
    """Residual blocks, then double the resolution."""

    def __init__(self, inner: int, outer: int, *, num_blocks: int, num_groups: int, last: bool) -> None:
        super().__init__()
        widths = [inner] + [outer] * (num_blocks - 1)
        self.resnets = nn.ModuleList(ResnetBlock2D(width, outer, num_groups=num_groups) for width in widths)
        self.upsamplers = nn.ModuleList([] if last else [Upsample2D(outer)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Pictures to mean and logarithm of the variance, side by side."""

    def __init__(self, config: AutoencoderKLConfig, in_channels: int) -> None:
        super().__init__()
        widths, groups = config.widths, config.num_groups
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownLevel(
                widths[max(0, i - 1)], width, num_blocks=config.num_blocks, num_groups=groups, last=i == len(widths) - 1
            )
            for i, width in enumerate(widths)
        )
        self.mid_block = Middle(widths[-1], groups, config.attention)
        self.conv_norm_out = GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B Z2 h w"]:
        x = self.conv_in(images)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(self.conv_norm_out(self.mid_block(x), silu=True))


class Decoder(nn.Module):
    """Latents to pictures."""

    def __init__(self, config: AutoencoderKLConfig, in_channels: int) -> None:
        super().__init__()
        widths, groups = config.widths[::-1], config.num_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], groups, config.attention)
        self.up_blocks = nn.ModuleList(
            UpLevel(
                widths[max(0, i - 1)],
                width,
                num_blocks=config.num_blocks + 1,
                num_groups=groups,
                last=i == len(widths) - 1,
            )
            for i, width in enumerate(widths)
        )
        self.conv_norm_out = GroupNorm(groups, widths[-1], eps=1e-6)
        self.conv_out = nn.Conv2d(widths[-1], in_channels, 3, padding=1)

    def forward(self, latents: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B C H W"]:
        x = self.mid_block(self.conv_in(latents))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(self.conv_norm_out(x, silu=True))


class AutoencoderKL(nn.Module):
    """A variational autoencoder of maps.

    z = m(x) + exp(l(x) / 2) e with e standard normal; the decoder makes the picture of z.

    Shape:
        images [B, in_channels, H, W] -> reconstruction [B, in_channels, H, W], mean and log_variance
        [B, latent_channels, h, w] with h = H / 2 ** (levels - 1).

    Raises:
        ConfigError: `in_channels` is not set.

    Example:
        >>> vae = AutoencoderKL(PRESETS["autoencoder-kl-tiny"])
        >>> [list(part.shape) for part in vae(torch.zeros(2, 3, 16, 16))]
        [[2, 3, 16, 16], [2, 2, 8, 8], [2, 2, 8, 8]]
    """

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__()
        if config.in_channels is None:
            raise ConfigError("in_channels is needed to build an autoencoder; it comes from the data or is given.")
        self.config, self.factor, latent = config, 2 ** (len(config.widths) - 1), config.latent_channels
        self.encoder, self.decoder = Encoder(config, config.in_channels), Decoder(config, config.in_channels)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Lecun normal, biases 0, norms 1; zero for the last convolution of each residual block."""
        initialise(
            self,
            {
                "*norm*.weight": Init("ones"),
                "*.bias": Init("zeros"),
                "*.conv2.weight": Init("zeros"),
                "*": Init("lecun_normal"),
            },
        )

    @property
    def last_layer(self) -> Tensor:
        """Weight of the convolution that gives pictures; its first dimension is their channels."""
        return self.decoder.conv_out.weight

    def encode(self, images: Float[Tensor, "B C H W"]) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latents, [B, Z, h, w] each, before scaling."""
        if images.shape[-2] % self.factor or images.shape[-1] % self.factor:
            raise ConfigError(
                f"pictures of {images.shape[-2]} x {images.shape[-1]} pixels: height and width must divide by "
                f"{self.factor}."
            )
        mean, log_variance = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def decode(self, latents: Float[Tensor, "B Z h w"]) -> Float[Tensor, "B C H W"]:
        """Pictures of latents before scaling."""
        return self.decoder(self.post_quant_conv(latents))

    def decode_tiles(
        self, latents: Float[Tensor, "B Z h w"], tile: int = 64, overlap: int = 16
    ) -> Float[Tensor, "B C H W"]:
        """`decode` in square tiles that overlap and are faded into each other: memory is that of one tile.

        Norms and attention see one tile at a time, so the picture is not exactly that of `decode`.

        Args:
            latents: before scaling; those that fit one tile are decoded at once.
            tile: height and width of a tile at most, in latents; no tile is larger than overlaps and number ask for.
            overlap: of neighbouring tiles, at least; below half a tile.

        Raises:
            ConfigError: the overlap is half a tile or more.
        """
        if not 0 < 2 * overlap < tile:
            raise ConfigError(f"overlap={overlap}: must be above 0 and below half of tile={tile}.")
        height, width = latents.shape[-2:]
        if height <= tile and width <= tile:
            return self.decode(latents)
        channels = self.decoder.conv_out.out_channels
        shape = (len(latents), channels, height * self.factor, width * self.factor)
        sums = torch.zeros(shape, dtype=latents.dtype, device=latents.device)
        weights = torch.zeros(shape[2:], dtype=latents.dtype, device=latents.device)
        down, across = (cut(length, tile, overlap) for length in (height, width))
        for top in down.starts:
            for left in across.starts:
                part = self.decode(latents[..., top : top + down.size, left : left + across.size])
                rows, columns = (slice(at * self.factor, at * self.factor + size) for at, size in
                                 zip((top, left), part.shape[-2:], strict=True))  # fmt: skip
                fade = torch.outer(
                    _fade(part.shape[-2], overlap * self.factor, top > 0, top + down.size < height, part),
                    _fade(part.shape[-1], overlap * self.factor, left > 0, left + across.size < width, part),
                )
                sums[..., rows, columns] += part * fade
                weights[rows, columns] += fade
        return sums / weights

    def forward(
        self, images: Float[Tensor, "B C H W"], noise: Float[Tensor, "B Z h w"] | None = None
    ) -> AutoencoderKLOutput:
        """Reconstruction from a draw of the latents, or from their mean."""
        mean, log_variance = self.encode(images)
        latents = mean if noise is None else mean + torch.exp(0.5 * log_variance) * noise
        return AutoencoderKLOutput(self.decode(latents), mean, log_variance)


class Cut(NamedTuple):
    """Where tiles along one side begin, and how long each is."""

    starts: list[int]
    size: int


def cut(length: int, most: int, overlap: int) -> Cut:
    """As few tiles of at most that length as there can be, each as short as their overlaps allow, evenly spread."""
    if length <= most:
        return Cut([0], length)
    count = -(-(length - overlap) // (most - overlap))
    size = -(-(length + (count - 1) * overlap) // count)
    return Cut([round(i * (length - size) / (count - 1)) for i in range(count)], size)


def _fade(size: int, overlap: int, first: bool, last: bool, like: Tensor) -> Tensor:
    """Weights along one side of a tile: rising from its edge over the overlap where there is a neighbour."""
    ramp = (torch.arange(overlap, dtype=like.dtype, device=like.device) + 0.5) / overlap
    fade = torch.ones(size, dtype=like.dtype, device=like.device)
    if first:
        fade[:overlap] = ramp
    if last:
        fade[size - overlap :] = ramp.flip(0)
    return fade


PRESETS = {
    "autoencoder-kl": AutoencoderKLConfig(image_size=(512, 512)),
    "autoencoder-kl-small": AutoencoderKLConfig(
        widths=(32, 64, 64), num_blocks=1, num_groups=16, attention=False, scaling_factor=1.0
    ),
    "autoencoder-kl-tiny": AutoencoderKLConfig(
        in_channels=3, latent_channels=2, widths=(8, 16), num_blocks=1, num_groups=4, image_size=(16, 16)
    ),
}  # fmt: skip


def example_batch(config: AutoencoderKLConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures and the noise of their latents."""
    height, width = config.image_size or (8 * 2 ** len(config.widths),) * 2
    factor = 2 ** (len(config.widths) - 1)
    noise = torch.randn(batch_size, config.latent_channels, height // factor, width // factor, generator=generator)
    images = torch.rand(batch_size, config.in_channels or 3, height, width, generator=generator) * 2 - 1
    return {"images": images, "noise": noise}
