"""Detection loss against loops over cells and boxes in Python floats, 1e-9; splits do not change the gradient."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from layerwise.models.detection.center_net import CenterNet, CenterNetConfig
from layerwise.objectives.base import Batch, Context
from layerwise.objectives.detection_loss import DetectionLoss, DetectionLossConfig, centre_targets
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))
CLASSES, ROWS, COLUMNS, STRIDE = 2, 6, 8, 4


class Output(NamedTuple):
    heatmap: Tensor
    boxes: Tensor


class Fixed(nn.Module):
    def __init__(self, pictures: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.heatmap = torch.randn(pictures, CLASSES, ROWS, COLUMNS, generator=generator, dtype=torch.float64)
        self.boxes = torch.rand(pictures, 4, ROWS, COLUMNS, generator=generator, dtype=torch.float64) * 10
        self.boxes[:, 2:] += self.boxes[:, :2] + 1

    def forward(self, images: Tensor) -> Output:
        return Output(self.heatmap, self.boxes)


def batch() -> Batch:
    """Three pictures: two boxes of one class that overlap and one of the other, none, one at the picture's corner."""
    return {
        "images": torch.zeros(3, 3, ROWS * STRIDE, COLUMNS * STRIDE),
        "boxes": torch.tensor([[2.0, 3, 22, 19], [9, 5, 21, 21], [0, 0, 6, 6], [24, 16, 32, 24]]),
        "box_labels": torch.tensor([0, 0, 1, 1]),
        "box_sample": torch.tensor([0, 0, 0, 2]),
        "sample_ids": torch.tensor([10, 11, 12]),
    }


def cell_of(box: list[float]) -> tuple[int, int]:
    return math.floor((box[1] + box[3]) / 2 / STRIDE), math.floor((box[0] + box[2]) / 2 / STRIDE)


def naive_target(data: Batch, spread: float) -> list[list[list[list[float]]]]:
    target = [[[[0.0] * COLUMNS for _ in range(ROWS)] for _ in range(CLASSES)] for _ in range(3)]
    for box, label, i in zip(*(data[k].tolist() for k in ("boxes", "box_labels", "box_sample")), strict=True):
        row, column = cell_of(box)
        sigmas = [(2 * math.floor(spread * side / STRIDE / 2) + 1) / 6 for side in (box[2] - box[0], box[3] - box[1])]
        for y in range(ROWS):
            for x in range(COLUMNS):
                bump = math.exp(-((x - column) ** 2) / (2 * sigmas[0] ** 2) - (y - row) ** 2 / (2 * sigmas[1] ** 2))
                target[i][label][y][x] = max(target[i][label][y][x], bump)
    return target


def test_targets_are_gaussians_around_centre_cells() -> None:
    data = batch()
    targets = centre_targets(data, Fixed().heatmap, 0.54)
    wanted = torch.tensor(naive_target(data, 0.54), dtype=torch.float64)
    torch.testing.assert_close(targets.heatmap, wanted, rtol=0, atol=1e-9)
    cells = [cell_of(box) for box in data["boxes"].tolist()]
    assert targets.cells.tolist() == [
        (i * ROWS + row) * COLUMNS + column for (row, column), i in zip(cells, data["box_sample"].tolist(), strict=True)
    ]


def test_heatmap_term_is_the_focal_loss_of_the_paper() -> None:
    data, network = batch(), Fixed()
    target = naive_target(data, 0.54)
    total = 0.0
    for i in range(3):
        for k in range(CLASSES):
            for y in range(ROWS):
                for x in range(COLUMNS):
                    p = 1 / (1 + math.exp(-float(network.heatmap[i, k, y, x])))
                    t = target[i][k][y][x]
                    total -= (1 - p) ** 2 * math.log(p) if t == 1 else (1 - t) ** 4 * p**2 * math.log(1 - p)
    term = DetectionLoss(DetectionLossConfig())(network, data, CONTEXT)["heatmap"]
    assert float(term.sum) == pytest.approx(total, abs=1e-9)
    assert term.count == 3


def test_box_term_is_one_minus_generalised_overlap_at_the_centre_cells() -> None:
    data, network = batch(), Fixed()
    total = 0.0
    for box, i in zip(data["boxes"].tolist(), data["box_sample"].tolist(), strict=True):
        row, column = cell_of(box)
        got = network.boxes[i, :, row, column].tolist()
        width = max(0.0, min(box[2], got[2]) - max(box[0], got[0]))
        height = max(0.0, min(box[3], got[3]) - max(box[1], got[1]))
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, got)]
        union = sum(areas) - width * height
        hull = (max(box[2], got[2]) - min(box[0], got[0])) * (max(box[3], got[3]) - min(box[1], got[1]))
        total += 1 - (width * height / union - (hull - union) / hull)
    term = DetectionLoss(DetectionLossConfig())(network, data, CONTEXT)["box"]
    assert float(term.sum) == pytest.approx(total, abs=1e-9)
    assert term.count == 4


def test_a_centre_on_the_far_edge_falls_into_the_last_cell() -> None:
    data = batch()
    data["boxes"][3] = torch.tensor([31.0, 23.0, 33.0, 25.0])
    assert centre_targets(data, Fixed().heatmap, 0.54).cells[3].item() == 3 * ROWS * COLUMNS - 1


def split_of(data: Batch, pictures: Tensor) -> Batch:
    """The batch of some of the pictures."""
    place = torch.full((len(data["sample_ids"]),), -1)
    place[pictures] = torch.arange(len(pictures))
    kept = place[data["box_sample"]] >= 0
    return {
        "images": data["images"][pictures],
        "boxes": data["boxes"][kept],
        "box_labels": data["box_labels"][kept],
        "box_sample": place[data["box_sample"][kept]],
        "sample_ids": data["sample_ids"][pictures],
    }


@pytest.mark.parametrize("parts", [[[0], [1], [2]], [[1], [0, 2]], [[0, 1], [2]]])
def test_gradient_is_the_same_for_every_split(parts: list[list[int]]) -> None:
    """Picture 1 has no boxes: a micro-batch of it alone counts zero boxes."""
    torch.manual_seed(0)
    config = CenterNetConfig(num_classes=2, in_channels=3, channels=(4, 4, 8), num_blocks=1, groups=2)
    network, objective = CenterNet(config).double(), DetectionLoss(DetectionLossConfig())
    data = batch()
    data["images"] = torch.randn(3, 3, 24, 32, dtype=torch.float64)
    found = []
    for pieces in ([data], [split_of(data, torch.tensor(part)) for part in parts]):
        network.zero_grad()
        totals = {"heatmap": 3.0, "box": 4.0}
        counted = [objective.counts(piece, "main") for piece in pieces]
        assert {name: sum(c[name] for c in counted) for name in totals} == totals
        for piece in pieces:
            terms = objective(network, piece, CONTEXT)
            torch.stack([t.sum * t.weight / totals[name] for name, t in terms.items()]).sum().backward()
        found.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
