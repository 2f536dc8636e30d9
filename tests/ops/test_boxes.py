"""Box operators against closed forms and naive loops in Python floats."""

import pytest
import torch
from torch import Tensor

from layerwise.ops.boxes import area, centres_to_corners, corners_to_centres, covered, generalised_iou, iou, nms


def random_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, count, 2, generator=generator, dtype=torch.float64)
    return torch.cat([10 * corner, 10 * corner + 6 * size], dim=1)


def naive_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union


def test_centre_form_and_back() -> None:
    boxes = torch.tensor([[1.0, 2.0, 5.0, 10.0]])
    assert corners_to_centres(boxes).tolist() == [[3.0, 6.0, 4.0, 8.0]]
    assert centres_to_corners(corners_to_centres(boxes)).tolist() == boxes.tolist()


def test_area_of_a_box_turned_inside_out_is_zero() -> None:
    assert area(torch.tensor([[0.0, 0.0, 2.0, 3.0], [4.0, 0.0, 2.0, 3.0]])).tolist() == [6.0, 0.0]


def test_iou_of_every_pair_is_the_naive_one() -> None:
    a, b = random_boxes(7, 0), random_boxes(9, 1)
    wanted = torch.tensor([[naive_iou(x, y) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)
    assert 0 < float((wanted > 0).double().mean()) < 1
    torch.testing.assert_close(iou(a, b), wanted, rtol=0, atol=1e-12)


def test_iou_of_empty_boxes_is_zero() -> None:
    empty = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    assert iou(empty, empty).tolist() == [[0.0]]
    assert iou(empty[:0], empty).shape == (0, 1)


def test_covered_is_the_share_of_the_first_box() -> None:
    small, large = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 11.0, 10.0]])
    assert covered(small, large).item() == pytest.approx(0.5)
    assert covered(large, small).item() == pytest.approx(0.02)


def test_generalised_iou_of_known_boxes() -> None:
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    others = torch.tensor([[0, 0, 1, 1], [2, 0, 3, 1], [0, 0, 2, 2], [1, 1, 2, 2]], dtype=torch.float64)
    # equal; apart: 0 - (3 - 2) / 3; inside: 1/4 - 0; touching at a corner: 0 - (4 - 2) / 4
    wanted = torch.tensor([1.0, -1 / 3, 0.25, -0.5], dtype=torch.float64)
    torch.testing.assert_close(generalised_iou(unit.expand(4, 4), others), wanted, rtol=0, atol=1e-12)


def test_generalised_iou_draws_boxes_together_that_are_apart() -> None:
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]], requires_grad=True)
    generalised_iou(box, torch.tensor([[3.0, 0.0, 4.0, 1.0]])).sum().backward()
    assert box.grad is not None
    assert box.grad[0, 2] > 0  # moving the right edge to the right helps


def naive_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i)):
        rivals = [j for j in kept if groups[i] == groups[j]]
        if all(naive_iou(boxes[i].tolist(), boxes[j].tolist()) <= threshold for j in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.4])
def test_nms_keeps_what_the_greedy_loop_keeps(seed: int, threshold: float) -> None:
    boxes = random_boxes(60, seed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 12, (60,), generator=generator) / 12  # many ties
    groups = torch.randint(0, 3, (60,), generator=generator)
    kept = naive_nms(boxes, scores, groups, threshold)
    assert len(kept) < 60
    assert nms(boxes, scores, groups, threshold).tolist() == kept


def test_a_suppressed_box_suppresses_nothing() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 1.0], [4.0, 0.0, 14.0, 1.0], [8.0, 0.0, 18.0, 1.0]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64), 0.3).tolist() == [0, 2]


def test_nms_of_nothing_is_nothing() -> None:
    assert nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5).tolist() == []
