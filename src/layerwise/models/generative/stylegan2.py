"""StyleGAN2: a generator whose convolutions are modulated by styles, and a residual discriminator.

Paper: T. Karras, S. Laine, M. Aittala, J. Hellsten, J. Lehtinen, T. Aila, "Analyzing and improving the image quality of
StyleGAN", CVPR 2020, https://arxiv.org/abs/1912.04958 (modulation and demodulation: equations 1 to 3; skip generator
and residual discriminator: section 4.1); mapping network, noise and truncation: "A style-based generator architecture
for generative adversarial networks", 2019, https://arxiv.org/abs/1812.04948; minibatch deviation and equalised learning
rates: "Progressive growing of GANs", 2018, https://arxiv.org/abs/1710.10196.
Reference code: https://github.com/NVlabs/stylegan2-ada-pytorch. State-dict names follow it, with `generator.` and
`discriminator.` before them.

Differs from the paper: the smallest maps are as large as halving leaves them, 4 to 7 pixels a side, so that pictures of
28 pixels are made as they are; activations are modulated and not weights, which is the same.

Shapes: B batch, Z latent, S style, L styles a picture, N noise values a picture, I O channels, C H W pictures.
"""

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeFloat, PictureSize, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.ops.fir import conv_down, conv_up, upsample
from layerwise.ops.random import Draws

CARD = Card(
    title="StyleGAN2",
    authors="Tero Karras, Samuli Laine, Miika Aittala, Janne Hellsten, Jaakko Lehtinen, Timo Aila",
    paper="Analyzing and improving the image quality of StyleGAN",
    year=2020,
    link="https://arxiv.org/abs/1912.04958",
    inputs={"latents": "float [B, latent_size], standard normal"},
    outputs={
        "images": "float [B, in_channels, H, W], about [-1, 1], with the constant noise",
        "logits": "float [B], the discriminator's logit of each of them: positive says real",
    },
    differences=("The smallest maps have 4 to 7 pixels a side.",),
    capabilities=("differentiable", "generates"),
)

_SLOPE, _GAIN = 0.2, math.sqrt(2.0)


@dataclass(frozen=True, kw_only=True)
class StyleGAN2Config:
    """Sizes of both networks; maps with n pixels a side have `min(channel_base // n, channel_max)` channels.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures; None takes the data's.
        latent_size: numbers that a picture is made from.
        style_size: width of a style.
        mapping_layers: layers from latent to style.
        channel_base, channel_max: see above.
        group_size: pictures whose spread the discriminator sees together; 1 shows it none.
        truncation: styles of generated pictures are drawn towards the mean style, of which this share of the distance
            is left: 1 draws all that was learned, less is more typical.
    """

    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = None
    latent_size: PositiveInt = 512
    style_size: PositiveInt = 512
    mapping_layers: PositiveInt = 8
    channel_base: PositiveInt = 32768
    channel_max: PositiveInt = 512
    group_size: PositiveInt = 4
    truncation: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        if self.image_size is not None and (min(self.image_size) < 4 or not self.doublings):
            raise ConfigError(f"image_size={self.image_size}: height and width must be even and 8 or more.")

    @property
    def doublings(self) -> int:
        """How often the smallest maps are doubled."""
        count, (height, width) = 0, self.image_size or (0, 0)
        while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8:
            count, height, width = count + 1, height // 2, width // 2
        return count

    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of the maps, from small to large."""
        height, width = self.image_size or (0, 0)
        return [(height >> k, width >> k) for k in reversed(range(self.doublings + 1))]

    def channels(self, size: tuple[int, int]) -> int:
        """Of maps of that size."""
        return max(1, min(self.channel_base // max(size), self.channel_max))


class StyleGAN2Output(NamedTuple):
    """Generated pictures [B, C, H, W] and the discriminator's logits of them [B]."""

    images: Tensor
    logits: Tensor


