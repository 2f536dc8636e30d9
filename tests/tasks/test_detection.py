"""Mean average precision against hand-computed cases and COCO's own code; predictions and pictures."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError, UnsupportedError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.shapes import Shapes, ShapesConfig
from layerwise.tasks.base import Batch
from layerwise.tasks.detection import (
    THRESHOLDS,
    Detection,
    DetectionConfig,
    DetectionMetrics,
    match_detections,
    precision_recall,
)

CONFIG = DetectionConfig()


def found(*rows: tuple[Sequence[float], int, float]) -> dict[str, Tensor]:
    """Detections of a picture: (box, label, score)."""
    return {
        "boxes": torch.tensor([row[0] for row in rows]).view(-1, 4),
        "labels": torch.tensor([row[1] for row in rows], dtype=torch.int64),
        "scores": torch.tensor([row[2] for row in rows]),
    }


def truth(pictures: Sequence[Sequence[tuple[Sequence[float], int]]], first_id: int = 0) -> Batch:
    """Objects of pictures: (box, label)."""
    flat = [(box, label, i) for i, objects in enumerate(pictures) for box, label in objects]
    return {
        "boxes": torch.tensor([row[0] for row in flat]).view(-1, 4),
        "box_labels": torch.tensor([row[1] for row in flat], dtype=torch.int64),
        "box_sample": torch.tensor([row[2] for row in flat], dtype=torch.int64),
        "sample_ids": torch.arange(first_id, first_id + len(pictures)),
    }


def metrics(detections: list[dict[str, Tensor]], objects: Batch, classes: int = 1) -> dict[str, float]:
    accumulator = DetectionMetrics([str(k) for k in range(classes)], CONFIG)
    accumulator.update_from(detections, objects)
    return accumulator.compute()


A, B, C = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (0.0, 20.0, 10.0, 30.0)


def test_area_under_a_curve_computed_by_hand() -> None:
    # Scores .9 right, .8 wrong, .7 right, of three objects: recall 1/3, 1/3, 2/3; precision 1, 1/2, 2/3, made to
    # fall 1, 2/3, 2/3.
    curve = precision_recall(np.array([True, True, False]), np.array([0.7, 0.9, 0.8]), 3)
    assert curve.recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert curve.precision.tolist() == pytest.approx([1, 2 / 3, 2 / 3])
    assert curve.area() == pytest.approx(1 / 3 + 2 / 9)


def test_a_second_detection_of_one_object_is_wrong() -> None:
    overlap = np.array([[0.6], [0.9], [0.55]])
    assert match_detections(overlap, np.array([0.5, 0.7])).tolist() == [[True, False, False], [False, True, False]]


def test_a_detection_takes_the_free_object_of_largest_overlap() -> None:
    overlap = np.array([[0.6, 0.8], [0.7, 0.75]])
    assert match_detections(overlap, np.array([0.5])).tolist() == [[True, True]]
    # The first one takes object 1, so at 0.72 nothing is left for the second, though it overlaps object 1 by 0.75.
    assert match_detections(overlap, np.array([0.72])).tolist() == [[True, False]]


def test_perfect_detections_have_average_precision_one() -> None:
    result = metrics([found((A, 0, 0.9), (B, 1, 0.4)), found()], truth([[(A, 0), (B, 1)], []]), classes=2)
    assert result == {"map": 1.0, "map50": 1.0, "map75": 1.0, "recall": 1.0}


def test_overlap_of_a_shifted_box_counts_up_to_its_threshold() -> None:
    # Shifted by 2.3 of 10: overlap 7.7 / 12.3 = 0.626, right at 0.5, 0.55 and 0.6 only.
    result = metrics([found(((2.3, 0.0, 12.3, 10.0), 0, 0.9))], truth([[(A, 0)]]))
    assert result == {"map": pytest.approx(0.3), "map50": 1.0, "map75": 0.0, "recall": pytest.approx(0.3)}


def test_a_wrong_detection_costs_only_if_its_score_is_higher() -> None:
    objects = truth([[(A, 0)], []])
    assert metrics([found((A, 0, 0.8)), found((A, 0, 0.9))], objects)["map"] == pytest.approx(0.5)
    assert metrics([found((A, 0, 0.9)), found((A, 0, 0.8))], objects)["map"] == 1.0


def test_a_detection_of_the_wrong_class_finds_nothing() -> None:
    assert metrics([found((A, 1, 0.9))], truth([[(A, 0)]]), classes=2)["map"] == 0.0


def test_classes_without_objects_do_not_count() -> None:
    assert metrics([found((A, 0, 0.9), (B, 1, 0.9))], truth([[(A, 0)]]), classes=3)["map"] == 1.0
    assert metrics([found((A, 0, 0.9))], truth([[]])) == {}


def noisy(seed: int, pictures: int = 30) -> tuple[list[dict[str, Tensor]], Batch]:
    """Random objects of three classes; detections are objects moved a little, some lost, some twice; scores tie."""
    rng = np.random.default_rng(seed)
    objects, detections = [], []
    for _ in range(pictures):
        corner = rng.uniform(0, 60, (rng.integers(0, 6), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 30, corner.shape)], axis=1)
        labels = rng.integers(0, 3, len(boxes))
        objects.append(list(zip(boxes.tolist(), labels.tolist(), strict=True)))
        rows = []
        for box, label in zip(boxes, labels, strict=True):
            for _ in range(rng.integers(0, 3)):
                wrong = rng.random() < 0.1
                rows.append(
                    (
                        (box + rng.normal(0, 1.5, 4)).tolist(),
                        int(rng.integers(0, 3) if wrong else label),
                        round(float(rng.random()), 1),
                    )
                )
        detections.append(found(*rows))
    return detections, truth(objects, first_id=100)


def test_processes_and_order_do_not_change_the_result() -> None:
    detections, objects = noisy(0)
    whole = metrics(detections, objects, classes=3)
    parts = []
    for rank in (1, 0):
        chosen = torch.arange(rank, 30, 2)
        place = torch.full((30,), -1)
        place[chosen] = torch.arange(len(chosen))
        kept = place[objects["box_sample"]] >= 0
        accumulator = DetectionMetrics(["a", "b", "c"], CONFIG)
        accumulator.update_from(
            [detections[i] for i in chosen.tolist()],
            {
                "boxes": objects["boxes"][kept],
                "box_labels": objects["box_labels"][kept],
                "box_sample": place[objects["box_sample"][kept]],
                "sample_ids": objects["sample_ids"][chosen],
            },
        )
        parts.append(accumulator.state())
    merged = DetectionMetrics(["a", "b", "c"], CONFIG)
    merged.merge(parts)
    assert merged.compute() == whole
    assert 0.1 < whole["map"] < 0.9


@pytest.mark.parametrize("seed", range(3))
def test_precision_at_every_recall_is_that_of_coco(seed: int) -> None:
    """COCO's code samples the curve at 101 recalls; ours, sampled there, is the same to 1e-9."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    detections, objects = noisy(seed)

    def xywh(box: list[float]) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    rows = zip(*(objects[k].tolist() for k in ("boxes", "box_labels", "box_sample")), strict=True)
    annotations = [
        {
            "id": n + 1,
            "image_id": 100 + i,
            "category_id": k,
            "bbox": xywh(b),
            "area": xywh(b)[2] * xywh(b)[3],
            "iscrowd": 0,
        }
        for n, (b, k, i) in enumerate(rows)
    ]
    results = [
        {"image_id": 100 + i, "category_id": k, "bbox": xywh(b), "score": s}
        for i, one in enumerate(detections)
        for b, k, s in zip(one["boxes"].tolist(), one["labels"].tolist(), one["scores"].tolist(), strict=True)
    ]
    with redirect_stdout(io.StringIO()):
        truths = coco.COCO()
        truths.dataset = {
            "info": {},
            "images": [{"id": 100 + i} for i in range(30)],
            "annotations": annotations,
            "categories": [{"id": k} for k in range(3)],
        }
        truths.createIndex()
        evaluation = cocoeval.COCOeval(truths, truths.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    theirs = evaluation.eval["precision"][:, :, :, 0, -1]  # threshold, recall, class; all areas, 100 detections
    accumulator = DetectionMetrics(["a", "b", "c"], CONFIG)
    accumulator.update_from(detections, objects)
    for label in range(3):
        curves, _ = accumulator.curves(label)
        for p, curve in enumerate(curves):
            at = np.searchsorted(curve.recall, np.linspace(0, 1, 101), side="left")
            ours = np.append(curve.precision, 0.0)[at]
            np.testing.assert_allclose(ours, theirs[p, :, label], rtol=0, atol=1e-9)
    np.testing.assert_allclose(THRESHOLDS, evaluation.params.iouThrs)


# ------------------------------------------------------------------------------------------------------------- the task


class Stub(nn.Module):
    """Finds the box (8, 16, 24, 32) of class 1 in every picture."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def detect(
        self,
        images: Tensor,
        score_threshold: float = 0.3,
        max_detections: int = 100,
        nms_threshold: float | None = None,
    ) -> list[Any]:
        return [found(((8.0, 16.0, 24.0, 32.0), 1, 0.75)) for _ in images]


@pytest.fixture
def splits() -> Splits:
    return Shapes(ShapesConfig(train_size=8, val_size=5, test_size=2)).splits()


@pytest.fixture
def task(splits: Splits) -> Detection:
    bound = Detection(CONFIG)
    bound.bind(splits)
    return bound


def test_inputs_are_normalised_pictures_and_flat_targets(task: Detection, splits: Splits) -> None:
    assert splits.train is not None
    batch = task.inputs(splits.train.collate(torch.arange(8)))
    assert set(batch) == {"images", "boxes", "box_labels", "box_sample", "sample_ids"}
    torch.testing.assert_close(batch["images"].mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(batch["images"].std((0, 2, 3)), torch.ones(3), rtol=0, atol=1e-3)


def test_predicted_boxes_are_in_pixels_of_the_given_picture(task: Detection) -> None:
    batch = {"images": torch.zeros(1, 3, 64, 64), "original_size": torch.tensor([[128, 32]])}
    assert task.predict(Stub(), batch) == [{"boxes": [[4.0, 32.0, 12.0, 64.0]], "labels": ["square"], "scores": [0.75]}]


def test_a_file_is_stretched_to_the_trained_size_and_its_own_is_kept(task: Detection, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((128, 32, 3), np.uint8)
    pixels[:64, :, 0] = 200  # the upper half is red, the lower blue
    pixels[64:, :, 2] = 100
    image.fromarray(pixels).save(tmp_path / "a.png")
    ((name, batch),) = task.decode([str(tmp_path / "a.png")])
    assert name.endswith("a.png")
    assert batch["image"].shape == (1, 3, 64, 64)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"][0, :, [2, 28, 36, 61], 40].T.tolist() == [[200, 0, 0]] * 2 + [[0, 0, 100]] * 2
    assert batch["original_size"].tolist() == [[128, 32]]


def test_what_was_learned_from_the_data_survives_as_json(task: Detection) -> None:
    import json

    other = Detection(CONFIG)
    other.load(json.loads(json.dumps(task.state())))
    assert other.facts() == task.facts() == {"num_classes": 3, "in_channels": 3}
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(other.preprocessing()(image), task.preprocessing()(image))


def test_pictures_show_what_was_found(task: Detection, splits: Splits, tmp_path: Path) -> None:
    ((caption, path),) = task.pictures(Stub(), splits, tmp_path)
    assert "square" in caption
    with pytest.importorskip("PIL.Image").open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert pixels.shape == (2 * 192, 4 * 192, 3)  # five pictures of 64 pixels, three times as large, in rows of four
    # The first picture's box has its left edge at 8 pixels, in the second class's colour, #3cb44b.
    assert pixels[24 * 3, 8 * 3].tolist() == [0x3C, 0xB4, 0x4B]


def test_a_model_that_does_not_detect_is_named(task: Detection, splits: Splits) -> None:
    assert splits.val is not None
    with pytest.raises(UnsupportedError, match="detect"):
        task.evaluate(nn.Linear(1, 1), [task.inputs(splits.val.collate(torch.arange(2)))])


def test_data_without_boxes_is_refused() -> None:
    pictures = TensorExamples({"image": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "labels": torch.tensor([0, 1])})
    with pytest.raises(DataError, match="box_labels"):
        Detection(CONFIG).bind(Splits(train=pictures, facts={"num_classes": 2}))
