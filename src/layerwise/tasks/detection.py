"""Object detection: a picture in, boxes with classes and scores out.

Metric: mean average precision as COCO defines it (https://cocodataset.org/#detection-eval): detections of a class in a
picture are matched by falling score, each to the free object of largest overlap above a threshold; precision is made to
fall with recall. The area under that curve is summed over every recall that occurs, COCO's code samples it at 101.

Shapes: B pictures, M objects, D detections, P thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Fraction, PositiveInt
from layerwise.data.examples import Splits
from layerwise.nn.protocols import require
from layerwise.ops.boxes import iou
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.pictures import PictureTask

THRESHOLDS = np.arange(10) * 0.05 + 0.5  # COCO's ten
_COLOURS = {
    "red": "#e6194b",
    "green": "#3cb44b",
    "blue": "#4363d8",
    "orange": "#f58231",
    "violet": "#911eb4",
    "teal": "#008080",
    "brown": "#9a6324",
    "olive": "#808000",
    "navy": "#000075",
    "pink": "#f032e6",
}


@runtime_checkable
class Detector(Protocol):
    """Finds objects in pictures."""

    def detect(
        self,
        images: Tensor,
        score_threshold: float = 0.3,
        max_detections: int = 100,
        nms_threshold: float | None = None,
    ) -> list[dict[str, Tensor]]:
        """For each picture `boxes` [D, 4] in pixels, `labels` [D], `scores` [D]."""
        ...


@dataclass(frozen=True, kw_only=True)
class DetectionConfig:
    """Options of detection.

    Args:
        score_threshold: detections below are not shown by predict and in pictures; metrics see those from 0.01 on.
        max_detections: of a picture.
        nms_threshold: overlap above which the weaker of two boxes of a class goes; None leaves all.
    """

    score_threshold: Fraction = 0.3
    max_detections: PositiveInt = 100
    nms_threshold: Fraction | None = None


# ---------------------------------------------------------------------------------------------------- average precision


class Curve(NamedTuple):
    """Recall (rising) and precision (made to fall), [D], one entry a detection by falling score."""

    recall: np.ndarray
    precision: np.ndarray

    def area(self) -> float:
        """Sum over all recalls that occur of precision times the gain in recall."""
        return float((np.diff(self.recall, prepend=0.0) * self.precision).sum())


def match_detections(overlap: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which detections of one picture and class are right.

    Args:
        overlap: intersection over union of detections (by falling score) and objects, [D, M].
        thresholds: [P].

    Returns:
        bool [P, D]. Each detection in turn takes the free object of largest overlap, if that reaches the threshold; of
            equals the last.
    """
    free = np.ones((len(thresholds), overlap.shape[1]), bool)
    right = np.zeros((len(thresholds), overlap.shape[0]), bool)
    rows = np.arange(len(thresholds))
    for d in range(overlap.shape[0] if overlap.shape[1] else 0):
        open_to = np.where(free, overlap[d], -1.0)
        best = open_to.shape[1] - 1 - open_to[:, ::-1].argmax(1)
        right[:, d] = open_to[rows, best] >= np.minimum(thresholds, 1 - 1e-10)
        free[rows, best] &= ~right[:, d]
    return right


def precision_recall(right: np.ndarray, scores: np.ndarray, objects: int) -> Curve:
    """The curve of one class from all its detections: whether right [D], scores [D], and the number of objects."""
    order = np.argsort(-scores, kind="stable")
    hits = right[order].cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    return Curve(hits / max(objects, 1), np.maximum.accumulate(precision[::-1])[::-1])


