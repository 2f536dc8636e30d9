"""The U-Net of latent diffusion: a diffusion U-Net whose maps attend to a text.

Paper: R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer, "High-resolution image synthesis with latent diffusion
models", CVPR 2022. https://arxiv.org/abs/2112.10752 (section 3.3, appendix E.2.1).
Reference code: the authors' https://github.com/CompVis/latent-diffusion; names as in diffusers' `UNet2DConditionModel`.

Differs from the paper: none; `stable-diffusion-2-unet` has linear maps into and out of its transformers and heads of 64
channels, as those checkpoints have.

Shapes: B batch, C channels of the latents, H W height and width, S tokens of the context, E their width, D width of the
time embedding.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PictureSize, PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.attention import merge_heads, split_heads
from layerwise.nn.group_norm import GroupNorm
from layerwise.nn.init import Init, initialise
from layerwise.nn.resample import Downsample2D, Upsample2D
from layerwise.nn.resnet_block import ResnetBlock2D
from layerwise.nn.timestep_embedding import TimestepEmbedding, sinusoidal_embedding
from layerwise.ops.attention import attention

CARD = Card(
    title="Latent diffusion U-Net",
    authors="Robin Rombach, Andreas Blattmann, Dominik Lorenz, Patrick Esser, Bjoern Ommer",
    paper="High-resolution image synthesis with latent diffusion models",
    year=2022,
    link="https://arxiv.org/abs/2112.10752",
    inputs={
        "latents": "float [B, C, H, W], noisy; H and W divide by 2 ** (levels - 1)",
        "timesteps": "float [B], 0 is without noise",
        "context": "float [B, S, context_size], a text's features",
    },
    outputs={"prediction": "float [B, latent_channels, H, W], of the noise, the latents or the velocity, as trained"},
    capabilities=("differentiable", "generates"),
)


@dataclass(frozen=True, kw_only=True)
class UNetConditionalConfig:
    """Sizes of a latent diffusion U-Net; the defaults are Stable Diffusion 1's.

    Args:
        latent_channels: channels of the latents.
        extra_channels: further input channels, after the latents (mask and masked picture of inpainting checkpoints).
        latent_size: height and width of the latents it was made for; it works at others too.
        widths: channels of each level, finest first; each level halves the resolution of the one before.
        attention: whether the maps of a level attend to each other and to the context; the middle always does.
        num_heads: attention heads of each level; the middle has the last level's.
        num_blocks: residual blocks of a level on the way down; one more on the way up.
        num_layers: transformer layers after each residual block of a level with attention.
        context_size: width of the context.
        linear_projection: maps enter and leave their transformer through a linear map in place of a 1 x 1 convolution:
            the same function, but other shapes of weights.
        num_groups, eps: of the residual blocks' group norms.
        cosine_first, freq_shift: form of the sinusoids of the time.
        dropout: probability of dropping a value inside residual blocks in training.
    """

    latent_channels: PositiveInt = 4
    extra_channels: NonNegativeInt = 0
    latent_size: PictureSize = (64, 64)
    widths: tuple[PositiveInt, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)
    num_heads: tuple[PositiveInt, ...] = (8, 8, 8, 8)
    num_blocks: PositiveInt = 2
    num_layers: PositiveInt = 1
    context_size: PositiveInt = 768
    linear_projection: bool = False
    num_groups: PositiveInt = 32
    eps: PositiveFloat = 1e-5
    cosine_first: bool = True
    freq_shift: NonNegativeInt = 0
    dropout: Probability = 0.0

    def __post_init__(self) -> None:
        levels = len(self.widths)
        if not levels or len(self.attention) != levels or len(self.num_heads) != levels:
            raise ConfigError(
                f"attention={self.attention} and num_heads={self.num_heads}: one for each of widths={self.widths}, at "
                "least one."
            )
        for width, heads in zip(self.widths, self.num_heads, strict=True):
            if width % self.num_groups or width % heads:
                raise ConfigError(
                    f"num_groups={self.num_groups} and num_heads={heads} must divide the level's width {width}."
                )


class CrossAttention(nn.Module):
    """Attention to a context, or of the queries to each other.

    Args:
        d_model: width of queries and results.
        num_heads: heads.
        context_size: width of the context; None means `d_model`.
    """

    def __init__(self, d_model: int, num_heads: int, context_size: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(d_model, d_model, bias=False)
        self.to_k = nn.Linear(context_size or d_model, d_model, bias=False)
        self.to_v = nn.Linear(context_size or d_model, d_model, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(d_model, d_model)])

    def forward(self, x: Float[Tensor, "B T W"], context: Tensor | None = None) -> Float[Tensor, "B T W"]:
        source = x if context is None else context
        q, k, v = (
            split_heads(project(given), self.num_heads)
            for project, given in ((self.to_q, x), (self.to_k, source), (self.to_v, source))
        )
        return self.to_out[0](merge_heads(attention(q, k, v)))


class GEGLU(nn.Module):
    """`a * gelu(b)` with a and b from one linear map (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.proj = nn.Linear(d_model, 2 * d_ff)

    def forward(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B T F"]:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU of four times the width, then a linear map; the entry between them was dropout."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(d_model, 4 * d_model), nn.Identity(), nn.Linear(4 * d_model, d_model)])

    def forward(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B T W"]:
        return self.net[2](self.net[0](x))


class TransformerLayer(nn.Module):
    """Self-attention, attention to the context, feed-forward, each `x + f(norm(x))`."""

    def __init__(self, d_model: int, num_heads: int, context_size: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(d_model) for _ in range(3))
        self.attn1 = CrossAttention(d_model, num_heads)
        self.attn2 = CrossAttention(d_model, num_heads, context_size)
        self.ff = FeedForward(d_model)

    def forward(self, x: Float[Tensor, "B T W"], context: Float[Tensor, "B S E"]) -> Float[Tensor, "B T W"]:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """`x + proj_out(layers(proj_in(norm(x)), context))` with positions as tokens.

    Args:
        config: of the whole network.
        channels: of the maps.
        num_heads: of its layers.
    """

    def __init__(self, config: UNetConditionalConfig, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm, self.linear = GroupNorm(config.num_groups, channels, eps=1e-6), config.linear_projection
        self.proj_in, self.proj_out = (
            nn.Linear(channels, channels) if config.linear_projection else nn.Conv2d(channels, channels, 1)
            for _ in range(2)
        )
        self.transformer_blocks = nn.ModuleList(
            TransformerLayer(channels, num_heads, config.context_size) for _ in range(config.num_layers)
        )

    def forward(self, x: Float[Tensor, "B W h w"], context: Float[Tensor, "B S E"]) -> Float[Tensor, "B W h w"]:
        size = tuple(x.shape[2:])
        if self.linear:
            tokens = self.proj_in(_to_tokens(self.norm(x)))
        else:
            tokens = _to_tokens(self.proj_in(self.norm(x)))
        for layer in self.transformer_blocks:
            tokens = layer(tokens, context)
        if self.linear:
            return x + _to_map(self.proj_out(tokens), size)
        return x + self.proj_out(_to_map(tokens, size))


def _to_tokens(x: Tensor) -> Tensor:
    """[B, W, h, w] -> [B, h w, W]."""
    return x.flatten(2).transpose(1, 2)


def _to_map(tokens: Tensor, size: tuple[int, ...]) -> Tensor:
    """[B, h w, W] -> [B, W, h, w], a view with channels last."""
    return tokens.transpose(1, 2).unflatten(2, size)


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by a transformer where the level has them.

    Args:
        config: of the whole network.
        level: its place, 0 is the finest.
        channels: (in, out) of each block.
    """

    def __init__(self, config: UNetConditionalConfig, level: int, channels: list[tuple[int, int]]) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        for inner, outer in channels:
            self.resnets.append(_residual(config, inner, outer))
            if config.attention[level]:
                self.attentions.append(SpatialTransformer(config, outer, config.num_heads[level]))

    def apply_block(self, i: int, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """Block i and its transformer."""
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if len(self.attentions) else x


def _residual(config: UNetConditionalConfig, inner: int, outer: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        inner, outer, time_channels=4 * config.widths[0], num_groups=config.num_groups, eps=config.eps,
        dropout=config.dropout,
    )  # fmt: skip


class DownLevel(Level):
    """A level on the way down: every block's result is kept for the way up, then the resolution is halved."""

    def __init__(self, config: UNetConditionalConfig, level: int) -> None:
        inner, outer = config.widths[max(0, level - 1)], config.widths[level]
        super().__init__(config, level, [(inner, outer), *[(outer, outer)] * (config.num_blocks - 1)])
        last = level == len(config.widths) - 1
        self.downsamplers = nn.ModuleList([] if last else [Downsample2D(outer)])

    def forward(self, x: Tensor, time: Float[Tensor, "B D"], context: Float[Tensor, "B S E"]) -> list[Tensor]:
        kept: list[Tensor] = []
        for i in range(len(self.resnets)):
            x = self.apply_block(i, x, time, context)
            kept.append(x)
        return [*kept, *(down(x) for down in self.downsamplers)]


class UpLevel(Level):
    """A level on the way up: every block also reads what was kept on the way down, then the resolution is doubled."""

    def __init__(self, config: UNetConditionalConfig, level: int) -> None:
        outer, widths = config.widths[level], config.widths
        skips = [outer] * config.num_blocks + [widths[max(0, level - 1)]]
        inner = [widths[min(level + 1, len(widths) - 1)]] + [outer] * config.num_blocks
        super().__init__(config, level, [(a + b, outer) for a, b in zip(inner, skips, strict=True)])
        self.upsamplers = nn.ModuleList([] if level == 0 else [Upsample2D(outer)])

    def forward(
        self, x: Tensor, kept: list[Tensor], time: Float[Tensor, "B D"], context: Float[Tensor, "B S E"]
    ) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.apply_block(i, torch.cat([x, kept.pop()], dim=1), time, context)
        for up in self.upsamplers:
            x = up(x)
        return x


class MiddleLevel(nn.Module):
    """Residual block, transformer, residual block."""

    def __init__(self, config: UNetConditionalConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.attentions = nn.ModuleList([SpatialTransformer(config, width, config.num_heads[-1])])
        self.resnets = nn.ModuleList(_residual(config, width, width) for _ in range(2))

    def forward(self, x: Tensor, time: Float[Tensor, "B D"], context: Float[Tensor, "B S E"]) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time), context), time)


