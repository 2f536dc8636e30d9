"""VGG.

Paper: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
https://arxiv.org/abs/1409.1556
State-dict names: torchvision's.

Differs from the paper: no local response normalisation (the paper's table 3 found that it does not help); the presets
`*_bn` normalise each convolution's maps over the batch (Ioffe and Szegedy 2015); the last maps are averaged to 7 x 7
positions, so that any picture of 32 x 32 pixels or more will do; all depths start from He et al. (2015), not from the
weights of a trained shallower one.

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
from layerwise.nn.picture_size import AtLeast

CARD = Card(
    title="VGG",
    authors="Karen Simonyan, Andrew Zisserman",
    paper="Very deep convolutional networks for large-scale image recognition",
    year=2015,
    link="https://arxiv.org/abs/1409.1556",
    inputs={"images": "float [B, in_channels, H, W], at least 32 x 32 pixels"},
    outputs={"logits": "float [B, num_classes]"},
    differences=(
        "No local response normalisation; the presets *_bn have batch norm after each convolution.",
        "The last maps are averaged to 7 x 7 positions: other sizes than 224 x 224 will do.",
        "Every depth starts from He et al. (2015), none from a shallower network's weights.",
    ),
    capabilities=("differentiable", "features"),
    published={"*": {"num_classes": 1000, "in_channels": 3, "image_size": 224}},
)

_SMALLEST = 32  # pixels: five poolings of 2 x 2


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """Sizes of the network.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        depths: convolutions in each of the five stages; a max-pooling follows each stage.
        widths: maps of each stage.
        norm: after each convolution.
        num_groups: of `norm=group_norm`; divides each width.
        hidden: units of the two hidden linear layers.
        dropout: rate after each of them.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 3, 3, 3)
    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256, 512, 512)
    norm: Norm = "none"
    num_groups: PositiveInt = 32
    hidden: PositiveInt = 4096
    dropout: Probability = 0.5


class VGG(nn.Module):
    """Stages of 3 x 3 convolutions, each followed by a max-pooling of 2 x 2, then three linear layers.

    Shape:
        images [B, in_channels, H >= 32, W >= 32] -> logits [B, num_classes]; features are [B, hidden], after the second
        hidden layer.

    Example:
        >>> net = VGG(VGGConfig(num_classes=10, in_channels=3, depths=(1, 1, 1, 1, 1), widths=(8,) * 5, hidden=16))
        >>> net(torch.zeros(2, 3, 33, 40)).shape
        torch.Size([2, 10])
    """

    pyramid_strides: tuple[int, ...] = (1, 2, 4, 8, 16, 32)

    def __init__(self, config: VGGConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build a VGG; they come from the data or are given."
            )
        self.config, self.feature_size = config, config.hidden
        self.size = AtLeast(_SMALLEST, "VGG", advised=32)
        self.pyramid_channels: tuple[int, ...] = (*config.widths, config.widths[-1])
        layers: list[nn.Module] = []
        channels = config.in_channels
        for depth, width in zip(config.depths, config.widths, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if config.norm != "none":
                    layers.append(make_norm(config.norm, width, positions=2, num_groups=config.num_groups))
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(49 * channels, config.hidden), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.num_classes),
        )  # fmt: skip
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. (2015): by outgoing connections for convolutions, by incoming ones for hidden linear layers; the
        last layer N(0, 0.01); biases zero; norms 1 and 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | ChannelRMSNorm):
                module.reset_parameters()
        nn.init.normal_(self.classifier[-1].get_parameter("weight"), std=0.01)

    def forward_pyramid(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """Maps before each max-pooling and after the last, at strides 1, 2, 4, 8, 16 and 32."""
        x, maps = self.size(images), list[Tensor]()
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps, x]

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Activations of the second hidden layer, [B, hidden].

        Raises:
            ConfigError: pictures smaller than 32 x 32.
        """
        images = self.size(images)
        x = F.adaptive_avg_pool2d(self.features(images), 7).flatten(1)
        for layer in list(self.classifier)[:-1]:
            x = layer(x)
        return x

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.classifier[-1](self.forward_features(images))


# Table 1 of the paper: configurations A, B, D and E.
PRESETS = {
    "vgg11": VGGConfig(depths=(1, 1, 2, 2, 2)),
    "vgg13": VGGConfig(depths=(2, 2, 2, 2, 2)),
    "vgg16": VGGConfig(depths=(2, 2, 3, 3, 3)),
    "vgg19": VGGConfig(depths=(2, 2, 4, 4, 4)),
    "vgg11_bn": VGGConfig(depths=(1, 1, 2, 2, 2), norm="batch_norm"),
    "vgg13_bn": VGGConfig(depths=(2, 2, 2, 2, 2), norm="batch_norm"),
    "vgg16_bn": VGGConfig(depths=(2, 2, 3, 3, 3), norm="batch_norm"),
    "vgg19_bn": VGGConfig(depths=(2, 2, 4, 4, 4), norm="batch_norm"),
    "vgg-tiny": VGGConfig(
        num_classes=5, in_channels=3, depths=(1, 1, 1, 1, 2), widths=(4, 8, 8, 8, 8), norm="batch_norm", hidden=16
    ),
}


def example_batch(config: VGGConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 32 x 32 pixels."""
    return {"images": torch.randn(batch_size, config.in_channels or 3, 32, 32, generator=generator)}
