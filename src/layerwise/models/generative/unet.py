"""The U-Net of denoising diffusion models.

Paper: J. Ho, A. Jain, P. Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020.
https://arxiv.org/abs/2006.11239 (appendix B). Heads of 64 channels, scale and shift by the time, attention at several
resolutions: P. Dhariwal, A. Nichol, "Diffusion models beat GANs on image synthesis", 2021,
https://arxiv.org/abs/2105.05233.
Reference code: the authors' https://github.com/hojonathanho/diffusion; names as in diffusers' `UNet2DModel`.

Differs from the paper: no dropout unless asked for; an optional embedding of the class is added to that of the time.

Shapes: B batch, C channels, H W height and width, D width of the time embedding.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PictureSize, PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.group_norm import GroupNorm
from layerwise.nn.init import Init, initialise
from layerwise.nn.pixel_space import PixelSpace
from layerwise.nn.resample import Downsample2D, Upsample2D
from layerwise.nn.resnet_block import ResnetBlock2D
from layerwise.nn.spatial_attention import SpatialAttention
from layerwise.nn.timestep_embedding import TimestepEmbedding, sinusoidal_embedding

CARD = Card(
    title="Diffusion U-Net",
    authors="Jonathan Ho, Ajay Jain, Pieter Abbeel",
    paper="Denoising diffusion probabilistic models",
    year=2020,
    link="https://arxiv.org/abs/2006.11239",
    inputs={
        "images": "float [B, in_channels, H, W], noisy; H and W divide by 2 ** (levels - 1)",
        "timesteps": "float [B], 0 is without noise",
        "labels": "int64 [B], below num_classes, or num_classes for no class; left out without classes",
    },
    outputs={"prediction": "float [B, in_channels, H, W], of the noise, the picture or the velocity, as trained"},
    differences=(
        "No dropout unless asked for.",
        "The class, where there is one, is embedded and added to the embedding of the time.",
    ),
    capabilities=("differentiable", "generates"),
    published={"ddpm-*": {"in_channels": 3, "num_classes": 0}},
)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a diffusion U-Net; the defaults are the paper's for CIFAR-10.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        num_classes: classes that it can be told; 0: none; None takes the data's.
        null_class: one more class, the last, says "any": what guidance without a classifier needs.
        image_size: of the pictures it was made for; None takes the data's. It works at others too.
        widths: channels of each level, finest first; each level halves the resolution of the one before.
        attention: whether the positions of a level attend to each other.
        num_blocks: residual blocks of a level on the way down; one more on the way up.
        head_dim: channels of an attention head; None means one head.
        num_groups, eps: of the group norms.
        scale_shift: the time scales and shifts maps in place of being added.
        cosine_first, freq_shift: form of the sinusoids of the time.
        pad_evenly: convolutions with stride 2 pad all four sides, not only right and below.
        dropout: probability of dropping a value inside residual blocks in training.
    """

    in_channels: PositiveInt | None = None
    num_classes: NonNegativeInt | None = None
    null_class: bool = True
    image_size: PictureSize | None = None
    widths: tuple[PositiveInt, ...] = (128, 256, 256, 256)
    attention: tuple[bool, ...] = (False, True, False, False)
    num_blocks: PositiveInt = 2
    head_dim: PositiveInt | None = None
    num_groups: PositiveInt = 32
    eps: PositiveFloat = 1e-6
    scale_shift: bool = False
    cosine_first: bool = False
    freq_shift: NonNegativeInt = 1
    pad_evenly: bool = False
    dropout: Probability = 0.0

    def __post_init__(self) -> None:
        if not self.widths or len(self.attention) != len(self.widths):
            raise ConfigError(f"attention={self.attention}: one for each of widths={self.widths}, at least one.")
        for width in self.widths:
            if width % self.num_groups:
                raise ConfigError(f"num_groups={self.num_groups} must divide each of widths={self.widths}.")
            if self.head_dim is not None and width % self.head_dim:
                raise ConfigError(f"head_dim={self.head_dim} must divide each of widths={self.widths}.")
        factor = 2 ** (len(self.widths) - 1)
        if self.image_size is not None and any(side % factor for side in self.image_size):
            raise ConfigError(
                f"image_size={self.image_size}: {len(self.widths)} levels need height and width divisible by {factor}."
            )


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention where the level has it.

    Args:
        config: of the whole network.
        channels: (in, out) of each block.
        attention: whether there is any.
    """

    def __init__(self, config: UNetConfig, channels: Iterable[tuple[int, int]], attention: bool) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        for inner, outer in channels:
            self.resnets.append(_residual(config, inner, outer))
            if attention:
                self.attentions.append(
                    SpatialAttention(outer, head_dim=config.head_dim, num_groups=config.num_groups, eps=config.eps)
                )

    def apply_block(self, i: int, x: Tensor, time: Tensor) -> Tensor:
        """Block i and its attention."""
        x = self.resnets[i](x, time)
        return self.attentions[i](x) if len(self.attentions) else x


def _residual(config: UNetConfig, inner: int, outer: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        inner, outer, time_channels=4 * config.widths[0], num_groups=config.num_groups, eps=config.eps,
        scale_shift=config.scale_shift, dropout=config.dropout,
    )  # fmt: skip


class DownLevel(Level):
    """A level on the way down: every block's result is kept for the way up, then the resolution is halved."""

    def __init__(self, config: UNetConfig, inner: int, outer: int, *, attention: bool, last: bool) -> None:
        super().__init__(config, [(inner, outer), *[(outer, outer)] * (config.num_blocks - 1)], attention)
        self.downsamplers = nn.ModuleList([] if last else [Downsample2D(outer, int(config.pad_evenly))])

    def forward(self, x: Float[Tensor, "B I H W"], time: Float[Tensor, "B D"]) -> list[Tensor]:
        kept: list[Tensor] = []
        for i in range(len(self.resnets)):
            x = self.apply_block(i, x, time)
            kept.append(x)
        return [*kept, *(down(x) for down in self.downsamplers)]