def _wide(x: Tensor) -> Tensor:
    """Float32, or float64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _activate(x: Tensor) -> Tensor:
    """Leaky rectifier that keeps the mean square of normal values at about one."""
    return F.leaky_relu(x, _SLOPE) * _GAIN


class EqualLinear(nn.Module):
    """`x (g W)' + m b` with weights N(0, 1 / m^2) and `g = m / sqrt(in_features)`: every layer learns at one pace.

    Args:
        in_features, out_features: sizes.
        rate: m, factor of the learning rate.
        bias: what the bias starts from.
    """

    def __init__(self, in_features: int, out_features: int, *, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.gain, self.rate, self.start = rate / math.sqrt(in_features), rate, bias
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights N(0, 1 / m^2), biases the start / m."""
        nn.init.normal_(self.weight, std=1.0 / self.rate)
        nn.init.constant_(self.bias, self.start / self.rate)

    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        return F.linear(x, self.weight * self.gain, self.bias * self.rate)


class EqualConv2d(nn.Conv2d):
    """A convolution with weights N(0, 1) that are scaled by `1 / sqrt(fan in)`; `down` halves the map (see
    `ops/fir.py`).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, down: bool = False, bias: bool = True
    ) -> None:
        self.down = down
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)

    def reset_parameters(self) -> None:
        """Weights N(0, 1), biases 0."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        weight = self.weight / math.sqrt(self.weight[0].numel())
        made = conv_down(input, weight) if self.down else F.conv2d(input, weight, padding=self.padding)
        return made if self.bias is None else made + self.bias.to(made.dtype)[:, None, None]


class MappingNetwork(nn.Module):
    """Latents, scaled to a mean square of one, to styles: fully connected layers at a hundredth of the learning rate.

    `w_avg` is the running mean of styles, kept by the objective; truncation draws towards it.
    """

    w_avg: Tensor

    def __init__(self, *, latent_size: int, style_size: int, num_layers: int) -> None:
        super().__init__()
        self.num_layers = num_layers
        for k in range(num_layers):
            self.add_module(f"fc{k}", EqualLinear(latent_size if k == 0 else style_size, style_size, rate=0.01))
        self.register_buffer("w_avg", torch.zeros(style_size))

    def forward(self, latents: Float[Tensor, "B Z"]) -> Float[Tensor, "B S"]:
        wide = _wide(latents)  # statistics are float32 on purpose
        x = wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + 1e-8)
        for k in range(self.num_layers):
            x = _activate(getattr(self, f"fc{k}")(x))
        return x


