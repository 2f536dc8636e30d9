"""Detection by centres: a focal loss on the heat map and the overlap of boxes.

Papers: X. Zhou, D. Wang, P. Kraehenbuehl, "Objects as Points", 2019, https://arxiv.org/abs/1904.07850 (equation 1);
H. Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, https://arxiv.org/abs/1902.09630;
Z. Liu et al., "Training-Time-Friendly Network for Real-Time Object Detection", AAAI 2020,
https://arxiv.org/abs/1909.00700 (equation 2).

Shapes: B pictures, K classes, h w cells, M boxes of all pictures.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import NonNegativeFloat, PositiveFloat
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.ops.boxes import generalised_iou


@dataclass(frozen=True, kw_only=True)
class DetectionLossConfig:
    """Options of detection by centres.

    Args:
        heatmap_weight, box_weight: factors of the terms.
        focus: power of the focal loss's factor for sure cells (the paper's alpha).
        forgiveness: power by which cells near a centre are spared (the paper's beta).
        spread: half width of a centre's Gaussian as a share of half the box (Liu et al.'s alpha).
    """

    heatmap_weight: NonNegativeFloat = 1.0
    box_weight: NonNegativeFloat = 2.0
    focus: NonNegativeFloat = 2.0
    forgiveness: NonNegativeFloat = 4.0
    spread: PositiveFloat = 0.54


class Targets(NamedTuple):
    """Wanted heat map [B, K, h, w], one at centres, and each box's cell int64 [M] as index into [B * h * w]."""

    heatmap: Tensor
    cells: Tensor


def centre_targets(batch: Batch, heatmap: Tensor, spread: float) -> Targets:
    """Gaussians around the cells that hold a box's centre, the largest where they overlap.

    Args:
        batch: `images` [B, C, H, W], `boxes` [M, 4] (x1, y1, x2, y2, pixels), `box_labels` [M], `box_sample` [M].
        heatmap: logits [B, K, h, w], for sizes, dtype and device.
        spread: see `DetectionLossConfig`.
    """
    count, classes, height, width = heatmap.shape
    cell = torch.tensor(
        [batch["images"].shape[-1] / width, batch["images"].shape[-2] / height],
        device=heatmap.device,
        dtype=heatmap.dtype,
    )
    boxes = batch["boxes"].to(heatmap.dtype)
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 / cell).floor()
    x = centre[:, 0].clamp(0, width - 1)
    y = centre[:, 1].clamp(0, height - 1)
    radius = (spread * (boxes[:, 2:] - boxes[:, :2]) / cell / 2).floor()
    sigma = (2 * radius + 1) / 6
    across = ((torch.arange(width, device=x.device) - x[:, None]) / sigma[:, :1]).square()
    down = ((torch.arange(height, device=y.device) - y[:, None]) / sigma[:, 1:]).square()
    bumps = torch.exp(-(down[:, :, None] + across[:, None, :]) / 2)
    target = torch.zeros(count * classes, height, width, device=heatmap.device, dtype=heatmap.dtype)
    plane = (batch["box_sample"] * classes + batch["box_labels"])[:, None, None].expand_as(bumps)
    target.scatter_reduce_(0, plane, bumps, "amax")
    cells = (batch["box_sample"] * height + y.long()) * width + x.long()
    return Targets(target.view(count, classes, height, width), cells)


class DetectionLoss(Objective):
    """`heatmap`: focal loss of every cell, a mean over pictures; `box`: 1 - generalised overlap, a mean over boxes.

    For a cell of probability p and target t: `-(1 - p)^focus log p` where t = 1, else `-(1 - t)^forgiveness p^focus
    log(1 - p)`. The paper divides by the number of boxes; here it is pictures, so that pictures without any are learned
    from and every count is known before the forward pass.

    Shape:
        the network gives `heatmap` logits [B, K, h, w] and `boxes` [B, 4, h, w] in pixels.
    """

    def __init__(self, config: DetectionLossConfig) -> None:
        super().__init__()
        self.config = config

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"heatmap": float(len(batch["sample_ids"])), "box": float(len(batch["boxes"]))}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        output = network(images=batch["images"])
        logits = (
            output.heatmap if output.heatmap.dtype == torch.float64 else output.heatmap.float()
        )  # losses are float32 on purpose
        target = centre_targets(batch, logits, self.config.spread)
        probability = logits.sigmoid()
        positive = (1 - probability) ** self.config.focus * F.softplus(-logits)
        negative = (1 - target.heatmap) ** self.config.forgiveness * probability**self.config.focus * F.softplus(logits)
        heatmap = torch.where(target.heatmap == 1, positive, negative).sum()
        at_centres = output.boxes.permute(0, 2, 3, 1).reshape(-1, 4).index_select(0, target.cells)
        box = (1 - generalised_iou(at_centres, batch["boxes"].to(at_centres.dtype))).sum()
        counts = self.counts(batch, context.phase)
        return {
            "heatmap": Term(heatmap, counts["heatmap"], self.config.heatmap_weight),
            "box": Term(box, counts["box"], self.config.box_weight),
        }


OBJECTIVES = {"detection_loss": DetectionLossConfig()}
