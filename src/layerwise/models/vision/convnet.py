"""A small all-convolutional network: strided 3 x 3 convolutions, then the mean over positions.

Paper: J. T. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller, "Striving for simplicity: the all convolutional net",
ICLR 2015 workshop. https://arxiv.org/abs/1412.6806

Differs from the paper: a norm after each convolution, by default group norm (Wu and He 2018,
https://arxiv.org/abs/1803.08494), so that no sample depends on its batch mates; every stage, the first too, halves the
picture, which makes it cheap enough for two cores; a linear classifier after the mean instead of a 1 x 1 convolution
before it; dropout on its input only.

Shapes: B batch, C channels, H W height and width, D features, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.norms import ChannelRMSNorm, Norm, make_norm

CARD = Card(
    title="All-convolutional network",
    authors="Jost Tobias Springenberg, Alexey Dosovitskiy, Thomas Brox, Martin Riedmiller",
    paper="Striving for simplicity: the all convolutional net",
    year=2015,
    link="https://arxiv.org/abs/1412.6806",
    inputs={"images": "float [B, in_channels, H, W], any size"},
    outputs={"logits": "float [B, num_classes]"},
    differences=(
        "A norm after each convolution, group norm by default.",
        "Every stage halves the picture, the first one too.",
        "A linear classifier after the mean over positions; dropout on its input only.",
    ),
    capabilities=("differentiable", "features"),
)


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig:
    """Sizes of the network.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        widths: channels of each stage; a stage halves height and width.
        depth: convolutions a stage, the first with stride 2.
        norm: after each convolution; "batch_norm" makes samples depend on their batch mates in training.
        num_groups: of `norm=group_norm`; divides each width.
        pool_size: the last maps are averaged down to pool_size x pool_size positions, whose values are the features.
        dropout: rate on the features, before the classifier.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    widths: tuple[PositiveInt, ...] = (32, 64, 128)
    depth: PositiveInt = 2
    norm: Norm = "group_norm"
    num_groups: PositiveInt = 8
    pool_size: PositiveInt = 1
    dropout: Probability = 0.0

    def __post_init__(self) -> None:
        if not self.widths:
            raise ConfigError("widths=(): at least one is needed.")
        if self.norm == "group_norm" and any(width % self.num_groups for width in self.widths):
            raise ConfigError(f"widths={self.widths}: num_groups={self.num_groups} must divide each.")


class ConvBlock(nn.Module):
    """3 x 3 convolution, norm, rectifier."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: Norm, num_groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=norm == "none")
        self.norm = make_norm(norm, out_channels, positions=2, num_groups=num_groups)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        return F.relu(self.norm(self.conv(x)))


class ConvNet(nn.Module):
    """Stages of `ConvBlock`, the mean over positions, a linear classifier.

    Shape:
        images [B, in_channels, H, W] -> logits [B, num_classes]; features are [B, widths[-1] pool_size^2].

    Example:
        >>> net = ConvNet(ConvNetConfig(num_classes=10, in_channels=1))
        >>> net(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build a ConvNet; they come from the data or are given."
            )
        self.config, self.feature_size = config, config.widths[-1] * config.pool_size**2
        blocks: list[nn.Module] = []
        channels = config.in_channels
        for width in config.widths:
            for index in range(config.depth):
                stride = 2 if index == 0 else 1
                blocks.append(ConvBlock(channels, width, stride=stride, norm=config.norm, num_groups=config.num_groups))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.feature_size, config.num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. (2015) for convolutions; norms 1 and 0; a classifier of N(0, 0.01) with bias 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.GroupNorm | nn.BatchNorm2d | ChannelRMSNorm):
                module.reset_parameters()
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The last maps, averaged down to `pool_size` x `pool_size` positions."""
        x = images
        for block in self.blocks:
            x = block(x)
        return F.adaptive_avg_pool2d(x, self.config.pool_size).flatten(1)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.classifier(self.dropout(self.forward_features(images)))


PRESETS = {
    "convnet": ConvNetConfig(),
    "convnet-tiny": ConvNetConfig(num_classes=5, in_channels=1, widths=(8, 16), depth=1, num_groups=4),
}


def example_batch(config: ConvNetConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 28 x 28 pixels."""
    return {"images": torch.randn(batch_size, config.in_channels or 1, 28, 28, generator=generator)}
