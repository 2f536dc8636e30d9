"""EfficientNet.

Paper: M. Tan, Q. V. Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.
https://arxiv.org/abs/1905.11946
State-dict names: torchvision's; timm's `conv_stem`, `blocks.i.j.conv_dw` ... name the same layers.

Differs from the paper: the presets `efficientnet_b*` pad strided convolutions evenly on all sides, the form of
torchvision and timm (with torchvision's constants of batch norm: those of the paper from b5 on only); the presets
`tf_efficientnet_b*` pad more on the right and bottom where the size asks for it ("same" padding), as the authors'
checkpoints do. Stochastic depth grows linearly from 0 at the first block to `drop_path` at the last.

Shapes: B batch, C channels, H W height and width, D features, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import Fraction, PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.drop_path import DropPath, drop_path_rates
from layerwise.nn.norms import ChannelRMSNorm, Norm, make_norm

CARD = Card(
    title="EfficientNet",
    authors="Mingxing Tan, Quoc V. Le",
    paper="EfficientNet: rethinking model scaling for convolutional neural networks",
    year=2019,
    link="https://arxiv.org/abs/1905.11946",
    inputs={"images": "float [B, in_channels, H, W], any size"},
    outputs={"logits": "float [B, num_classes]"},
    differences=(
        "`efficientnet_b*` pad evenly on all sides; `tf_efficientnet_b*` as the authors' checkpoints do.",
        "Up to b4, `efficientnet_b*` have batch norm with eps 1e-5 and momentum 0.1, not 1e-3 and 0.01.",
        "State-dict names are torchvision's; timm has the same layers under other names.",
    ),
    capabilities=("differentiable", "features"),
    published={
        "*_b0": {"num_classes": 1000, "in_channels": 3, "image_size": 224},
        "*_b1": {"num_classes": 1000, "in_channels": 3, "image_size": 240},
        "*_b2": {"num_classes": 1000, "in_channels": 3, "image_size": 260},
        "*_b3": {"num_classes": 1000, "in_channels": 3, "image_size": 300},
        "*_b4": {"num_classes": 1000, "in_channels": 3, "image_size": 380},
        "*_b5": {"num_classes": 1000, "in_channels": 3, "image_size": 456},
        "*_b6": {"num_classes": 1000, "in_channels": 3, "image_size": 528},
        "*_b7": {"num_classes": 1000, "in_channels": 3, "image_size": 600},
    },
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A row of the paper's table 1.

    Args:
        expansion: maps inside a block over maps before it.
        kernel_size: of the depthwise convolution.
        stride: of the first block.
        channels: maps after each block, before scaling by width.
        depth: blocks, before scaling by depth.
    """

    expansion: PositiveInt
    kernel_size: PositiveInt
    stride: PositiveInt
    channels: PositiveInt
    depth: PositiveInt