class ModulatedConv(nn.Module):
    """A convolution whose kernel is scaled by the style: `w'_ijk = s_i w_ijk`, and, where demodulated,
    `w''_ijk = w'_ijk / sqrt(sum_ik w'_ijk^2 + 1e-8)` (equations 1 and 3).

    The map's channels are scaled by s before the convolution and by the root after it: one kernel serves the batch.

    Args:
        in_channels, out_channels, kernel_size: of the kernel.
        style_size: width of a style.
        demodulate: whether each output channel is scaled back.
        up: double the map (see `ops/fir.py`).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, style_size: int, *, demodulate: bool, up: bool
    ) -> None:
        super().__init__()
        self.demodulate, self.up = demodulate, up
        self.affine = EqualLinear(style_size, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        nn.init.normal_(self.weight)

    def convolve(self, x: Float[Tensor, "B I H W"], style: Float[Tensor, "B S"]) -> Float[Tensor, "B O H2 W2"]:
        """The modulated convolution, without bias."""
        scale = self.affine(style).to(self.weight.dtype)
        if not self.demodulate:
            scale = scale / math.sqrt(self.weight[0].numel())
        x = x * scale.to(x.dtype)[:, :, None, None]
        made = conv_up(x, self.weight) if self.up else F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        if not self.demodulate:
            return made
        with torch.autocast(x.device.type, enabled=False):  # the roots are float32 on purpose
            norm = torch.rsqrt(scale.square() @ self.weight.square().sum((2, 3)).T + 1e-8)
        return made * norm.to(made.dtype)[:, :, None, None]


class SynthesisLayer(ModulatedConv):
    """Modulated 3 x 3 convolution, noise times a learned strength, bias, leaky rectifier.

    Args:
        size: height and width of the map that it makes, and of its noise.
        in_channels, out_channels, style_size, up: as in `ModulatedConv`.
    """

    noise_const: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, style_size: int, *, size: tuple[int, int], up: bool
    ) -> None:
        super().__init__(in_channels, out_channels, 3, style_size, demodulate=True, up=up)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size))

    def forward(
        self, x: Float[Tensor, "B I H W"], style: Float[Tensor, "B S"], noise: Float[Tensor, "B N"] | None
    ) -> Float[Tensor, "B O H2 W2"]:
        made = self.convolve(x, style)
        given = self.noise_const if noise is None else noise.view(-1, 1, *self.noise_const.shape)
        made = made + (given * self.noise_strength).to(made.dtype)
        return _activate(made + self.bias.to(made.dtype)[:, None, None])


class ToRGB(ModulatedConv):
    """Modulated 1 x 1 convolution to the picture's channels, not demodulated."""

    def __init__(self, in_channels: int, out_channels: int, style_size: int) -> None:
        super().__init__(in_channels, out_channels, 1, style_size, demodulate=False, up=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Float[Tensor, "B I H W"], style: Float[Tensor, "B S"]) -> Float[Tensor, "B O H W"]:
        return _wide(self.convolve(x, style)) + self.bias[:, None, None]  # pictures are float32 on purpose


class SynthesisBlock(nn.Module):
    """Layers at one size; what they paint is added to the smaller picture, doubled (skip generator).

    Args:
        in_channels: of the smaller maps; 0 starts from a learned constant.
        out_channels: of the maps.
        size: height and width of the maps.
        style_size: width of a style.
        picture_channels: channels of the pictures.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, size: tuple[int, int], style_size: int, picture_channels: int
    ) -> None:
        super().__init__()
        self.num_layers = 2 if in_channels else 1
        if in_channels:
            self.conv0 = SynthesisLayer(in_channels, out_channels, style_size, size=size, up=True)
        else:
            self.const = nn.Parameter(torch.randn(out_channels, *size))
        self.conv1 = SynthesisLayer(out_channels, out_channels, style_size, size=size, up=False)
        self.torgb = ToRGB(out_channels, picture_channels, style_size)

    def forward(
        self, x: Tensor | None, picture: Tensor | None, styles: list[Tensor], noises: list[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Maps and picture of this size; `styles` has one for each layer and one for the picture."""
        below = self.const.expand(len(styles[0]), -1, -1, -1) if x is None else self.conv0(x, styles[0], noises[0])
        made: Tensor = self.conv1(below, styles[-2], noises[-1])
        painted: Tensor = self.torgb(made, styles[-1])
        return made, painted if picture is None else upsample(picture) + painted


