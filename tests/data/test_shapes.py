"""Synthetic shapes: a picture is a function of its number, and its boxes are right."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.data.shapes import CLASS_NAMES, ShapeExamples, Shapes, ShapesConfig, draw_shapes

SMALL = ShapesConfig(train_size=40, val_size=10, test_size=10)


def test_a_picture_depends_on_its_number_alone() -> None:
    together = draw_shapes(SMALL, torch.arange(20))
    alone = draw_shapes(SMALL, torch.tensor([13]))
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a[13], b[0])


def test_another_seed_gives_other_pictures() -> None:
    ids = torch.arange(4)
    assert not torch.equal(draw_shapes(SMALL, ids)[0], draw_shapes(ShapesConfig(seed=1), ids)[0])


def test_parts_share_no_picture() -> None:
    splits = Shapes(SMALL).splits()
    ids = [
        part.collate(torch.arange(len(part)))["sample_ids"] for part in (splits.train, splits.val, splits.test) if part
    ]
    assert [len(part) for part in ids] == [40, 10, 10]
    assert len(torch.cat(ids).unique()) == 60


@pytest.mark.parametrize("label", range(3))
def test_boxes_are_tight_around_what_is_drawn(label: int) -> None:
    """Single objects without noise; a pixel belongs to a shape if its centre does, so edges are within a pixel."""
    config = ShapesConfig(max_objects=1, noise=0)
    image, boxes, classes, taken = draw_shapes(config, torch.arange(60))
    chosen = [i for i in range(60) if taken[i, 0] and classes[i, 0] == label]
    assert len(chosen) > 5
    for i in chosen:
        corners = image[i][:, [0, 0, -1, -1], [0, -1, 0, -1]]  # a shape can cover at most one corner
        background = corners.mode(dim=1).values
        rows, columns = (image[i] != background[:, None, None]).any(0).nonzero(as_tuple=True)
        x1, y1, x2, y2 = boxes[i, 0].tolist()
        assert x1 - 0.5 <= columns.min() <= x1 + 1.5
        assert y1 - 0.5 <= rows.min() <= y1 + 1.5
        assert x2 - 1.5 <= columns.max() + 1 <= x2 + 0.5
        assert y2 - 1.5 <= rows.max() + 1 <= y2 + 0.5
        share = len(rows) / ((x2 - x1) * (y2 - y1))
        assert share == pytest.approx({0: torch.pi / 4, 1: 1.0, 2: 0.5}[label], abs=0.12)


def test_targets_are_flat_with_the_index_of_their_picture() -> None:
    examples = ShapeExamples(SMALL, torch.arange(40))
    chosen = torch.tensor([7, 3, 21])
    batch = examples.collate(chosen)
    assert batch["image"].shape == (3, 3, 64, 64)
    assert batch["image"].dtype == torch.uint8
    assert batch["sample_ids"].tolist() == [7, 3, 21]
    singles = [examples.collate(chosen[i : i + 1]) for i in range(3)]
    assert torch.equal(batch["boxes"], torch.cat([one["boxes"] for one in singles]))
    assert torch.equal(batch["box_labels"], torch.cat([one["box_labels"] for one in singles]))
    assert batch["box_sample"].tolist() == [i for i, one in enumerate(singles) for _ in range(len(one["boxes"]))]


def test_numbers_of_objects_range_from_none_to_the_most_and_all_classes_occur() -> None:
    examples = ShapeExamples(ShapesConfig(), torch.arange(400))
    batch = examples.collate(torch.arange(400))
    assert set(batch["box_sample"].bincount(minlength=400).tolist()) == set(range(6))
    assert (batch["box_labels"].bincount(minlength=len(CLASS_NAMES)) > 100).all()
    assert ((batch["boxes"] >= 0) & (batch["boxes"] <= 64)).all()


def test_no_later_box_covers_too_much_of_an_earlier_one() -> None:
    config = ShapesConfig(max_hidden=0.3, max_objects=8, extent=(8, 40))
    _, boxes, _, taken = draw_shapes(config, torch.arange(100))
    pairs = 0
    for i in range(100):
        standing = boxes[i][taken[i]].tolist()
        for a, early in enumerate(standing):
            for late in standing[a + 1 :]:
                width = max(0.0, min(early[2], late[2]) - max(early[0], late[0]))
                height = max(0.0, min(early[3], late[3]) - max(early[1], late[1]))
                pairs += width * height > 0
                assert width * height <= 0.3 * (early[2] - early[0]) * (early[3] - early[1]) + 1e-3
    assert pairs > 50


def test_fingerprint_tells_pictures_apart() -> None:
    first, again, other = (
        ShapeExamples(SMALL, ids).fingerprint() for ids in (torch.arange(5), torch.arange(5), torch.arange(1, 6))
    )
    assert first == again != other


def test_sizes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ConfigError, match="size=32"):
        ShapesConfig(size=32, extent=(10, 40))