_B0 = (
    Stage(expansion=1, kernel_size=3, stride=1, channels=16, depth=1),
    Stage(expansion=6, kernel_size=3, stride=2, channels=24, depth=2),
    Stage(expansion=6, kernel_size=5, stride=2, channels=40, depth=2),
    Stage(expansion=6, kernel_size=3, stride=2, channels=80, depth=3),
    Stage(expansion=6, kernel_size=5, stride=1, channels=112, depth=3),
    Stage(expansion=6, kernel_size=5, stride=2, channels=192, depth=4),
    Stage(expansion=6, kernel_size=3, stride=1, channels=320, depth=1),
)
_STEM = 32  # maps before the first stage, before scaling by width
_HEAD = 4  # maps after the last convolution over maps after the last stage
_SQUEEZE = 4  # maps before a block over those that the squeeze keeps


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """Sizes of the network.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        width: factor of all widths, which are then rounded to multiples of 8 (by at most a tenth down).
        depth: factor of the blocks of every stage, rounded up.
        stages: the paper's table 1.
        padding: of strided convolutions: "even" on all sides, "same" as TensorFlow, more on the right and bottom.
        norm: after each convolution.
        num_groups: of `norm=group_norm`; divides each width.
        eps: added to each norm's variance.
        momentum: share of a batch's statistics in the running ones, of `norm=batch_norm`.
        dropout: rate on the features, before the classifier.
        drop_path: rate of stochastic depth of the last block; it grows linearly from 0 at the first.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    width: PositiveFloat = 1.0
    depth: PositiveFloat = 1.0
    stages: tuple[Stage, ...] = _B0
    padding: Literal["even", "same"] = "even"
    norm: Norm = "batch_norm"
    num_groups: PositiveInt = 8
    eps: PositiveFloat = 1e-5
    momentum: Fraction = 0.1
    dropout: Probability = 0.2
    drop_path: Probability = 0.2

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError("stages=(): at least one is needed.")

    def channels(self, channels: int) -> int:
        """Maps scaled by width: the nearest multiple of 8 that is not under nine tenths of it."""
        scaled = channels * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * scaled else rounded + 8


class SameConv2d(nn.Conv2d):
    """A convolution whose output has `ceil(size / stride)` positions; the odd pixel of padding is on the right and
    bottom, as TensorFlow's "same" has it.
    """

    def forward(self, input: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        sides: list[int] = []
        for size, kernel, stride in zip(
            (input.shape[-1], input.shape[-2]), self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
            sides += [total // 2, total - total // 2]
        return super().forward(F.pad(input, sides))


class ConvNorm(nn.Sequential):
    """Convolution, norm, and `x sigmoid(x)` unless it is linear."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        config: EfficientNetConfig,
        *,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        same = config.padding == "same" and stride > 1
        padding, bias = 0 if same else kernel_size // 2, config.norm == "none"
        kind = SameConv2d if same else nn.Conv2d
        norm = make_norm(config.norm, out_channels, positions=2, eps=config.eps, num_groups=config.num_groups)
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = config.momentum
        super().__init__(
            kind(in_channels, out_channels, kernel_size, stride=stride, padding=padding, groups=groups, bias=bias),
            norm,
            *([] if linear else [nn.SiLU()]),
        )


