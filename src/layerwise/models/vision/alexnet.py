"""AlexNet.

Paper: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet classification with deep convolutional neural networks", NIPS
2012. https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html
Widths of the preset `alexnet`: A. Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
https://arxiv.org/abs/1404.5997
State-dict names: torchvision's.

Differs from the paper: the preset `alexnet` is the form of 2014 whose checkpoints people hold (narrower, on one
device, no response normalisation); `alexnet-2012` is the paper's. The last maps are averaged to 6 x 6 positions, so
that any picture of 63 x 63 pixels or more will do. Initial weights are drawn as He et al. (2015) instead of N(0, 0.01)
with biases of 1.

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
from layerwise.nn.picture_size import AtLeast

CARD = Card(
    title="AlexNet",
    authors="Alex Krizhevsky, Ilya Sutskever, Geoffrey Hinton",
    paper="ImageNet classification with deep convolutional neural networks",
    year=2012,
    link="https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
    inputs={"images": "float [B, in_channels, H, W], at least 63 x 63 pixels"},
    outputs={"logits": "float [B, num_classes]"},
    differences=(
        "`alexnet` has the widths of 2014 on one device and no response normalisation; `alexnet-2012` is the paper's.",
        "The last maps are averaged to 6 x 6 positions: other sizes than 224 x 224 will do.",
        "Initial weights as He et al. (2015).",
    ),
    capabilities=("differentiable", "features"),
    published={"*": {"num_classes": 1000, "in_channels": 3, "image_size": 224}},
)

_SMALLEST = 63  # pixels: three poolings of 3 x 3 with stride 2 after a convolution with stride 4


@dataclass(frozen=True, kw_only=True)
class AlexNetConfig:
    """Sizes of the network.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        channels: maps of the five convolutions.
        groups: the second, fourth and fifth convolution see only their share of the maps before them; the paper's two
            halves lived on two GPUs.
        response_norm: local response normalisation after the first two convolutions.
        hidden: units of the two hidden linear layers.
        dropout: rate before each of them.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (64, 192, 384, 256, 256)
    groups: PositiveInt = 1
    response_norm: bool = False
    hidden: PositiveInt = 4096
    dropout: Probability = 0.5

    def __post_init__(self) -> None:
        if any(width % self.groups for width in self.channels):
            raise ConfigError(f"groups={self.groups} must divide every width of channels={self.channels}")


class ResponseNorm(nn.Module):
    """Local response normalisation over neighbouring maps.

    `y_c = x_c / (k + alpha sum_{|d - c| <= 2} x_d^2)^beta` with k = 2, alpha = 1e-4, beta = 0.75: section 3.3 of the
    paper.
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return F.local_response_norm(x, 5, alpha=5 * 1e-4, beta=0.75, k=2.0)  # torch divides alpha by the five maps


class AlexNet(nn.Module):
    """Five convolutions, three max-poolings of overlapping windows, three linear layers.

    Shape:
        images [B, in_channels, H >= 63, W >= 63] -> logits [B, num_classes]; features are [B, hidden], after the second
        hidden layer.

    Example:
        >>> net = AlexNet(AlexNetConfig(num_classes=10, in_channels=3, hidden=16))
        >>> net(torch.zeros(2, 3, 64, 80)).shape
        torch.Size([2, 10])
    """

    pyramid_strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(self, config: AlexNetConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build AlexNet; they come from the data or are given."
            )
        self.config, self.feature_size = config, config.hidden
        self.size = AtLeast(_SMALLEST, "AlexNet", advised=64)
        c1, c2, c3, c4, c5 = config.channels
        self.pyramid_channels: tuple[int, ...] = (c1, c2, c5, c5)
        groups = config.groups
        norm = [ResponseNorm] if config.response_norm else []
        self.features = nn.Sequential(
            nn.Conv2d(config.in_channels, c1, 11, stride=4, padding=2), nn.ReLU(),
            *(layer() for layer in norm), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(c1, c2, 5, padding=2, groups=groups), nn.ReLU(),
            *(layer() for layer in norm), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c3, c4, 3, padding=1, groups=groups), nn.ReLU(),
            nn.Conv2d(c4, c5, 3, padding=1, groups=groups), nn.ReLU(), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(36 * c5, config.hidden), nn.ReLU(),
            nn.Dropout(config.dropout), nn.Linear(config.hidden, config.hidden), nn.ReLU(),
            nn.Linear(config.hidden, config.num_classes),
        )  # fmt: skip
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. (2015) for what a rectifier follows; N(0, 0.01) for the last layer; biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier[-1].get_parameter("weight"), std=0.01)

    def forward_pyramid(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """Maps before each max-pooling and after the last, at strides 4, 8, 16 and 32."""
        x, maps = self.size(images), list[Tensor]()
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
            x = layer(x)
        return [*maps, x]

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Activations of the second hidden layer, [B, hidden].

        Raises:
            ConfigError: pictures smaller than 63 x 63.
        """
        images = self.size(images)
        x = F.adaptive_avg_pool2d(self.features(images), 6).flatten(1)
        for layer in list(self.classifier)[:-1]:
            x = layer(x)
        return x

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.classifier[-1](self.forward_features(images))


PRESETS = {
    "alexnet": AlexNetConfig(),
    "alexnet-2012": AlexNetConfig(channels=(96, 256, 384, 384, 256), groups=2, response_norm=True),
    "alexnet-tiny": AlexNetConfig(num_classes=5, in_channels=3, channels=(8, 12, 16, 16, 8), hidden=32),
}


def example_batch(config: AlexNetConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 64 x 64 pixels."""
    return {"images": torch.randn(batch_size, config.in_channels or 3, 64, 64, generator=generator)}
