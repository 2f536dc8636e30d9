"""Operators on boxes: conversions, overlap, suppression.

Shapes: N and M boxes. A box is x1, y1, x2, y2 in pixels, the left, top, right and bottom edge; a picture W pixels wide
spans 0 to W.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def centres_to_corners(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """Centre x, centre y, width, height -> x1, y1, x2, y2."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def corners_to_centres(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """x1, y1, x2, y2 -> centre x, centre y, width, height."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def area(boxes: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """Square pixels; zero for a box without extent."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    return area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], dim=-1))


def iou(a: Float[Tensor, "N 4"], b: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """Intersection over union of every pair; zero where both are empty.

    Example:
        >>> iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]])).tolist()
        [[0.3333333432674408]]
    """
    shared = _intersection(a[:, None], b[None, :])
    return shared / (area(a)[:, None] + area(b)[None, :] - shared).clamp(min=torch.finfo(shared.dtype).tiny)


def covered(a: Float[Tensor, "N 4"], b: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """Share of the area of each box of `a` that lies under each box of `b`."""
    shared = _intersection(a[:, None], b[None, :])
    return shared / area(a)[:, None].clamp(min=torch.finfo(shared.dtype).tiny)


def generalised_iou(a: Float[Tensor, "*N 4"], b: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N"]:
    """Generalised intersection over union of paired boxes, in [-1, 1] (broadcast over leading dimensions).

    `IoU - (hull - union) / hull`, with the smallest box around both as hull (Rezatofighi et al. 2019, algorithm 1,
    https://arxiv.org/abs/1902.09630). Unlike the overlap itself it has a gradient for boxes apart.
    """
    tiny = torch.finfo(a.dtype).tiny
    shared = _intersection(a, b)
    union = area(a) + area(b) - shared
    hull = area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], dim=-1))
    return shared / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def nms(
    boxes: Float[Tensor, "N 4"], scores: Float[Tensor, " N"], groups: Int[Tensor, " N"], threshold: float
) -> Int[Tensor, " K"]:
    """Greedy non-maximum suppression within groups; the indices kept, by falling score, ties by index.

    A box is dropped if it overlaps a kept box of its group and of higher rank by more than `threshold`. All groups run
    at once: boxes without an undecided rival above them are kept, what they suppress goes, and so on; the rounds are as
    many as the longest chain of overlaps.

    Args:
        boxes, scores: of all groups together.
        groups: a number for each class of each picture; boxes suppress each other only within one.
        threshold: of intersection over union.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    boxes, groups = boxes[order], groups[order]
    rival = (iou(boxes, boxes) > threshold) & (groups[:, None] == groups[None, :])
    rival = rival.tril(-1)  # [i, j]: j ranks above i and would suppress it
    undecided = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    kept = torch.zeros_like(undecided)
    while bool(undecided.any()):
        settled = undecided & ~(rival & undecided[None, :]).any(1)  # no undecided box above: decided by the kept ones
        kept |= settled & ~(rival & kept[None, :]).any(1)
        undecided &= ~settled
    return order[kept]