class UpLevel(Level):
    """A level on the way up: every block also reads what was kept on the way down, then the resolution is doubled."""

    def __init__(
        self, config: UNetConfig, inner: int, outer: int, skips: list[int], *, attention: bool, last: bool
    ) -> None:
        first, *others = skips
        super().__init__(config, [(inner + first, outer), *((outer + skip, outer) for skip in others)], attention)
        self.upsamplers = nn.ModuleList([] if last else [Upsample2D(outer)])

    def forward(
        self, x: Float[Tensor, "B I H W"], kept: list[Tensor], time: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B O h w"]:
        for i in range(len(self.resnets)):
            x = self.apply_block(i, torch.cat([x, kept.pop()], dim=1), time)
        for up in self.upsamplers:
            x = up(x)
        return x


class MiddleLevel(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.resnets = nn.ModuleList(_residual(config, width, width) for _ in range(2))
        # With scale and shift the published networks have no norm here.
        groups = None if config.scale_shift else config.num_groups
        self.attentions = nn.ModuleList(
            [SpatialAttention(width, head_dim=config.head_dim, num_groups=groups, eps=config.eps)]
        )

    def forward(self, x: Float[Tensor, "B C H W"], time: Float[Tensor, "B D"]) -> Float[Tensor, "B C H W"]:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time)), time)