class SynthesisNetwork(nn.Module):
    """Styles [B, L, S] to pictures, from small maps to large ones: blocks `b4`, `b8` ... by the maps' longer side."""

    def __init__(self, config: StyleGAN2Config, picture_channels: int) -> None:
        super().__init__()
        sizes = config.sizes()
        self.names = [f"b{max(size)}" for size in sizes]
        below = 0
        for name, size in zip(self.names, sizes, strict=True):
            channels = config.channels(size)
            block = SynthesisBlock(
                below, channels, size=size, style_size=config.style_size, picture_channels=picture_channels
            )
            self.add_module(name, block)
            below = channels
        self.layer_sizes = [size for k, size in enumerate(sizes) for _ in range(1 if k == 0 else 2)]
        self.num_styles = len(self.layer_sizes) + 1
        self.noise_size = sum(height * width for height, width in self.layer_sizes)

    def forward(
        self, styles: Float[Tensor, "B L S"], noise: Float[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """Pictures; None takes every layer's constant noise."""
        x = picture = None
        parts = None if noise is None else noise.split([h * w for h, w in self.layer_sizes], dim=1)
        first = 0
        for name in self.names:
            block = cast(SynthesisBlock, getattr(self, name))
            last = first + block.num_layers
            own: list[Tensor | None] = [None] * block.num_layers if parts is None else list(parts[first:last])
            x, picture = block(x, picture, list(styles[:, first : last + 1].unbind(1)), own)
            first = last
        assert picture is not None
        return picture


class Generator(nn.Module):
    """Mapping network, then synthesis with one style for all layers."""

    def __init__(self, config: StyleGAN2Config, picture_channels: int) -> None:
        super().__init__()
        self.mapping = MappingNetwork(
            latent_size=config.latent_size, style_size=config.style_size, num_layers=config.mapping_layers
        )
        self.synthesis = SynthesisNetwork(config, picture_channels)

    def forward(self, latents: Float[Tensor, "B Z"]) -> Float[Tensor, "B C H W"]:
        styles = self.mapping(latents)[:, None].expand(-1, self.synthesis.num_styles, -1)
        return self.synthesis(styles)


class DiscriminatorBlock(nn.Module):
    """Two convolutions, the second halving, beside a 1 x 1 convolution that halves; their sum over root two.

    Args:
        in_channels, out_channels: of the maps.
        picture_channels: the block starts from pictures, by a 1 x 1 convolution; 0: from maps.
    """

    def __init__(self, in_channels: int, out_channels: int, *, picture_channels: int = 0) -> None:
        super().__init__()
        self.fromrgb = EqualConv2d(picture_channels, in_channels, 1) if picture_channels else None
        self.conv0 = EqualConv2d(in_channels, in_channels, 3)
        self.conv1 = EqualConv2d(in_channels, out_channels, 3, down=True)
        self.skip = EqualConv2d(in_channels, out_channels, 1, down=True, bias=False)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        if self.fromrgb is not None:
            x = _activate(self.fromrgb(x))
        return (_activate(self.conv1(_activate(self.conv0(x)))) + self.skip(x)) * math.sqrt(0.5)


class MinibatchDeviation(nn.Module):
    """One more channel: the standard deviation over a group of pictures, averaged over channels and pixels.

    Groups have `group_size` pictures, or the largest number below it that divides the batch.
    """

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B J H W"]:
        count = len(x)
        group = next((g for g in range(min(self.group_size, count), 0, -1) if count % g == 0), 1)
        grouped = _wide(x).reshape(group, -1, *x.shape[1:])  # statistics are float32 on purpose
        variance = (grouped - grouped.mean(0)).square().mean(0)
        deviation = (variance + 1e-8).sqrt().mean((1, 2, 3)).repeat(group)
        plane = deviation.to(x.dtype)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return torch.cat([x, plane], dim=1)


class Epilogue(nn.Module):
    """Minibatch deviation, convolution and two fully connected layers: the smallest maps to one logit."""

    def __init__(self, channels: int, size: tuple[int, int], group_size: int) -> None:
        super().__init__()
        self.mbstd = MinibatchDeviation(group_size)
        self.conv = EqualConv2d(channels + 1, channels, 3)
        self.fc = EqualLinear(channels * size[0] * size[1], channels)
        self.out = EqualLinear(channels, 1)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, " B"]:
        x = _activate(self.conv(self.mbstd(x)))
        return self.out(_activate(self.fc(x.flatten(1)))).squeeze(1)


class Discriminator(nn.Module):
    """Pictures to one logit each: blocks `b32`, `b16` ... by the maps' longer side, the smallest is the `Epilogue`."""

    def __init__(self, config: StyleGAN2Config, picture_channels: int) -> None:
        super().__init__()
        sizes = config.sizes()[::-1]
        self.mixes_samples = config.group_size > 1
        self.names = [f"b{max(size)}" for size in sizes]
        for k, (size, smaller) in enumerate(itertools.pairwise(sizes)):
            block = DiscriminatorBlock(
                config.channels(size), config.channels(smaller), picture_channels=0 if k else picture_channels
            )
            self.add_module(self.names[k], block)
        self.add_module(self.names[-1], Epilogue(config.channels(sizes[-1]), sizes[-1], config.group_size))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
        x = images
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class StyleGAN2(nn.Module):
    """`generator` and `discriminator`; called, it judges its own pictures.

    Shape:
        latents [B, latent_size] -> images [B, in_channels, H, W], logits [B].

    Example:
        >>> gan = StyleGAN2(StyleGAN2Config(in_channels=1, image_size=(32, 32), channel_base=256, channel_max=32))
        >>> gan.num_styles, gan(torch.zeros(3, 512)).images.shape
        (8, torch.Size([3, 1, 32, 32]))
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        if config.in_channels is None or config.image_size is None:
            raise ConfigError("in_channels and image_size are needed; they come from the data or are given.")
        self.config, self.latent_size = config, config.latent_size
        self.generator = Generator(config, config.in_channels)
        self.discriminator = Discriminator(config, config.in_channels)
        self.num_styles, self.noise_size = self.generator.synthesis.num_styles, self.generator.synthesis.noise_size

    def reset_parameters(self) -> None:
        """All weights and the constant N(0, 1), scaled where they are used; biases 0, of what scales a map 1; noise
        strengths 0."""
        for module in self.modules():
            if isinstance(module, EqualLinear | EqualConv2d):
                module.reset_parameters()
            if isinstance(module, ModulatedConv):
                nn.init.normal_(module.weight)
            if isinstance(module, SynthesisLayer | ToRGB):
                nn.init.zeros_(module.bias)
            if isinstance(module, SynthesisLayer):
                nn.init.zeros_(module.noise_strength)
                module.noise_const.normal_()
            if isinstance(module, SynthesisBlock) and module.num_layers == 1:
                nn.init.normal_(module.const)
        self.generator.mapping.w_avg.zero_()

    def sample_pictures(self, sample_ids: Int[Tensor, " B"], draws: Draws) -> Float[Tensor, "B C H W"]:
        """Pictures of random latents and noise, with the configuration's truncation."""
        return self.sample_truncated(sample_ids, draws, self.config.truncation)

    def sample_truncated(self, sample_ids: Int[Tensor, " B"], draws: Draws, share: float) -> Float[Tensor, "B C H W"]:
        """Pictures of random latents and noise; `share` of the distance to the mean style is left."""
        mapping, dtype = self.generator.mapping, self.generator.mapping.w_avg.dtype
        styles = mapping(draws.normal(sample_ids, (self.latent_size,), "latents", dtype))
        styles = torch.lerp(mapping.w_avg.to(styles.dtype).expand_as(styles), styles, share)
        noise = draws.normal(sample_ids, (self.noise_size,), "noise", dtype)
        return self.generator.synthesis(styles[:, None].expand(-1, self.num_styles, -1), noise)

    def forward(self, latents: Float[Tensor, "B Z"]) -> StyleGAN2Output:
        """Pictures made of the latents with the constant noise, and the discriminator's logits of them."""
        images = self.generator(latents)
        return StyleGAN2Output(images, _wide(self.discriminator(images)))


PRESETS = {
    "stylegan2": StyleGAN2Config(),
    "stylegan2-small": StyleGAN2Config(
        latent_size=128, style_size=128, mapping_layers=4, channel_base=1024, channel_max=128
    ),
    "stylegan2-tiny": StyleGAN2Config(
        in_channels=1, image_size=(8, 8), latent_size=8, style_size=8, mapping_layers=2, channel_base=64,
        channel_max=12, group_size=1,
    ),
}  # fmt: skip


def example_batch(config: StyleGAN2Config, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Standard normal latents."""
    return {"latents": torch.randn(batch_size, config.latent_size, generator=generator)}
