"""The linear probe against scikit-learn and brute force; the task's choice of labels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from layerwise.core.errors import DataError, UnsupportedError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.tasks.representation import _STRENGTHS, ProbeMetrics, Representation, RepresentationConfig, RidgeProbe


def make_points(count: int = 24, width: int = 7, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    features = torch.randn(count, width, generator=generator, dtype=torch.float64) * 3 + 1
    features[:, :classes] += 2 * torch.nn.functional.one_hot(labels, classes)
    return features, labels


def test_probe_equals_scikit_learns_ridge_at_its_strength() -> None:
    features, labels = make_points()
    probe = RidgeProbe(features, labels, 3)
    x, y = (
        ((features - features.mean(0)) / features.std(0, correction=0)).numpy(),
        torch.nn.functional.one_hot(labels, 3).double().numpy(),
    )
    wanted = Ridge(alpha=probe.strength).fit(x, y).predict(x)
    np.testing.assert_allclose(probe.predict(features).numpy(), wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("width", [7, 40])
def test_strength_has_the_least_leave_one_out_error_found_by_leaving_one_out(width: int) -> None:
    """Standardised with all samples, as the closed form is; the centre is fitted anew each time."""
    features, labels = make_points(width=width)
    probe = RidgeProbe(features, labels, 3)
    x, y = (
        ((features - features.mean(0)) / features.std(0, correction=0)).numpy(),
        torch.nn.functional.one_hot(labels, 3).double().numpy(),
    )
    scale = np.square(x).sum(1).mean()
    errors = {}
    for strength in _STRENGTHS:
        kept = [np.arange(24) != i for i in range(24)]
        missed = [
            y[i] - Ridge(alpha=strength * scale).fit(x[keep], y[keep]).predict(x[i : i + 1])[0]
            for i, keep in enumerate(kept)
        ]
        errors[strength * scale] = np.square(missed).mean()
    assert probe.strength == pytest.approx(min(errors, key=lambda s: errors[s]), rel=1e-9)


def test_constant_features_are_left_out() -> None:
    features, labels = make_points()
    wider = torch.cat([features, torch.full((24, 2), 5.0, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(
        RidgeProbe(wider, labels, 3).predict(wider),
        RidgeProbe(features, labels, 3).predict(features),
        rtol=1e-9,
        atol=1e-10,
    )


class Sums(nn.Module):
    """Features that separate classes which single pixels do not: the sign of the product of two pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward_features(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        return self.scale * torch.stack([x[:, 0] * x[:, 1], x[:, 0]], dim=1)


def make_task(count: int = 400, options: RepresentationConfig | None = None) -> tuple[Representation, Splits]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 1, 1, 2), generator=generator, dtype=torch.uint8)
    labels = ((image[:, 0, 0, 0] < 128) == (image[:, 0, 0, 1] < 128)).long()
    half = count // 2
    parts = [TensorExamples({"image": image[s], "labels": labels[s]}) for s in (slice(0, half), slice(half, None))]
    splits = Splits(
        train=parts[0], val=parts[1], facts={"num_classes": 2}, normalisation={"mean": [0.5], "std": [0.29]}
    )
    task = Representation(options or RepresentationConfig())
    task.bind(splits)
    return task, splits


def test_probe_on_separating_features_beats_raw_pixels() -> None:
    """The class is whether two pixels are on one side of grey: their product tells, no linear function does."""
    task, splits = make_task()
    assert splits.val is not None
    batches = [task.inputs(splits.val.collate(part)) for part in torch.arange(200).split(64)]
    metrics, table = task.evaluate(Sums(), batches)
    assert metrics["probe_accuracy"] > 0.8
    assert metrics["pixel_accuracy"] < 0.65
    assert table["count"] == 200
    assert metrics["probe_accuracy"] == pytest.approx(np.mean([row["features"] for row in table["probes"]]))


def test_labelled_pictures_are_balanced_fixed_and_in_one_probe_only() -> None:
    task, splits = make_task(options=RepresentationConfig(labels_per_class=6, probes=4))
    again, _ = make_task(options=RepresentationConfig(labels_per_class=6, probes=4))
    assert task._labelled is not None
    assert again._labelled is not None
    pictures, labels = task._labelled
    assert pictures.shape == (4, 12, 1, 1, 2)
    assert all(torch.bincount(row).tolist() == [6, 6] for row in labels)
    assert torch.equal(pictures, again._labelled[0])
    ids = TensorExamples(
        {"image": torch.arange(200).view(-1, 1, 1, 1).expand(-1, 1, 1, 2), "labels": splits.train.labels()}
    )  # type: ignore[union-attr]
    chosen, _ = task._choose(ids, 2)
    assert len(set(chosen[..., 0].flatten().tolist())) == 48


def test_merged_processes_equal_one() -> None:
    task, splits = make_task()
    assert splits.val is not None
    batches = [task.inputs(splits.val.collate(part)) for part in torch.arange(200).split(50)]
    whole, parts = task.accumulator(), [task.accumulator(), task.accumulator()]
    for index, batch in enumerate(batches):
        whole.update(Sums(), batch)
        parts[index % 2].update(Sums(), batch)
    merged = task.accumulator()
    merged.merge([part.state() for part in parts])
    assert merged.compute() == whole.compute()
    assert task.accumulator().compute() == {}


def test_second_view_is_normalised_like_the_first() -> None:
    task, splits = make_task()
    raw = splits.train.collate(torch.arange(3))  # type: ignore[union-attr]
    found = task.inputs({**raw, "image_2": raw["image"]})
    assert set(found) == {"images", "images_2", "labels", "sample_ids"}
    assert torch.equal(found["images"], found["images_2"])
    torch.testing.assert_close(found["images"], (raw["image"] / 255 - 0.5) / 0.29)


def test_too_few_labels_of_a_class_name_the_class_and_the_remedy() -> None:
    with pytest.raises(DataError, match=r"class '0'.*probes"):
        make_task(count=40)


def test_model_alone_cannot_be_probed() -> None:
    task, _ = make_task()
    other = Representation(RepresentationConfig())
    other.load(task.state())
    assert other.facts() == task.facts() == {"num_classes": 2, "in_channels": 1}
    with pytest.raises(UnsupportedError, match="labelled"):
        other.accumulator()


def test_neighbours_picture_starts_each_row_with_the_query(tmp_path: Path) -> None:
    task, splits = make_task()
    [(_, path)] = task.pictures(Sums(), splits, tmp_path)
    with Image.open(path) as picture:
        found = np.asarray(picture)
    assert found.shape == (8 * 3 - 2, 8 * 4 - 2)
    first = splits.val.collate(torch.tensor([0]))["image"][0, 0].numpy()  # type: ignore[union-attr]
    assert np.array_equal(found[:1, :2], first)


def test_probe_metrics_follow_dtype_of_the_network() -> None:
    images = torch.rand(2, 8, 1, 1, 2)
    metrics = ProbeMetrics(images, torch.arange(8).remainder(2).expand(2, 8), 2)
    metrics.update(
        Sums().double(), {"images": images[0].double(), "labels": torch.arange(8) % 2, "sample_ids": torch.arange(8)}
    )
    assert float(metrics.count) == 8
