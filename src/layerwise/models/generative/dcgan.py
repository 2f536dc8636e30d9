"""DCGAN: a generator and a discriminator of strided convolutions.

Paper: A. Radford, L. Metz, S. Chintala, "Unsupervised representation learning with deep convolutional generative
adversarial networks", ICLR 2016. https://arxiv.org/abs/1511.06434
Reference code: the authors' https://github.com/Newmu/dcgan_code and the DCGAN example of pytorch/examples.

Differs from the paper: kernels of 4 x 4 pixels (the paper has 5 x 5), so that every output pixel is made by equally
many taps; the discriminator ends in one linear logit, the sigmoid belongs to the loss; latents are normal, not uniform.
The preset `dcgan` has pixel norm (T. Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 4.2) in the
generator and no norm in the discriminator, so that no sample depends on its batch mates, and He initialisation;
`dcgan-2015` is the paper's 64 x 64 network with batch norm in both and weights from N(0, 0.02).

Shapes: B batch, Z latent size, C channels, H W height and width.
"""

import itertools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PictureSize, PositiveInt
from layerwise.core.errors import ConfigError

CARD = Card(
    title="DCGAN",
    authors="Alec Radford, Luke Metz, Soumith Chintala",
    paper="Unsupervised representation learning with deep convolutional generative adversarial networks",
    year=2016,
    link="https://arxiv.org/abs/1511.06434",
    inputs={"latents": "float [B, latent_size], standard normal"},
    outputs={
        "images": "float [B, in_channels, H, W] in [-1, 1], what the generator makes of the latents",
        "logits": "float [B], the discriminator's logit of each of them: positive says real",
    },
    differences=(
        "Kernels of 4 x 4 pixels instead of 5 x 5.",
        "Normal latents instead of uniform ones.",
        "Pixel norm in the generator, no norm in the discriminator; `dcgan-2015` has the paper's batch norm.",
    ),
    capabilities=("differentiable", "generates"),
)

_SLOPE = 0.2  # of the discriminator's leaky rectifier, section 3 of the paper


@dataclass(frozen=True, kw_only=True)
class DCGANConfig:
    """Sizes of both networks.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures, each divisible by 2 ** len(widths); None takes the data's.
        latent_size: numbers that a picture is made from.
        widths: channels of the generator's maps from coarse to fine, each twice as large as the one before; the
            discriminator has them reversed.
        generator_norm, discriminator_norm: "batch" makes samples depend on their batch mates in training.
    """

    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = None
    latent_size: PositiveInt = 64
    widths: tuple[PositiveInt, ...] = (128, 64)
    generator_norm: Literal["pixel", "batch", "none"] = "pixel"
    discriminator_norm: Literal["batch", "none"] = "none"

    def __post_init__(self) -> None:
        if not self.widths:
            raise ConfigError("widths=(): at least one is needed.")
        factor = 2 ** len(self.widths)
        if self.image_size is not None and any(size % factor for size in self.image_size):
            raise ConfigError(
                f"image_size={self.image_size}: {len(self.widths)} widths need height and width divisible by {factor}."
            )


class DCGANOutput(NamedTuple):
    """Generated pictures [B, C, H, W] and the discriminator's logits of them [B]."""

    images: Tensor
    logits: Tensor


class PixelNorm(nn.Module):
    """Divides the channels of each pixel by their root mean square."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        wide = x if x.dtype == torch.float64 else x.float()  # statistics are float32 on purpose
        return (wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + 1e-8)).to(x.dtype)


def _make_norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return PixelNorm() if kind == "pixel" else nn.Identity()


class UpBlock(nn.Module):
    """Transposed convolution that doubles height and width, norm, rectifier."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=norm != "batch")
        self.norm = _make_norm(norm, out_channels)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        return F.relu(self.norm(self.conv(x)))