class DetectionMetrics(Accumulator):
    """mAP over ten thresholds (`map`), at 0.5 and 0.75, and recall; classes without objects do not count.

    Args:
        class_names: in order of label.
        config: of the task.
    """

    def __init__(self, class_names: Sequence[str], config: DetectionConfig) -> None:
        self.class_names, self.config = list(class_names), config
        ids, floats = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        self.rows: dict[str, Tensor] = {
            "found_ids": ids, "found_labels": ids, "found_scores": floats, "found_boxes": floats.view(0, 4),
            "true_ids": ids, "true_labels": ids, "true_boxes": floats.view(0, 4), "picture_ids": ids,
        }  # fmt: skip

    def update(self, network: nn.Module, batch: Batch) -> None:
        detector = require(network, Detector, "task=detection")
        found = detector.detect(batch["images"], 0.01, self.config.max_detections, self.config.nms_threshold)
        self.update_from(found, batch)

    def update_from(self, found: Sequence[dict[str, Tensor]], batch: Batch) -> None:
        """Take in the detections of each picture of a batch directly."""
        ids = batch["sample_ids"].cpu()
        lengths = torch.tensor([len(one["scores"]) for one in found])
        fresh = {
            "found_ids": ids.repeat_interleave(lengths),
            "found_labels": torch.cat([one["labels"].cpu() for one in found]),
            "found_scores": torch.cat([one["scores"].float().cpu() for one in found]),
            "found_boxes": torch.cat([one["boxes"].float().cpu() for one in found]),
            "true_ids": ids[batch["box_sample"].cpu()],
            "true_labels": batch["box_labels"].cpu(),
            "true_boxes": batch["boxes"].float().cpu(),
            "picture_ids": ids,
        }
        self.merge([self.rows, fresh])

    def state(self) -> dict[str, Tensor]:
        return self.rows

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.rows = {name: torch.cat([s[name] for s in states]) for name in self.rows}

    def curves(self, label: int) -> tuple[list[Curve], int]:
        """A class's curve at each of `THRESHOLDS`, and its number of objects. Pictures are taken by sample id."""
        rows = {name: value.numpy() for name, value in self.rows.items()}
        found, true = np.flatnonzero(rows["found_labels"] == label), np.flatnonzero(rows["true_labels"] == label)
        found = found[np.lexsort((-rows["found_scores"][found], rows["found_ids"][found]))]
        true = true[np.argsort(rows["true_ids"][true], kind="stable")]
        right = np.zeros((len(THRESHOLDS), len(found)), bool)
        for i in np.unique(rows["found_ids"][found]):
            begin, end = np.searchsorted(rows["found_ids"][found], (i, i + 1))
            objects = true[slice(*np.searchsorted(rows["true_ids"][true], (i, i + 1)))]
            overlap = iou(
                self.rows["found_boxes"][found[begin:end]].double(), self.rows["true_boxes"][objects].double()
            )
            right[:, begin:end] = match_detections(overlap.numpy(), THRESHOLDS)
        return [precision_recall(row, rows["found_scores"][found], len(true)) for row in right], len(true)

    def _areas(self) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Average precision and recall [classes, P], NaN for classes without objects; objects of each class."""
        shape = (len(self.class_names), len(THRESHOLDS))
        areas, recalls, objects = np.full(shape, np.nan), np.full(shape, np.nan), []
        for label in range(len(self.class_names)):
            curves, count = self.curves(label)
            objects.append(count)
            if count:
                areas[label] = [curve.area() for curve in curves]
                recalls[label] = [curve.recall[-1] if len(curve.recall) else 0.0 for curve in curves]
        return areas, recalls, objects

    def compute(self) -> dict[str, float]:
        areas, recalls, objects = self._areas()
        seen = np.array(objects) > 0
        if not seen.any():
            return {}
        return {
            "map": float(areas[seen].mean()),
            "map50": float(areas[seen, 0].mean()),
            "map75": float(areas[seen, 5].mean()),
            "recall": float(recalls[seen].mean()),
        }

    def table(self) -> dict[str, Any]:
        areas, _, objects = self._areas()
        per_class = [
            {
                "class": name,
                "count": count,
                "map": float(row.mean()) if count else None,
                "map50": float(row[0]) if count else None,
            }
            for name, count, row in zip(self.class_names, objects, areas, strict=True)
        ]
        return {"per_class": per_class, "class_names": self.class_names, "count": len(self.rows["picture_ids"])}


# ------------------------------------------------------------------------------------------------------------- the task


class Detection(PictureTask):
    """Raw `image` uint8 [B, C, H, W] to `images` float; targets are `boxes` [M, 4], `box_labels`, `box_sample` [M]."""

    monitor = ("map", "max")
    predicts = "files"

    def __init__(self, config: DetectionConfig) -> None:
        super().__init__()
        self.config = config

    def bind(self, splits: Splits) -> None:
        needs = {"boxes", "box_labels", "box_sample"}
        self.bind_pictures(splits, needs, "data", "task=detection needs pictures with boxes")

    def accumulator(self) -> DetectionMetrics:
        return DetectionMetrics(self.class_names, self.config)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Whole pictures, stretched to the trained size: nothing is cut off where objects may be."""
        from layerwise.data.pictures import decode_image

        decoded: list[tuple[str, Batch]] = []
        for name in inputs:
            image = decode_image(Path(name), None, self.channels)[None]
            original = torch.tensor([list(image.shape[-2:])])
            if list(image.shape[-2:]) != self.image_size:
                image = F.interpolate(image.float(), self.image_size, mode="bilinear", antialias=True).round().byte()
            decoded.append((name, {"image": image, "original_size": original}))
        self.note_moving(inputs)
        return decoded

    def _detect(self, network: nn.Module, images: Tensor) -> list[dict[str, Tensor]]:
        detector = require(network, Detector, "task=detection")
        return detector.detect(
            images, self.config.score_threshold, self.config.max_detections, self.config.nms_threshold
        )

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """Boxes in pixels of the picture as it was given."""
        height, width = batch["images"].shape[-2:]
        rows: list[dict[str, Any]] = []
        for i, one in enumerate(self._detect(network, batch["images"])):
            boxes = one["boxes"]
            if "original_size" in batch:
                old_height, old_width = batch["original_size"][i].tolist()
                boxes = boxes * boxes.new_tensor([old_width / width, old_height / height] * 2)
            labels = [self.class_names[k] for k in one["labels"].tolist()]
            rows.append({"boxes": boxes.tolist(), "labels": labels, "scores": one["scores"].tolist()})
        return rows

    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """A sheet of validation pictures: objects outlined white, detections in their class's colour with the score."""
        part = (splits.val or splits.test or splits.train) if splits is not None else None
        if part is None:
            return []
        raw = part.collate(torch.arange(min(12, len(part))))
        device = next(network.parameters()).device
        found = self._detect(network, self.inputs(raw)["images"].to(device))
        path = folder / "detections.png"
        _draw_sheet(raw, found, path)
        colours = list(_COLOURS)
        legend = ", ".join(f"{name} {colours[k % len(colours)]}" for k, name in enumerate(self.class_names))
        return [
            (f"Detections from score {self.config.score_threshold:g} on: {legend}. Objects are outlined white.", path)
        ]