class UNet(PixelSpace, nn.Module):
    """What a noisy picture and its time say of noise and picture.

    Args:
        config: sizes; `in_channels` and `num_classes` must be set.

    Shape:
        images [B, in_channels, H, W], timesteps [B], labels [B] -> [B, in_channels, H, W].

    Raises:
        ConfigError: a size that only the data knows is not set.

    Example:
        >>> net = UNet(PRESETS["ddpm-tiny"])
        >>> net(torch.randn(2, 1, 8, 8), torch.full((2,), 10.0), torch.full((2,), 3)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        if config.in_channels is None or config.num_classes is None:
            raise ConfigError(
                "in_channels and num_classes are needed to build a U-Net; they come from the data or are given "
                "(num_classes=0 for none)."
            )
        self.config, self.in_channels, self.num_classes = config, config.in_channels, config.num_classes
        self.null_class = config.null_class
        widths, attention = config.widths, config.attention
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        rows = config.num_classes + config.null_class
        self.class_embedding = nn.Embedding(rows, 4 * widths[0]) if config.num_classes else None
        last = len(widths) - 1
        self.down_blocks = nn.ModuleList(
            DownLevel(config, widths[max(0, i - 1)], widths[i], attention=attention[i], last=i == last)
            for i in range(len(widths))
        )
        self.mid_block = MiddleLevel(config)
        self.up_blocks = nn.ModuleList()
        for i in reversed(range(len(widths))):  # the last block of a level reads what came into it on the way down
            skips = [widths[i]] * config.num_blocks + [widths[max(0, i - 1)]]
            inner = widths[min(i + 1, last)]
            self.up_blocks.append(UpLevel(config, inner, widths[i], skips, attention=attention[i], last=i == 0))
        self.conv_norm_out = GroupNorm(config.num_groups, widths[0], eps=config.eps)
        self.conv_out = nn.Conv2d(widths[0], config.in_channels, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot uniform; zero for the last layer of each branch and of the network, so that branches start as the
        identity (the reference code's `init_scale=0`).
        """
        rules = {
            "*norm*.weight": Init("ones"),
            "*.bias": Init("zeros"),
            "*.conv2.weight": Init("zeros"),
            "*.to_out.0.weight": Init("zeros"),
            "conv_out.weight": Init("zeros"),
        }
        if self.class_embedding is not None:
            rules["class_embedding.weight"] = Init("normal", 0.02)
        initialise(self, {**rules, "*": Init("glorot_uniform")})

    def _embed(self, timesteps: Tensor, labels: Tensor | None) -> Tensor:
        """The vector that all residual blocks read."""
        config = self.config
        waves = sinusoidal_embedding(
            timesteps, config.widths[0], cosine_first=config.cosine_first, freq_shift=config.freq_shift
        )
        time = self.time_embedding(waves.to(self.conv_in.weight.dtype))
        if self.class_embedding is None:
            if labels is not None:
                raise ConfigError("labels were given to a network without classes.")
            return time
        if labels is None:
            if not config.null_class:
                raise ConfigError("this network needs labels: it was made without a class for none.")
            labels = torch.full(timesteps.shape, self.num_classes, device=timesteps.device)
        return time + self.class_embedding(labels)

    def forward(
        self,
        images: Float[Tensor, "B C H W"],
        timesteps: Float[Tensor, " B"],
        labels: Int64[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """The prediction; labels left out mean no class."""
        factor = 2 ** (len(self.config.widths) - 1)
        if images.shape[-2] % factor or images.shape[-1] % factor:
            raise ConfigError(
                f"pictures of {images.shape[-2]} x {images.shape[-1]} pixels: {len(self.config.widths)} levels need "
                f"height and width divisible by {factor}."
            )
        time = self._embed(timesteps, labels)
        x = self.conv_in(images)
        kept = [x]
        for down in self.down_blocks:
            kept += down(kept[-1], time)
        x = self.mid_block(kept[-1], time)
        for up in self.up_blocks:
            x = up(x, kept, time)
        return self.conv_out(self.conv_norm_out(x, silu=True))


PRESETS = {
    "ddpm-cifar10": UNetConfig(image_size=(32, 32)),
    "ddpm-256": UNetConfig(
        image_size=(256, 256), widths=(128, 128, 256, 256, 512, 512),
        attention=(False, False, False, False, True, False),
    ),
    "ddpm-small": UNetConfig(
        widths=(32, 64, 64), attention=(False, False, True), num_blocks=1, num_groups=8, pad_evenly=True, head_dim=32
    ),
    "ddpm-tiny": UNetConfig(
        in_channels=1, num_classes=5, image_size=(8, 8), widths=(8, 16), attention=(False, True), num_blocks=1,
        num_groups=4,
    ),
}  # fmt: skip


def example_batch(config: UNetConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Noise of the size that the network is made for, at random times, of random classes."""
    height, width = config.image_size or (8 * 2 ** len(config.widths),) * 2
    batch = {
        "images": torch.randn(batch_size, config.in_channels or 3, height, width, generator=generator),
        "timesteps": 1000 * torch.rand(batch_size, generator=generator),
    }
    if config.num_classes:
        batch["labels"] = torch.randint(config.num_classes, (batch_size,), generator=generator)
    return batch