class SqueezeExcitation(nn.Module):
    """`x * sigmoid(W2 silu(W1 mean(x)))`, the mean over positions (Hu et al. 2018, https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        scale = self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * scale.sigmoid()


class MBConv(nn.Module):
    """Mobile inverted bottleneck (Sandler et al. 2018, https://arxiv.org/abs/1801.04381) with squeeze and excitation.

    1 x 1 up to `expansion` times the maps, depthwise k x k with the stride, squeeze and excitation, linear 1 x 1 down;
    plus the input where the shape stays.
    """

    def __init__(self, in_channels: int, stage: Stage, stride: int, config: EfficientNetConfig, rate: float) -> None:
        super().__init__()
        inner, out_channels = in_channels * stage.expansion, config.channels(stage.channels)
        expand = [ConvNorm(in_channels, inner, 1, config)] if stage.expansion > 1 else []
        self.block = nn.Sequential(
            *expand,
            ConvNorm(inner, inner, stage.kernel_size, config, stride=stride, groups=inner),
            SqueezeExcitation(inner, max(1, in_channels // _SQUEEZE)),
            ConvNorm(inner, out_channels, 1, config, linear=True),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(rate)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        return x + self.drop_path(self.block(x)) if self.has_shortcut else self.block(x)


class EfficientNet(nn.Module):
    """Stem, stages of `MBConv`, a 1 x 1 convolution, the mean over positions, a linear classifier.

    Shape:
        images [B, in_channels, H, W] -> logits [B, num_classes]; features are [B, 4 * maps of the last stage].

    Example:
        >>> net = EfficientNet(EfficientNetConfig(num_classes=10, in_channels=3, width=0.25, depth=0.25)).eval()
        >>> net(torch.zeros(2, 3, 32, 40)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build an EfficientNet; they come from the data or are given."
            )
        self.config = config
        depths = [math.ceil(stage.depth * config.depth) for stage in config.stages]
        rates = iter(drop_path_rates(config.drop_path, sum(depths)))
        channels = config.channels(_STEM)
        parts: list[nn.Module] = [ConvNorm(config.in_channels, channels, 3, config, stride=2)]
        strides, widths = [2], [channels]  # after the stem and each stage
        for stage, depth in zip(config.stages, depths, strict=True):
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride = stage.stride if index == 0 else 1
                blocks.append(MBConv(channels, stage, stride, config, next(rates)))
                channels = config.channels(stage.channels)
            parts.append(nn.Sequential(*blocks))
            strides.append(strides[-1] * stage.stride)
            widths.append(channels)
        self.feature_size = _HEAD * channels
        parts.append(ConvNorm(channels, self.feature_size, 1, config))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(self.feature_size, config.num_classes))
        # The last stage of each stride is a level of the pyramid.
        self._levels = [i for i, stride in enumerate(strides) if [*strides, 0][i + 1] != stride]
        self.pyramid_channels: tuple[int, ...] = tuple(widths[i] for i in self._levels)
        self.pyramid_strides: tuple[int, ...] = tuple(strides[i] for i in self._levels)
        self.reset_parameters()

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks of all stages, first to last; their parameters keep the names of their stages."""
        return nn.ModuleList(block for stage in list(self.features)[1:-1] for block in stage.children())

    def reset_parameters(self) -> None:
        """He et al. (2015) by outgoing connections of each group for convolutions; the classifier uniform within
        1 / sqrt(K); biases zero; norms 1 and 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels // module.groups * math.prod(module.kernel_size)
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | ChannelRMSNorm):
                module.reset_parameters()

    def _maps(self, images: Tensor) -> Iterator[Tensor]:
        """Maps of the stem and of every stage."""
        x = images
        for part in list(self.features)[:-1]:
            x = part(x)
            yield x

    def forward_pyramid(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """The last maps at each of the strides 2, 4, 8, 16 and 32."""
        return [x for index, x in enumerate(self._maps(images)) if index in self._levels]

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The maps of the last convolution, averaged over positions."""
        return self.features(images).mean((2, 3))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.classifier(self.forward_features(images))


# Factors and dropout of the authors' code, which rounds section 3.3's compound scaling of B0.
PRESETS = {
    "efficientnet_b0": EfficientNetConfig(),
    "efficientnet_b1": EfficientNetConfig(depth=1.1),
    "efficientnet_b2": EfficientNetConfig(width=1.1, depth=1.2, dropout=0.3),
    "efficientnet_b3": EfficientNetConfig(width=1.2, depth=1.4, dropout=0.3),
    "efficientnet_b4": EfficientNetConfig(width=1.4, depth=1.8, dropout=0.4),
    "efficientnet_b5": EfficientNetConfig(width=1.6, depth=2.2, eps=1e-3, momentum=0.01, dropout=0.4),
    "efficientnet_b6": EfficientNetConfig(width=1.8, depth=2.6, eps=1e-3, momentum=0.01, dropout=0.5),
    "efficientnet_b7": EfficientNetConfig(width=2.0, depth=3.1, eps=1e-3, momentum=0.01, dropout=0.5),
    "tf_efficientnet_b0": EfficientNetConfig(padding="same", eps=1e-3, momentum=0.01),
    "tf_efficientnet_b1": EfficientNetConfig(depth=1.1, padding="same", eps=1e-3, momentum=0.01),
    "tf_efficientnet_b2": EfficientNetConfig(
        width=1.1, depth=1.2, padding="same", eps=1e-3, momentum=0.01, dropout=0.3
    ),
    "tf_efficientnet_b3": EfficientNetConfig(
        width=1.2, depth=1.4, padding="same", eps=1e-3, momentum=0.01, dropout=0.3
    ),
    "tf_efficientnet_b4": EfficientNetConfig(
        width=1.4, depth=1.8, padding="same", eps=1e-3, momentum=0.01, dropout=0.4
    ),
    "tf_efficientnet_b5": EfficientNetConfig(
        width=1.6, depth=2.2, padding="same", eps=1e-3, momentum=0.01, dropout=0.4
    ),
    "tf_efficientnet_b6": EfficientNetConfig(
        width=1.8, depth=2.6, padding="same", eps=1e-3, momentum=0.01, dropout=0.5
    ),
    "tf_efficientnet_b7": EfficientNetConfig(
        width=2.0, depth=3.1, padding="same", eps=1e-3, momentum=0.01, dropout=0.5
    ),
    "efficientnet-tiny": EfficientNetConfig(num_classes=5, in_channels=3, width=0.25, depth=0.25),
}


def example_batch(config: EfficientNetConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 32 x 32 pixels."""
    return {"images": torch.randn(batch_size, config.in_channels or 3, 32, 32, generator=generator)}
