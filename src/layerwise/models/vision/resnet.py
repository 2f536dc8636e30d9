"""ResNet, for pictures of ImageNet's size and of CIFAR's, and the plain networks it was compared with.

Paper: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
https://arxiv.org/abs/1512.03385
State-dict names: torchvision's, which timm shares.

Differs from the paper: a bottleneck halves the picture in its 3 x 3 convolution, not in the first 1 x 1 (the form whose
checkpoints people hold, from Torch7's implementation of 2016); `resnet50-2015` has the paper's. Shortcuts that change
shape are projections (option B) in the ImageNet presets and padded with zeros (option A) in the CIFAR ones, as in the
paper. Stochastic depth (Huang et al. 2016), dropout before the classifier and other norms where asked for.

Shapes: B batch, C channels, H W height and width, D features, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.drop_path import DropPath, drop_path_rates
from layerwise.nn.norms import ChannelRMSNorm, Norm, make_norm

CARD = Card(
    title="ResNet",
    authors="Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    paper="Deep residual learning for image recognition",
    year=2016,
    link="https://arxiv.org/abs/1512.03385",
    inputs={"images": "float [B, in_channels, H, W], any size"},
    outputs={"logits": "float [B, num_classes]"},
    differences=(
        "A bottleneck halves the picture in its 3 x 3 convolution; `resnet50-2015` does so in the first 1 x 1.",
        "Shortcuts that change shape: projections (option B), in the CIFAR presets padded with zeros (option A).",
        "Stochastic depth, dropout and other norms than batch norm where asked for.",
    ),
    capabilities=("differentiable", "features"),
    published={
        "*_cifar": {"num_classes": 10, "in_channels": 3, "image_size": 32},
        "*": {"num_classes": 1000, "in_channels": 3, "image_size": 224},
    },
)

Shortcut = Literal["projection", "padding"]


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Sizes and wiring of the network.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        block: "basic" has two 3 x 3 convolutions; "bottleneck" 1 x 1, 3 x 3, 1 x 1 with four times the maps at its end,
            its stride in the 3 x 3; "bottleneck_2015" with the stride in the first 1 x 1; "plain" is "basic" without
            the shortcut.
        depths: blocks of each stage; each stage but the first halves height and width.
        widths: maps inside the blocks of each stage.
        stem: "imagenet" is a 7 x 7 convolution with stride 2 and a max-pooling, "cifar" one 3 x 3 convolution.
        shortcut: where a block changes shape: "projection" is the paper's option B, "padding" option A.
        norm: after each convolution.
        num_groups: of `norm=group_norm`; divides each width.
        zero_init_residual: the last norm of each block starts with weight 0, so that the block starts as the identity
            (Goyal et al. 2017, section 5.1).
        dropout: rate on the features, before the classifier.
        drop_path: rate of stochastic depth of the last block; it grows linearly from 0 at the first.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    block: Literal["basic", "bottleneck", "bottleneck_2015", "plain"] = "basic"
    depths: tuple[PositiveInt, ...] = (2, 2, 2, 2)
    widths: tuple[PositiveInt, ...] = (64, 128, 256, 512)
    stem: Literal["imagenet", "cifar"] = "imagenet"
    shortcut: Shortcut = "projection"
    norm: Norm = "batch_norm"
    num_groups: PositiveInt = 32
    zero_init_residual: bool = False
    dropout: Probability = 0.0
    drop_path: Probability = 0.0

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.widths) or not self.depths:
            raise ConfigError(f"depths={self.depths} and widths={self.widths}: one of each a stage.")
        if self.zero_init_residual and (self.norm == "none" or self.block == "plain"):
            raise ConfigError(
                f"zero_init_residual: needs shortcuts and a norm; got block={self.block}, norm={self.norm}."
            )
        if self.drop_path and self.block == "plain":
            raise ConfigError(
                f"drop_path={self.drop_path:g}: block=plain has no shortcut that could stand for a block."
            )


@dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """What a block is built from: maps before it and inside it, stride, and the configuration's choices."""

    in_channels: int
    channels: int
    stride: int
    shortcut: Shortcut
    norm: Norm
    num_groups: int

    def conv(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
        """A convolution that keeps the size but for its stride; a norm's shift stands for its bias."""
        padding = kernel_size // 2
        bias = self.norm == "none"
        return nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias)

    def make_norm(self, channels: int) -> nn.Module:
        """The norm for so many maps."""
        return make_norm(self.norm, channels, positions=2, num_groups=self.num_groups)

    def make_shortcut(self, out_channels: int) -> nn.Module | None:
        """What brings a block's input to the shape of its output; None where it has it."""
        if self.stride == 1 and self.in_channels == out_channels:
            return None
        if self.shortcut == "padding":
            return PaddingShortcut(out_channels - self.in_channels, self.stride)
        return nn.Sequential(self.conv(self.in_channels, out_channels, 1, self.stride), self.make_norm(out_channels))


