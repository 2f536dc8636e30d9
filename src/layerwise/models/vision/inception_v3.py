"""Inception v3.

Paper: C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, "Rethinking the Inception architecture for computer
vision", 2015. https://arxiv.org/abs/1512.00567
State-dict names: torchvision's.

Differs from the paper: 5 x 5 filters remain in the first three modules and the stem has a 1 x 1 convolution in place of
one of 3 x 3, as in the network that its authors published and that torchvision and timm have. `inception_v3` averages
over the zeros around a map in the pooling branches, as those libraries do; `inception_v3-fid` is TensorFlow's graph of
5 December 2015, in whose features the Frechet Inception distance is measured (M. Heusel et al. 2017,
https://arxiv.org/abs/1706.08500): the averages leave that padding out, and the pooling branch of the last module takes
the maximum. The auxiliary head averages maps of fewer than 17 x 17 positions to 5 x 5, and the last maps are averaged
to one position, so that any picture of 75 x 75 pixels or more will do. Initial weights as He et al. (2015).

Shapes: B batch, C channels, H W height and width, D features, K classes.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.picture_size import AtLeast

CARD = Card(
    title="Inception v3",
    authors="Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
    paper="Rethinking the Inception architecture for computer vision",
    year=2015,
    link="https://arxiv.org/abs/1512.00567",
    inputs={"images": "float [B, in_channels, H, W], at least 75 x 75 pixels"},
    outputs={
        "logits": "float [B, num_classes]",
        "aux": "float [B, num_classes], while training: from the maps of Mixed_6e",
    },
    differences=(
        "5 x 5 filters remain in the first three modules, and the stem has a 1 x 1 convolution: the network that was "
        "published, not the paper's table.",
        "`inception_v3-fid` is TensorFlow's graph of 5 December 2015: averages without the padding, and a maximum in "
        "the last module.",
        "The auxiliary head averages small maps to 5 x 5 positions: other sizes than 299 x 299 will do.",
        "Initial weights as He et al. (2015).",
    ),
    capabilities=("differentiable", "features"),
    published={"*": {"num_classes": 1000, "in_channels": 3, "image_size": 299}},
)

_SMALLEST = 75  # pixels: below, the last convolution of stride 2 has nothing to read
_AUXILIARY_SMALLEST = 17  # positions: below, pooling by 5 x 5 leaves less than a 5 x 5 filter reads

Pool = Literal["padded", "unpadded", "max"]


@dataclass(frozen=True, kw_only=True)
class InceptionV3Config:
    """Sizes and wiring of the network.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        width: factor of the maps of every convolution.
        pools: of the pooling branches. "torchvision" averages over the zeros around a map; "tensorflow-2015" leaves
            them out, and takes the maximum in the last module.
        auxiliary: a further classifier on maps halfway, for training.
        dropout: rate on the features, before the classifier.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    width: PositiveFloat = 1.0
    pools: Literal["torchvision", "tensorflow-2015"] = "torchvision"
    auxiliary: bool = True
    dropout: Probability = 0.5

    def maps(self, published: int) -> int:
        """Maps of a convolution that has so many in the published network."""
        return max(1, round(published * self.width))


class InceptionV3Output(NamedTuple):
    """Logits [B, K] of the classifier and of the auxiliary head, while training."""

    logits: Tensor
    aux: Tensor


