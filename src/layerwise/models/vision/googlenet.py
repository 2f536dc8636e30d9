"""GoogLeNet, the first Inception network.

Paper: C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke, A. Rabinovich, "Going
deeper with convolutions", CVPR 2015. https://arxiv.org/abs/1409.4842
State-dict names: torchvision's.

Differs from the paper: the preset `googlenet` is the form whose checkpoints people hold: batch norm after each
convolution (Ioffe and Szegedy 2015), no response normalisation, a last pooling of 2 x 2, and 3 x 3 where the paper has
5 x 5 filters, an old slip in the original of those checkpoints. `googlenet-2014` is the paper's, with the constants of
response normalisation that Caffe's copy uses, since the paper gives none. The auxiliary heads average their maps to 4 x
4 positions and the last maps to one, so that any picture of 15 x 15 pixels or more will do. Initial weights as He et
al. (2015).

Shapes: B batch, C channels, H W height and width, D features, K classes.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    title="GoogLeNet",
    authors="Christian Szegedy, Wei Liu, Yangqing Jia, Pierre Sermanet, Scott Reed, Dragomir Anguelov, Dumitru Erhan, "
    "Vincent Vanhoucke, Andrew Rabinovich",
    paper="Going deeper with convolutions",
    year=2015,
    link="https://arxiv.org/abs/1409.4842",
    inputs={"images": "float [B, in_channels, H, W], at least 15 x 15 pixels"},
    outputs={
        "logits": "float [B, num_classes]",
        "aux1": "float [B, num_classes], while training: from the maps of inception 4a",
        "aux2": "float [B, num_classes], while training: from the maps of inception 4d",
    },
    differences=(
        "`googlenet`: batch norm, no response normalisation, 3 x 3 in place of 5 x 5 filters, a last pooling of 2 x 2; "
        "`googlenet-2014` is the paper's.",
        "Auxiliary heads average to 4 x 4 positions: other sizes than 224 x 224 will do.",
        "Initial weights as He et al. (2015).",
    ),
    capabilities=("differentiable", "features"),
    published={"*": {"num_classes": 1000, "in_channels": 3, "image_size": 224}},
)

_SMALLEST = 15  # pixels: below, the pools end with nothing

# Table 1 of the paper: maps of the 1 x 1, of the 3 x 3's reduction and the 3 x 3, of the 5 x 5's and the 5 x 5, after
# the pooling.
Widths = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt]
_INCEPTIONS: tuple[Widths, ...] = (
    (64, 96, 128, 16, 32, 32),  # 3a
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),  # 4a
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),  # 5a
    (384, 192, 384, 48, 128, 128),
)
_NAMES = "3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"


@dataclass(frozen=True, kw_only=True)
class GoogLeNetConfig:
    """Sizes and wiring of the network.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        stem: maps of the first convolution, of the 1 x 1 and of the 3 x 3 after it.
        inceptions: of each of the nine inception modules, maps of the 1 x 1; of the 3 x 3's reduction and the 3 x 3; of
            the 5 x 5's reduction and the 5 x 5; of the 1 x 1 after the pooling.
        large_kernel: side of the "5 x 5" filters.
        norm: after each convolution.
        num_groups: of `norm=group_norm`; divides each width.
        response_norm: local response normalisation after the first pooling and before the second.
        last_pool: side of the window of the last max-pooling, before inception 5a.
        auxiliary: two further classifiers on maps halfway, for training.
        auxiliary_channels: maps of their 1 x 1 convolution.
        auxiliary_hidden: units of their hidden layer.
        dropout: rate on the features, before the classifier.
        auxiliary_dropout: rate before the classifiers of the auxiliary heads.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    stem: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 64, 192)
    inceptions: tuple[Widths, ...] = _INCEPTIONS
    large_kernel: Literal[3, 5] = 3
    norm: Norm = "batch_norm"
    num_groups: PositiveInt = 8
    response_norm: bool = False
    last_pool: Literal[2, 3] = 2
    auxiliary: bool = True
    auxiliary_channels: PositiveInt = 128
    auxiliary_hidden: PositiveInt = 1024
    dropout: Probability = 0.2
    auxiliary_dropout: Probability = 0.7

    def __post_init__(self) -> None:
        if len(self.inceptions) != len(_NAMES):
            raise ConfigError(f"inceptions: {len(_NAMES)} modules, got {len(self.inceptions)}.")


class GoogLeNetOutput(NamedTuple):
    """Logits [B, K] of the classifier and of the auxiliary heads, while training."""

    logits: Tensor
    aux1: Tensor
    aux2: Tensor