class PaddingShortcut(nn.Module):
    """Option A: every `stride`-th position, and maps of zeros for those that are missing. It has no parameters.

    Raises:
        ConfigError: there would be fewer maps than before.
    """

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        if new_channels < 0:
            raise ConfigError(f"shortcut=padding: maps can be added, not taken away; {-new_channels} are too many.")
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class BasicBlock(nn.Module):
    """`relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))` with 3 x 3 convolutions, the first with the stride."""

    expansion = 1

    def __init__(self, sizes: BlockSizes, drop_path: float) -> None:
        super().__init__()
        self.conv1 = sizes.conv(sizes.in_channels, sizes.channels, 3, sizes.stride)
        self.bn1 = sizes.make_norm(sizes.channels)
        self.conv2 = sizes.conv(sizes.channels, sizes.channels, 3)
        self.bn2 = sizes.make_norm(sizes.channels)
        self.downsample = sizes.make_shortcut(sizes.channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return F.relu(self.drop_path(x) + shortcut)

    def last_norm(self) -> nn.Module:
        """The norm right before the sum."""
        return self.bn2


class Bottleneck(nn.Module):
    """`relu(shortcut(x) + f(x))`; f is 1 x 1 to `channels` maps, 3 x 3 with the stride, 1 x 1 to four times as many."""

    expansion = 4

    def __init__(self, sizes: BlockSizes, drop_path: float, *, strides: tuple[int, int] | None = None) -> None:
        super().__init__()
        first, second = (1, sizes.stride) if strides is None else strides
        self.conv1 = sizes.conv(sizes.in_channels, sizes.channels, 1, first)
        self.bn1 = sizes.make_norm(sizes.channels)
        self.conv2 = sizes.conv(sizes.channels, sizes.channels, 3, second)
        self.bn2 = sizes.make_norm(sizes.channels)
        self.conv3 = sizes.conv(sizes.channels, self.expansion * sizes.channels, 1)
        self.bn3 = sizes.make_norm(self.expansion * sizes.channels)
        self.downsample = sizes.make_shortcut(self.expansion * sizes.channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return F.relu(self.drop_path(x) + shortcut)

    def last_norm(self) -> nn.Module:
        """The norm right before the sum."""
        return self.bn3


class PlainBlock(nn.Module):
    """`relu(norm(conv(relu(norm(conv(x))))))`: a basic block without the shortcut."""

    expansion = 1

    def __init__(self, sizes: BlockSizes) -> None:
        super().__init__()
        self.conv1 = sizes.conv(sizes.in_channels, sizes.channels, 3, sizes.stride)
        self.bn1 = sizes.make_norm(sizes.channels)
        self.conv2 = sizes.conv(sizes.channels, sizes.channels, 3)
        self.bn2 = sizes.make_norm(sizes.channels)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


class ResNet(nn.Module):
    """Stem, stages of blocks, the mean over positions, a linear classifier.

    Shape:
        images [B, in_channels, H, W] -> logits [B, num_classes]; features are [B, expansion * widths[-1]].

    Example:
        >>> net = ResNet(ResNetConfig(num_classes=10, in_channels=3, depths=(1, 1), widths=(8, 16), stem="cifar"))
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build a ResNet; they come from the data or are given."
            )
        self.config = config
        width = config.widths[0]
        bias = config.norm == "none"
        if config.stem == "imagenet":
            self.conv1 = nn.Conv2d(config.in_channels, width, 7, stride=2, padding=3, bias=bias)
        else:
            self.conv1 = nn.Conv2d(config.in_channels, width, 3, padding=1, bias=bias)
        self.bn1 = make_norm(config.norm, width, positions=2, num_groups=config.num_groups)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if config.stem == "imagenet" else nn.Identity()
        rates = iter(drop_path_rates(config.drop_path, sum(config.depths)))
        channels = [width]
        for index in range(len(config.depths)):
            stage, out_channels = self._make_stage(config, index, channels[-1], rates)
            self.add_module(f"layer{index + 1}", stage)
            channels.append(out_channels)
        self.feature_size = channels[-1]
        self.fc = nn.Linear(self.feature_size, config.num_classes)
        self.dropout = nn.Dropout(config.dropout)
        first = 4 if config.stem == "imagenet" else 1
        strides = [first * 2**index for index in range(len(config.depths))]
        # The stem's maps are a level of their own where they are finer than the first stage's.
        self.pyramid_channels: tuple[int, ...] = tuple(channels if first == 4 else channels[1:])
        self.pyramid_strides: tuple[int, ...] = tuple([2, *strides] if first == 4 else strides)
        self.reset_parameters()

    @staticmethod
    def _make_stage(
        config: ResNetConfig, index: int, in_channels: int, rates: Iterator[float]
    ) -> tuple[nn.Sequential, int]:
        """The blocks of a stage and the maps that they end with."""
        blocks: list[BasicBlock | Bottleneck | PlainBlock] = []
        for position in range(config.depths[index]):
            stride = 2 if index > 0 and position == 0 else 1
            sizes = BlockSizes(
                in_channels=in_channels,
                channels=config.widths[index],
                stride=stride,
                shortcut=config.shortcut,
                norm=config.norm,
                num_groups=config.num_groups,
            )
            rate = next(rates)
            if config.block == "basic":
                blocks.append(BasicBlock(sizes, rate))
            elif config.block == "bottleneck":
                blocks.append(Bottleneck(sizes, rate))
            elif config.block == "bottleneck_2015":
                blocks.append(Bottleneck(sizes, rate, strides=(stride, 1)))
            else:
                blocks.append(PlainBlock(sizes))
            in_channels = blocks[-1].expansion * config.widths[index]
        return nn.Sequential(*blocks), in_channels

    @property
    def stages(self) -> list[nn.Module]:
        """`layer1`, `layer2` ... in order."""
        return [self.get_submodule(f"layer{index + 1}") for index in range(len(self.config.depths))]

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks of all stages, first to last; their parameters keep the names of their stages."""
        return nn.ModuleList(block for stage in self.stages for block in stage.children())

    def reset_parameters(self) -> None:
        """He et al. (2015) by outgoing connections for convolutions; norms 1 and 0 (the last of a block 0 and 0 with
        `zero_init_residual`); a classifier of N(0, 0.01) with bias 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | ChannelRMSNorm):
                module.reset_parameters()
        if self.config.zero_init_residual:
            for block in self.blocks:
                if isinstance(block, BasicBlock | Bottleneck):
                    nn.init.zeros_(block.last_norm().get_parameter("weight"))
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def _stem(self, images: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(images)))

    def forward_pyramid(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """Maps of the stem and of every stage, at strides 2, 4, 8, 16 and 32 (CIFAR form: stages only, from 1 on)."""
        maps = [self._stem(images)]
        x = self.maxpool(maps[0])
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[-len(self.pyramid_strides) :]

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The last stage's maps, averaged over positions."""
        x = self.maxpool(self._stem(images))
        for stage in self.stages:
            x = stage(x)
        return x.mean((2, 3))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.fc(self.dropout(self.forward_features(images)))


# Table 1 of the paper, and section 4.2 for pictures of CIFAR's size (6 n + 2 layers).
PRESETS = {
    "resnet18": ResNetConfig(depths=(2, 2, 2, 2)),
    "resnet34": ResNetConfig(depths=(3, 4, 6, 3)),
    "resnet50": ResNetConfig(block="bottleneck", depths=(3, 4, 6, 3)),
    "resnet101": ResNetConfig(block="bottleneck", depths=(3, 4, 23, 3)),
    "resnet152": ResNetConfig(block="bottleneck", depths=(3, 8, 36, 3)),
    "resnet50-2015": ResNetConfig(block="bottleneck_2015", depths=(3, 4, 6, 3)),
    "resnet20_cifar": ResNetConfig(depths=(3, 3, 3), widths=(16, 32, 64), stem="cifar", shortcut="padding"),
    "resnet56_cifar": ResNetConfig(depths=(9, 9, 9), widths=(16, 32, 64), stem="cifar", shortcut="padding"),
    "resnet110_cifar": ResNetConfig(depths=(18, 18, 18), widths=(16, 32, 64), stem="cifar", shortcut="padding"),
    "plain20_cifar": ResNetConfig(block="plain", depths=(3, 3, 3), widths=(16, 32, 64), stem="cifar"),
    "plain56_cifar": ResNetConfig(block="plain", depths=(9, 9, 9), widths=(16, 32, 64), stem="cifar"),
    "resnet-tiny": ResNetConfig(num_classes=5, in_channels=3, depths=(1, 1, 1, 1), widths=(8, 12, 16, 24)),
}


def example_batch(config: ResNetConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 32 x 32 pixels, with which a network of the ImageNet form ends at one position."""
    return {"images": torch.randn(batch_size, config.in_channels or 3, 32, 32, generator=generator)}