class DownBlock(nn.Module):
    """Convolution that halves height and width, norm, leaky rectifier."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=norm != "batch")
        self.norm = _make_norm(norm, out_channels)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        return F.leaky_relu(self.norm(self.conv(x)), _SLOPE)


class Generator(nn.Module):
    """Latents to pictures: a linear map to the coarsest maps, one `UpBlock` a further width, a last transposed
    convolution and tanh.

    Args:
        latent_size, out_channels: of input and pictures.
        image_size: height and width of the pictures.
        widths: channels from coarse to fine.
        norm: "pixel", "batch" or "none".
    """

    def __init__(
        self, *, latent_size: int, out_channels: int, image_size: tuple[int, int], widths: tuple[int, ...], norm: str
    ) -> None:
        super().__init__()
        factor = 2 ** len(widths)
        self.start = (widths[0], image_size[0] // factor, image_size[1] // factor)
        self.project = nn.Linear(latent_size, self.start[0] * self.start[1] * self.start[2], bias=norm != "batch")
        self.norm = _make_norm(norm, widths[0])
        self.blocks = nn.ModuleList(UpBlock(a, b, norm) for a, b in itertools.pairwise(widths))
        self.output = nn.ConvTranspose2d(widths[-1], out_channels, 4, stride=2, padding=1)

    def forward(self, latents: Float[Tensor, "B Z"]) -> Float[Tensor, "B C H W"]:
        x = F.relu(self.norm(self.project(latents).unflatten(1, self.start)))
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.output(x))


class Discriminator(nn.Module):
    """Pictures to one logit each; the first block has no norm (section 3 of the paper).

    Args:
        in_channels: of the pictures.
        image_size: height and width of the pictures.
        widths: channels from fine to coarse.
        norm: "batch" or "none".
    """

    def __init__(self, *, in_channels: int, image_size: tuple[int, int], widths: tuple[int, ...], norm: str) -> None:
        super().__init__()
        factor = 2 ** len(widths)
        inner = [DownBlock(a, b, norm) for a, b in itertools.pairwise(widths)]
        self.blocks = nn.ModuleList([DownBlock(in_channels, widths[0], "none"), *inner])
        self.output = nn.Linear(widths[-1] * (image_size[0] // factor) * (image_size[1] // factor), 1)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The last maps, flattened: what section 5 of the paper classifies by."""
        x = images
        for block in self.blocks:
            x = block(x)
        return x.flatten(1)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        return self.output(self.forward_features(images)).squeeze(1)


class DCGAN(nn.Module):
    """`generator` and `discriminator`; called, it judges its own pictures.

    Shape:
        latents [B, latent_size] -> images [B, in_channels, H, W] in [-1, 1], logits [B].

    Example:
        >>> gan = DCGAN(DCGANConfig(in_channels=1, image_size=(28, 28)))
        >>> gan(torch.zeros(3, gan.latent_size)).images.shape
        torch.Size([3, 1, 28, 28])
    """

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__()
        if config.in_channels is None or config.image_size is None:
            raise ConfigError(
                "in_channels and image_size are needed to build a DCGAN; they come from the data or are given."
            )
        self.config, self.latent_size = config, config.latent_size
        self.generator = Generator(
            latent_size=config.latent_size, out_channels=config.in_channels, image_size=config.image_size,
            widths=config.widths, norm=config.generator_norm,
        )  # fmt: skip
        self.discriminator = Discriminator(
            in_channels=config.in_channels,
            image_size=config.image_size,
            widths=config.widths[::-1],
            norm=config.discriminator_norm,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights N(0, 0.02) in a network with batch norm (section 3 of the paper), else He et al. (2015); norms 1 and
        0, biases 0."""
        kinds = (
            (self.generator, self.config.generator_norm, 0.0),
            (self.discriminator, self.config.discriminator_norm, _SLOPE),
        )
        for network, norm, slope in kinds:
            for module in network.modules():
                if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    if norm == "batch":
                        nn.init.normal_(module.weight, std=0.02)
                    elif isinstance(
                        module, nn.ConvTranspose2d
                    ):  # each output pixel is a sum over in_channels x 2 x 2 of the 4 x 4 taps
                        nn.init.normal_(module.weight, std=(2.0 / (module.in_channels * 4)) ** 0.5)
                    else:
                        nn.init.kaiming_normal_(module.weight, a=slope)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
                elif isinstance(module, nn.BatchNorm2d):
                    module.reset_parameters()

    def forward(self, latents: Float[Tensor, "B Z"]) -> DCGANOutput:
        """Pictures made of the latents and the discriminator's logits of them."""
        images = self.generator(latents)
        return DCGANOutput(images, self.discriminator(images))


PRESETS = {
    "dcgan": DCGANConfig(),
    "dcgan-2015": DCGANConfig(
        latent_size=100, widths=(1024, 512, 256, 128), generator_norm="batch", discriminator_norm="batch"
    ),
    "dcgan-tiny": DCGANConfig(in_channels=1, image_size=(8, 8), latent_size=4, widths=(16, 8)),
}


def example_batch(config: DCGANConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Standard normal latents."""
    return {"latents": torch.randn(batch_size, config.latent_size, generator=generator)}