class BasicConv2d(nn.Module):
    """`relu(norm(conv(x)))`; without a norm the convolution has a bias."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, config: GoogLeNetConfig, *, stride: int = 1
    ) -> None:
        super().__init__()
        padding, bias = kernel_size // 2, config.norm == "none"
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias)
        self.bn = make_norm(config.norm, out_channels, positions=2, eps=1e-3, num_groups=config.num_groups)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches, their maps joined: 1 x 1; 1 x 1 then 3 x 3; 1 x 1 then 5 x 5; max-pooling then 1 x 1."""

    def __init__(self, in_channels: int, widths: Widths, config: GoogLeNetConfig) -> None:
        super().__init__()
        one, three_reduction, three, five_reduction, five, pooled = widths
        large = config.large_kernel
        self.branch1 = BasicConv2d(in_channels, one, 1, config)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, three_reduction, 1, config),
            BasicConv2d(three_reduction, three, 3, config),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, five_reduction, 1, config),
            BasicConv2d(five_reduction, five, large, config),
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), BasicConv2d(in_channels, pooled, 1, config))
        self.out_channels = one + three + five + pooled

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class AuxiliaryHead(nn.Module):
    """Mean over 4 x 4 positions, 1 x 1 convolution, two linear layers: maps [B, C, H, W] -> logits [B, K]."""

    def __init__(self, in_channels: int, num_classes: int, config: GoogLeNetConfig) -> None:
        super().__init__()
        self.conv = BasicConv2d(in_channels, config.auxiliary_channels, 1, config)
        self.fc1 = nn.Linear(16 * config.auxiliary_channels, config.auxiliary_hidden)
        self.dropout = nn.Dropout(config.auxiliary_dropout)
        self.fc2 = nn.Linear(config.auxiliary_hidden, num_classes)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(self.dropout(F.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """Three convolutions, nine inception modules, the mean over positions, a linear classifier.

    Shape:
        images [B, in_channels, H >= 15, W >= 15] -> logits [B, num_classes]; while training, with `auxiliary`, a
        `GoogLeNetOutput`. Features are [B, maps of the last module].

    Example:
        >>> net = GoogLeNet(GoogLeNetConfig(num_classes=10, in_channels=3)).eval()
        >>> net(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """

    pyramid_strides: tuple[int, ...] = (2, 4, 8, 16, 32)

    def __init__(self, config: GoogLeNetConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build a GoogLeNet; they come from the data or are given."
            )
        self.config, self.num_auxiliary = config, 2 if config.auxiliary else 0
        self.size = AtLeast(_SMALLEST, "GoogLeNet", advised=32)
        c1, c2, channels = config.stem
        self.conv1 = BasicConv2d(config.in_channels, c1, 7, config, stride=2)
        self.conv2 = BasicConv2d(c1, c2, 1, config)
        self.conv3 = BasicConv2d(c2, channels, 3, config)
        made = {"conv3": channels}
        for name, widths in zip(_NAMES, config.inceptions, strict=True):
            module = Inception(channels, widths, config)
            self.add_module(f"inception{name}", module)
            made[name] = channels = module.out_channels
        self.aux1 = AuxiliaryHead(made["4a"], config.num_classes, config) if config.auxiliary else None
        self.aux2 = AuxiliaryHead(made["4d"], config.num_classes, config) if config.auxiliary else None
        self.feature_size = channels
        self.pyramid_channels: tuple[int, ...] = (c1, made["conv3"], made["3b"], made["4e"], made["5b"])
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(channels, config.num_classes)
        self.reset_parameters()

    @property
    def blocks(self) -> nn.ModuleList:
        """The inception modules, first to last; their parameters keep their names."""
        return nn.ModuleList(self.get_submodule(f"inception{name}") for name in _NAMES)

    def reset_parameters(self) -> None:
        """He et al. (2015) for what a rectifier follows; N(0, 0.01) for the classifiers; biases zero; norms 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | ChannelRMSNorm):
                module.reset_parameters()
        for head in (self.fc, *(aux.fc2 for aux in (self.aux1, self.aux2) if aux is not None)):
            nn.init.normal_(head.weight, std=0.01)

    def _maps(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Maps of the first and third convolution and of every inception module, by name."""
        images = self.size(images)
        x = self.conv1(images)
        yield "conv1", x
        x = self._response_norm(F.max_pool2d(x, 3, stride=2, ceil_mode=True))
        x = self._response_norm(self.conv3(self.conv2(x)))
        yield "conv3", x
        for name in _NAMES:
            if name in ("3a", "4a"):
                x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
            elif name == "5a":
                x = F.max_pool2d(x, self.config.last_pool, stride=2, ceil_mode=True)
            x = self.get_submodule(f"inception{name}")(x)
            yield name, x

    def _response_norm(self, x: Tensor) -> Tensor:
        """`x_c / (1 + 1e-4 / 5 sum_{|d - c| <= 2} x_d^2)^0.75`."""
        if not self.config.response_norm:
            return x
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

    def forward_pyramid(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """Maps before each pooling and the last, at strides 2, 4, 8, 16 and 32."""
        return [x for name, x in self._maps(images) if name in ("conv1", "conv3", "3b", "4e", "5b")]

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The last maps, averaged over positions.

        Raises:
            ConfigError: pictures smaller than 15 x 15.
        """
        _, x = deque(self._maps(images), maxlen=1).pop()
        return x.mean((2, 3))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"] | GoogLeNetOutput:
        """Class logits; while training, those of the auxiliary heads too."""
        x, found = images, dict[str, Tensor]()
        for name, x in self._maps(images):
            if self.training and name == "4a" and self.aux1 is not None:
                found["aux1"] = self.aux1(x)
            elif self.training and name == "4d" and self.aux2 is not None:
                found["aux2"] = self.aux2(x)
        logits = self.fc(self.dropout(x.mean((2, 3))))
        return GoogLeNetOutput(logits, found["aux1"], found["aux2"]) if found else logits


_TINY: tuple[Widths, ...] = ((4, 4, 8, 2, 4, 4),) * 9
PRESETS = {
    "googlenet": GoogLeNetConfig(),
    "googlenet-2014": GoogLeNetConfig(large_kernel=5, norm="none", response_norm=True, last_pool=3, dropout=0.4),
    "googlenet-tiny": GoogLeNetConfig(
        num_classes=5,
        in_channels=3,
        stem=(8, 8, 12),
        inceptions=_TINY,
        auxiliary_channels=4,
        auxiliary_hidden=16,
    ),
}


def example_batch(config: GoogLeNetConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 64 x 64 pixels."""
    return {"images": torch.randn(batch_size, config.in_channels or 3, 64, 64, generator=generator)}
