"""CenterNet: objects as points, small.

Paper: X. Zhou, D. Wang, P. Kraehenbuehl, "Objects as Points", 2019. https://arxiv.org/abs/1904.07850
Reference code: https://github.com/xingyizhou/CenterNet.

Differs from the paper: a small residual network with one step down and up in place of ResNet, DLA or Hourglass; group
norm (Wu and He 2018), so that no picture depends on its batch mates in training either; each cell gives the distances
to its box's four edges, as in FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355), in place of size and offset,
so that boxes are trained by their overlap.

Shapes: B pictures, C channels, H W height and width, K classes, h w = H/4 W/4 cells, D detections.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.ops.boxes import nms

CARD = Card(
    title="CenterNet, small",
    authors="Xingyi Zhou, Dequan Wang, Philipp Kraehenbuehl",
    paper="Objects as Points",
    year=2019,
    link="https://arxiv.org/abs/1904.07850",
    inputs={"images": "float [B, in_channels, H, W], H and W multiples of 8"},
    outputs={
        "heatmap": "float [B, num_classes, h, w], logits of a box's centre lying in a cell; h and w are H/4 and W/4",
        "boxes": "float [B, 4, h, w], x1, y1, x2, y2 in pixels of the box whose centre lies in a cell",
    },
    differences=(
        "A small residual network with group norm as backbone.",
        "Distances to the four edges in place of size and offset.",
    ),
)

_LARGEST = 8.0  # of the logarithm of a distance over the stride: no exponential overflows


@dataclass(frozen=True, kw_only=True)
class CenterNetConfig:
    """CenterNet's sizes.

    Args:
        num_classes: kinds of objects; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        channels: widths at stride 2, 4 and 8, multiples of `groups`.
        num_blocks: residual blocks at stride 8.
        groups: of group norm.
        prior: probability of a centre that every cell starts from (Lin et al. 2017, section 4.1).
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    channels: tuple[PositiveInt, PositiveInt, PositiveInt] = (16, 32, 64)
    num_blocks: PositiveInt = 2
    groups: PositiveInt = 8
    prior: float = 0.02

    def __post_init__(self) -> None:
        if any(width % self.groups for width in self.channels):
            raise ConfigError(f"channels={list(self.channels)}: must be multiples of groups={self.groups}.")
        if not 0 < self.prior < 1:
            raise ConfigError(f"prior={self.prior}: must be above 0 and below 1.")


class CenterNetOutput(NamedTuple):
    """What the network says of every cell: centre logits [B, K, h, w] and boxes [B, 4, h, w] in pixels."""

    heatmap: Tensor
    boxes: Tensor


class ConvNormAct(nn.Sequential):
    """3 x 3 convolution, group norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, stride: int = 1) -> None:
        convolution = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        super().__init__(convolution, nn.GroupNorm(groups, out_channels), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """`relu(x + norm(conv(conv_norm_act(x))))` (He et al. 2016)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, groups)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.conv2(self.conv1(x))))