def _draw_sheet(raw: Batch, found: Sequence[dict[str, Tensor]], path: Path, columns: int = 4) -> None:
    from PIL import Image, ImageDraw

    pictures = raw["image"].cpu().numpy()
    height, width = pictures.shape[-2:]
    zoom = max(1, 192 // max(height, width))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width * zoom, rows * height * zoom))
    pen = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        left, top = (i % columns) * width * zoom, (i // columns) * height * zoom
        tile = np.broadcast_to(picture, (3, height, width)) if len(picture) == 1 else picture[:3]
        tile = Image.fromarray(np.ascontiguousarray(tile.transpose(1, 2, 0)))
        sheet.paste(tile.resize((width * zoom, height * zoom), Image.Resampling.NEAREST), (left, top))
        shift = np.array([left, top, left, top])
        for box in raw["boxes"][raw["box_sample"] == i].cpu().numpy():
            pen.rectangle((box * zoom + shift).tolist(), outline="white")
        for box, label, score in zip(
            found[i]["boxes"].cpu().numpy(), found[i]["labels"].tolist(), found[i]["scores"].tolist(), strict=True
        ):
            colour, corner = list(_COLOURS.values())[label % len(_COLOURS)], box * zoom + shift
            pen.rectangle(corner.tolist(), outline=colour, width=2)
            pen.text((corner[0] + 3, corner[1] + 1), f"{score:.2f}", fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


TASKS = {"detection": DetectionConfig()}