class UNetConditional(nn.Module):
    """What noisy latents, their time and a text say of noise and latents.

    Shape:
        latents [B, latent_channels + extra_channels, H, W], timesteps [B], context [B, S, context_size]
        -> [B, latent_channels, H, W].

    Example:
        >>> net = UNetConditional(PRESETS["latent-unet-tiny"])
        >>> net(torch.randn(2, 4, 8, 8), torch.full((2,), 10.0), torch.randn(2, 5, 12)).shape
        torch.Size([2, 4, 8, 8])
    """

    def __init__(self, config: UNetConditionalConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.conv_in = nn.Conv2d(config.latent_channels + config.extra_channels, widths[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        self.down_blocks = nn.ModuleList(DownLevel(config, i) for i in range(len(widths)))
        self.mid_block = MiddleLevel(config)
        self.up_blocks = nn.ModuleList(UpLevel(config, i) for i in reversed(range(len(widths))))
        self.conv_norm_out = GroupNorm(config.num_groups, widths[0], eps=config.eps)
        self.conv_out = nn.Conv2d(widths[0], config.latent_channels, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot uniform; zero for the last layer of each residual block and transformer and of the network, so that
        they start as the identity.
        """
        initialise(
            self,
            {
                "*norm*.weight": Init("ones"),
                "*.bias": Init("zeros"),
                "*.conv2.weight": Init("zeros"),
                "*.proj_out.weight": Init("zeros"),
                "conv_out.weight": Init("zeros"),
                "*": Init("glorot_uniform"),
            },
        )

    def forward(
        self,
        latents: Float[Tensor, "B C H W"],
        timesteps: Float[Tensor, " B"],
        context: Float[Tensor, "B S E"],
    ) -> Float[Tensor, "B K H W"]:
        """The prediction."""
        config, factor = self.config, 2 ** (len(self.config.widths) - 1)
        if latents.shape[-2] % factor or latents.shape[-1] % factor:
            raise ConfigError(
                f"latents of {latents.shape[-2]} x {latents.shape[-1]}: {len(config.widths)} levels need height and "
                f"width divisible by {factor}."
            )
        waves = sinusoidal_embedding(
            timesteps, config.widths[0], cosine_first=config.cosine_first, freq_shift=config.freq_shift
        )
        time = self.time_embedding(waves.to(self.conv_in.weight.dtype))
        kept = [self.conv_in(latents)]
        for down in self.down_blocks:
            kept += down(kept[-1], time, context)
        x = self.mid_block(kept[-1], time, context)
        for up in self.up_blocks:
            x = up(x, kept, time, context)
        return self.conv_out(self.conv_norm_out(x, silu=True))


PRESETS = {
    "stable-diffusion-1-unet": UNetConditionalConfig(),
    "stable-diffusion-2-unet": UNetConditionalConfig(
        latent_size=(96, 96), num_heads=(5, 10, 20, 20), context_size=1024, linear_projection=True
    ),
    "latent-unet-small": UNetConditionalConfig(
        latent_size=(16, 16), widths=(64, 128), attention=(True, True), num_heads=(2, 4), num_blocks=1,
        context_size=128, num_groups=16,
    ),
    "latent-unet-tiny": UNetConditionalConfig(
        latent_size=(8, 8), widths=(8, 16), attention=(True, False), num_heads=(2, 2), num_blocks=1, context_size=12,
        num_groups=4,
    ),
}  # fmt: skip


def example_batch(config: UNetConditionalConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Noise of the size that the network is made for, at random times, with five random tokens."""
    channels = config.latent_channels + config.extra_channels
    return {
        "latents": torch.randn(batch_size, channels, *config.latent_size, generator=generator),
        "timesteps": 1000 * torch.rand(batch_size, generator=generator),
        "context": torch.randn(batch_size, 5, config.context_size, generator=generator),
    }