class CenterNet(nn.Module):
    """Centre heat map and box of every cell at stride 4.

    Shape:
        images [B, in_channels, H, W] -> heatmap [B, num_classes, H/4, W/4], boxes [B, 4, H/4, W/4].

    Example:
        >>> net = CenterNet(CenterNetConfig(num_classes=3, in_channels=3))
        >>> [list(part.shape) for part in net(torch.zeros(1, 3, 64, 64))]
        [[1, 3, 16, 16], [1, 4, 16, 16]]
    """

    stride = 4

    def __init__(self, config: CenterNetConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None:
            raise ConfigError(
                "num_classes and in_channels are needed to build CenterNet; they come from the data or are given."
            )
        self.config = config
        narrow, middle, wide = config.channels
        groups = config.groups
        self.stem = ConvNormAct(config.in_channels, narrow, groups, stride=2)
        self.fine = nn.Sequential(ConvNormAct(narrow, middle, groups, stride=2), ResidualBlock(middle, groups))
        self.coarse = nn.Sequential(
            ConvNormAct(middle, wide, groups, stride=2),
            *(ResidualBlock(wide, groups) for _ in range(config.num_blocks)),
        )
        self.lateral = nn.Conv2d(middle, wide, 1)
        self.merge = ConvNormAct(wide, wide, groups)
        self.heatmap_head = nn.Sequential(ConvNormAct(wide, wide, groups), nn.Conv2d(wide, config.num_classes, 1))
        self.box_head = nn.Sequential(ConvNormAct(wide, wide, groups), nn.Conv2d(wide, 4, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. (2015) weights; the heads start at zero boxes of 4 pixels a side and at the prior probability."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()
        for head, bias in ((self.heatmap_head[1], _logit(self.config.prior)), (self.box_head[1], 0.0)):
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            nn.init.normal_(head.weight, std=0.01)
            nn.init.constant_(head.bias, bias)

    def forward(self, images: Float[Tensor, "B C H W"]) -> CenterNetOutput:
        """Centre logits and boxes of every cell; boxes are float32 on purpose, a pixel of bfloat16 is too coarse.

        Raises:
            ValueError: a side is no multiple of 8.
        """
        height, width = images.shape[-2:]
        if height % 8 or width % 8:
            raise ValueError(f"pictures must have sides that are multiples of 8, got {height} x {width}.")
        fine = self.fine(self.stem(images))
        x = self.merge(self.lateral(fine) + F.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest"))
        raw = self.box_head(x)
        wide = raw if raw.dtype == torch.float64 else raw.float()
        distances = self.stride * wide.clamp(max=_LARGEST).exp()  # to the left, top, right and bottom edge
        centres = self._centres(raw.shape[-2], raw.shape[-1], wide)
        return CenterNetOutput(
            self.heatmap_head(x), torch.cat([centres - distances[:, :2], centres + distances[:, 2:]], dim=1)
        )

    def _centres(self, height: int, width: int, like: Tensor) -> Float[Tensor, "2 h w"]:
        x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * self.stride
        y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * self.stride
        return torch.stack([x[None, :].expand(height, width), y[:, None].expand(height, width)])

    @torch.no_grad()
    def detect(
        self,
        images: Float[Tensor, "B C H W"],
        score_threshold: float = 0.3,
        max_detections: int = 100,
        nms_threshold: float | None = None,
    ) -> list[dict[str, Tensor]]:
        """Boxes at the heat map's peaks (cells that are the largest of their 3 x 3 neighbourhood), best first.

        Args:
            images: as forward takes them.
            score_threshold: peaks below are left out.
            max_detections: of a picture.
            nms_threshold: overlap above which the weaker of two boxes of a class goes; the paper needs none.

        Returns:
            For each picture `boxes` [D, 4] (x1, y1, x2, y2 in pixels, within it), `labels` int64 [D], `scores` [D].
        """
        output = self(images)
        batch, classes, height, width = output.heatmap.shape
        scores = output.heatmap.float().sigmoid()
        peaks = torch.where(F.max_pool2d(scores, 3, stride=1, padding=1) == scores, scores, 0.0).flatten(1)
        count = min(max_detections, classes * height * width)
        best, place = peaks.topk(count, dim=1)
        cell = (place % (height * width))[:, None, :].expand(-1, 4, -1)
        boxes = output.boxes.flatten(2).gather(2, cell).transpose(1, 2).clamp(min=0)
        limit = torch.tensor([images.shape[-1], images.shape[-2]] * 2, dtype=boxes.dtype, device=boxes.device)
        boxes, labels = torch.minimum(boxes, limit), place // (height * width)
        found: list[dict[str, Tensor]] = []
        for i in range(batch):
            kept = (best[i] >= score_threshold) & (best[i] > 0)
            one = {"boxes": boxes[i][kept], "labels": labels[i][kept], "scores": best[i][kept]}
            if nms_threshold is not None:
                chosen = nms(one["boxes"], one["scores"], one["labels"], nms_threshold)
                one = {name: value[chosen] for name, value in one.items()}
            found.append(one)
        return found


def _logit(probability: float) -> float:
    return float(torch.logit(torch.tensor(probability, dtype=torch.float64, device="cpu")))


PRESETS = {
    "center-net-small": CenterNetConfig(),
    "center-net-tiny": CenterNetConfig(num_classes=3, in_channels=3, channels=(8, 8, 16), num_blocks=1, groups=4),
}


def example_batch(config: CenterNetConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of 32 x 32 pixels."""
    return {"images": torch.randn(batch_size, config.in_channels or 3, 32, 32, generator=generator)}