class BasicConv2d(nn.Module):
    """`relu(norm(conv(x)))`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], *, stride: int = 1, pad: bool = False
    ) -> None:
        super().__init__()
        padding = (kernel_size[0] // 2, kernel_size[1] // 2) if pad else 0
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        return F.relu(self.bn(self.conv(x)))


@dataclass(frozen=True)
class Step:
    """One convolution of a branch: maps in the published network, filter, stride. One of stride 1 is padded."""

    maps: int
    height: int = 1
    width: int = 1
    stride: int = 1


Branch = tuple[Step | tuple[Step, Step], ...]  # two steps: side by side on the same maps, their results joined
_TWO = "ab"


class Inception(nn.Module):
    """Branches side by side, their maps joined, those of a pooling branch last.

    Args:
        in_channels: of the maps.
        branches: by name: convolutions one after the other, `NAME_1`, `NAME_2` ... where there are several.
        config: of the network.
        pool: what the branch `branch_pool` reads: means or maxima of 3 x 3 positions at stride 1; None: there is no
            such branch, and maxima of 3 x 3 positions at stride 2 are joined as they are.
    """

    def __init__(
        self, in_channels: int, branches: Mapping[str, Branch], config: InceptionV3Config, pool: Pool | None
    ) -> None:
        super().__init__()
        self.pool, self.out_channels = pool, 0 if pool else in_channels
        self._names: dict[str, list[tuple[str, ...]]] = {}
        for branch, steps in branches.items():
            channels, self._names[branch] = in_channels, []
            for number, step in enumerate(steps, 1):
                pair = step if isinstance(step, tuple) else (step,)
                stem = branch if len(steps) == 1 else f"{branch}_{number}"
                names = [stem] if len(pair) == 1 else [stem + letter for letter in _TWO]
                made = [self._add(name, channels, one, config) for name, one in zip(names, pair, strict=True)]
                self._names[branch].append(tuple(names))
                channels = sum(made)
            self.out_channels += channels

    def _add(self, name: str, in_channels: int, step: Step, config: InceptionV3Config) -> int:
        maps, kernel_size = config.maps(step.maps), (step.height, step.width)
        pad = step.stride == 1
        self.add_module(name, BasicConv2d(in_channels, maps, kernel_size, stride=step.stride, pad=pad))
        return maps

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "max":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=self.pool == "padded")

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H2 W2"]:
        found: list[Tensor] = []
        for branch, steps in self._names.items():
            y = self._pooled(x) if branch == "branch_pool" else x
            for names in steps:
                made = [self.get_submodule(name)(y) for name in names]
                y = made[0] if len(made) == 1 else torch.cat(made, dim=1)
            found.append(y)
        if self.pool is None:
            found.append(F.max_pool2d(x, 3, stride=2))
        return torch.cat(found, dim=1)


def _module_a(pooled: int) -> dict[str, Branch]:
    """Figure 5 of the paper, with a 5 x 5 filter kept."""
    return {
        "branch1x1": (Step(64),),
        "branch5x5": (Step(48), Step(64, 5, 5)),
        "branch3x3dbl": (Step(64), Step(96, 3, 3), Step(96, 3, 3)),
        "branch_pool": (Step(pooled),),
    }


def _module_c(inner: int) -> dict[str, Branch]:
    """Figure 6 of the paper: 7 x 7 filters as 1 x 7 and 7 x 1."""
    flat, tall = Step(inner, 1, 7), Step(inner, 7, 1)
    return {
        "branch1x1": (Step(192),),
        "branch7x7": (Step(inner), flat, Step(192, 7, 1)),
        "branch7x7dbl": (Step(inner), tall, flat, tall, Step(192, 1, 7)),
        "branch_pool": (Step(192),),
    }


# Figure 10 of the paper: fewer positions and more maps at once.
_MODULE_B: dict[str, Branch] = {
    "branch3x3": (Step(384, 3, 3, 2),),
    "branch3x3dbl": (Step(64), Step(96, 3, 3), Step(96, 3, 3, 2)),
}
_MODULE_D: dict[str, Branch] = {
    "branch3x3": (Step(192), Step(320, 3, 3, 2)),
    "branch7x7x3": (Step(192), Step(192, 1, 7), Step(192, 7, 1), Step(192, 3, 3, 2)),
}
# Figure 7 of the paper: 1 x 3 and 3 x 1 filters on the same maps.
_MODULE_E: dict[str, Branch] = {
    "branch1x1": (Step(320),),
    "branch3x3": (Step(384), (Step(384, 1, 3), Step(384, 3, 1))),
    "branch3x3dbl": (Step(448), Step(384, 3, 3), (Step(384, 1, 3), Step(384, 3, 1))),
    "branch_pool": (Step(192),),
}
_MODULES: dict[str, dict[str, Branch]] = {
    "Mixed_5b": _module_a(32),
    "Mixed_5c": _module_a(64),
    "Mixed_5d": _module_a(64),
    "Mixed_6a": _MODULE_B,
    "Mixed_6b": _module_c(128),
    "Mixed_6c": _module_c(160),
    "Mixed_6d": _module_c(160),
    "Mixed_6e": _module_c(192),
    "Mixed_7a": _MODULE_D,
    "Mixed_7b": _MODULE_E,
    "Mixed_7c": _MODULE_E,
}
_LAST = "Mixed_7c"
_PYRAMID = ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", _LAST)


def _pool_of(name: str, config: InceptionV3Config) -> Pool | None:
    if "branch_pool" not in _MODULES[name]:
        return None
    if config.pools == "torchvision":
        return "padded"
    return "max" if name == _LAST else "unpadded"


class AuxiliaryHead(nn.Module):
    """Means of 5 x 5 positions, two convolutions, the mean over positions, a linear layer: maps [B, C, H, W] -> logits
    [B, K].
    """

    def __init__(self, in_channels: int, num_classes: int, config: InceptionV3Config) -> None:
        super().__init__()
        reduced, hidden = config.maps(128), config.maps(768)
        self.conv0 = BasicConv2d(in_channels, reduced, (1, 1))
        self.conv1 = BasicConv2d(reduced, hidden, (5, 5))
        self.fc = nn.Linear(hidden, num_classes)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        large = min(x.shape[2:]) >= _AUXILIARY_SMALLEST
        x = F.avg_pool2d(x, 5, stride=3) if large else F.adaptive_avg_pool2d(x, 5)
        return self.fc(self.conv1(self.conv0(x)).mean((2, 3)))


class InceptionV3(nn.Module):
    """Five convolutions, eleven inception modules, the mean over positions, a linear classifier.

    Shape:
        images [B, in_channels, H >= 75, W >= 75] -> logits [B, num_classes]; while training, with `auxiliary`, an
        `InceptionV3Output`. Features are [B, 2048], or so many times `width`.

    Example:
        >>> net = InceptionV3(InceptionV3Config(num_classes=10, in_channels=3, width=0.0625)).eval()
        >>> net(torch.zeros(1, 3, 75, 80)).shape
        torch.Size([1, 10])
    """

    pyramid_strides: tuple[int, ...] = (2, 4, 8, 16, 32)

    def __init__(self, config: InceptionV3Config) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build an InceptionV3; they come from the data or are given."
            )
        self.config, self.num_auxiliary = config, int(config.auxiliary)
        self.size = AtLeast(_SMALLEST, "InceptionV3", advised=96)
        c1, c2, c3, c4, channels = (config.maps(maps) for maps in (32, 32, 64, 80, 192))
        self.Conv2d_1a_3x3 = BasicConv2d(config.in_channels, c1, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(c1, c2, (3, 3))
        self.Conv2d_2b_3x3 = BasicConv2d(c2, c3, (3, 3), pad=True)
        self.Conv2d_3b_1x1 = BasicConv2d(c3, c4, (1, 1))
        self.Conv2d_4a_3x3 = BasicConv2d(c4, channels, (3, 3))
        made = {"Conv2d_2b_3x3": c3, "Conv2d_4a_3x3": channels}
        for name, branches in _MODULES.items():
            module = Inception(channels, branches, config, _pool_of(name, config))
            self.add_module(name, module)
            made[name] = channels = module.out_channels
        self.AuxLogits = AuxiliaryHead(made["Mixed_6e"], config.num_classes, config) if config.auxiliary else None
        self.feature_size = channels
        self.pyramid_channels: tuple[int, ...] = tuple(made[name] for name in _PYRAMID)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(channels, config.num_classes)
        self.reset_parameters()

    @property
    def blocks(self) -> nn.ModuleList:
        """The inception modules, first to last; their parameters keep their names."""
        return nn.ModuleList(self.get_submodule(name) for name in _MODULES)

    def reset_parameters(self) -> None:
        """He et al. (2015) for what a rectifier follows; N(0, 0.01) for the classifiers; biases zero; norms 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def _maps(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Maps before each of the stem's poolings and of every inception module, by name."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(self.size(images))))
        yield "Conv2d_2b_3x3", x
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        yield "Conv2d_4a_3x3", x
        x = F.max_pool2d(x, 3, stride=2)
        for name in _MODULES:
            x = self.get_submodule(name)(x)
            yield name, x

    def forward_pyramid(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """Maps before each halving and the last, at strides 2, 4, 8, 16 and 32. Convolutions without padding take some
        positions at the borders: of 299 pixels 147, 71, 35, 17 and 8 are left.
        """
        return [x for name, x in self._maps(images) if name in _PYRAMID]

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The last maps, averaged over positions.

        Raises:
            ConfigError: pictures smaller than 75 x 75.
        """
        _, x = deque(self._maps(images), maxlen=1).pop()
        return x.mean((2, 3))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"] | InceptionV3Output:
        """Class logits; while training, those of the auxiliary head too."""
        x, aux = images, None
        for name, x in self._maps(images):
            if self.training and name == "Mixed_6e" and self.AuxLogits is not None:
                aux = self.AuxLogits(x)
        logits = self.fc(self.dropout(x.mean((2, 3))))
        return logits if aux is None else InceptionV3Output(logits, aux)


PRESETS = {
    "inception_v3": InceptionV3Config(),
    "inception_v3-fid": InceptionV3Config(num_classes=1008, in_channels=3, pools="tensorflow-2015", auxiliary=False),
    "inception_v3-tiny": InceptionV3Config(num_classes=5, in_channels=3, width=1 / 16),
}


def example_batch(config: InceptionV3Config, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 96 x 96 pixels."""
    return {"images": torch.randn(batch_size, config.in_channels or 3, 96, 96, generator=generator)}
