"""LeNet-5.

Paper: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86(11),
1998. http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

Differs from the paper: every C3 map sees all six S2 maps (the form whose 61,706 parameters are quoted; the paper's
table I connects some, which
the preset `lenet5-1998` builds); average pooling has no trained gain and bias; plain tanh; the last layer is linear,
trained with cross-entropy,
instead of radial basis functions on fixed bitmaps.

Shapes: B batch, C channels, H W height and width.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.picture_size import PadTo

CARD = Card(
    title="LeNet-5",
    authors="Yann LeCun, Leon Bottou, Yoshua Bengio, Patrick Haffner",
    paper="Gradient-based learning applied to document recognition",
    year=1998,
    link="http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf",
    inputs={
        "images": "float [B, in_channels, H, W], at most 32 x 32 pixels; smaller ones are padded with their border"
    },
    outputs={"logits": "float [B, num_classes]"},
    differences=(
        "Every C3 map sees all six S2 maps (61,706 parameters); `lenet5-1998` has the paper's table of connections.",
        "Average pooling without trained gain and bias.",
        "A linear last layer with cross-entropy in place of radial basis functions.",
    ),
    capabilities=("differentiable", "features"),
    published={"*": {"num_classes": 10, "in_channels": 1, "image_size": 32}},
)

# Table I of the paper: the S2 maps that each of the sixteen C3 maps sees.
_TABLE_1: tuple[tuple[int, ...], ...] = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LeNet5Config:
    """LeNet-5's sizes.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        channels: maps of C1, C3 and C5.
        hidden: units of F6.
        connections: "full", or "table" for the paper's table I (needs 6 and 16 maps).
        activation: the paper's tanh, or relu.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (6, 16, 120)
    hidden: PositiveInt = 84
    connections: Literal["full", "table"] = "full"
    activation: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        if self.connections == "table" and self.channels[:2] != (6, 16):
            raise ConfigError(f"connections=table needs channels of 6 and 16, got {self.channels[:2]}.")


class LeNet5(nn.Module):
    """C1 - S2 - C3 - S4 - C5 - F6 - output on 32 x 32 pictures.

    Shape:
        images [B, in_channels, H <= 32, W <= 32] -> logits [B, num_classes].

    Example:
        >>> net = LeNet5(LeNet5Config(num_classes=10, in_channels=1))
        >>> sum(p.numel() for p in net.parameters())
        61706
    """

    connection_mask: Tensor | None

    def __init__(self, config: LeNet5Config) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build LeNet-5; they come from the data or are given."
            )
        self.config = config
        c1, c3, c5 = config.channels
        self.pad = PadTo(32, "LeNet-5")
        self.conv1 = nn.Conv2d(config.in_channels, c1, 5)
        self.conv2 = nn.Conv2d(c1, c3, 5)
        self.conv3 = nn.Conv2d(c3, c5, 5)
        self.fc1 = nn.Linear(c5, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.num_classes)
        self.activation = torch.tanh if config.activation == "tanh" else F.relu
        mask = torch.zeros(c3, c1)
        if config.connections == "table":
            for row, maps in enumerate(_TABLE_1):
                mask[row, list(maps)] = 1.0
            self.register_buffer("connection_mask", mask[:, :, None, None], persistent=False)
        else:
            self.register_buffer("connection_mask", None, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot and Bengio (2010) uniform weights for tanh, He et al. (2015) for relu; biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if self.config.activation == "tanh":
                    nn.init.xavier_uniform_(module.weight, gain=nn.init.calculate_gain("tanh"))
                else:
                    nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Activations of F6, [B, hidden].

        Raises:
            ConfigError: pictures larger than 32 x 32.
        """
        x = self.pad(images)
        x = F.avg_pool2d(self.activation(self.conv1(x)), 2)
        x = F.avg_pool2d(self.activation(self._c3(x)), 2)
        x = self.activation(self.conv3(x)).flatten(1)
        return self.activation(self.fc1(x))

    def _c3(self, x: Tensor) -> Tensor:
        if self.connection_mask is None:
            return self.conv2(x)
        masked = self.conv2.weight * self.connection_mask
        return functional_call(self.conv2, {"weight": masked}, (x,))  # hooks see the layer run

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.fc2(self.forward_features(images))


PRESETS = {
    "lenet5": LeNet5Config(),
    "lenet5-1998": LeNet5Config(connections="table"),
    "lenet5-tiny": LeNet5Config(num_classes=5, in_channels=1, channels=(2, 3, 8), hidden=8),
}


def example_batch(config: LeNet5Config, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 28 x 28 pixels."""
    return {"images": torch.randn(batch_size, config.in_channels or 1, 28, 28, generator=generator)}
