"""Bounds on held-out pictures: binary pixels, accumulation, report pictures."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from layerwise.data.examples import Splits, TensorExamples
from layerwise.models.generative.vae import PRESETS, VAE
from layerwise.objectives.variational import importance_bound
from layerwise.ops.random import Draws
from layerwise.tasks.image_density import DensityMetrics, ImageDensity, ImageDensityConfig


def make_vae() -> VAE:
    torch.manual_seed(0)
    return VAE(PRESETS["vae-tiny"]).eval()


def make_splits(count: int = 30) -> Splits:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    examples = TensorExamples({"image": image, "labels": torch.arange(count) % 3})
    return Splits(train=examples, val=examples, facts={"num_classes": 3})


def bound_task(**options: object) -> tuple[ImageDensity, dict[str, Tensor]]:
    task, splits = ImageDensity(ImageDensityConfig(**options)), make_splits()  # type: ignore[arg-type]
    task.bind(splits)
    assert splits.val is not None
    return task, task.inputs(splits.val.collate(torch.arange(30)))


def test_sampled_pixels_are_binary_and_a_function_of_the_sample_id() -> None:
    task, batch = bound_task(binarise="sampled")
    assert set(batch["images"].unique().tolist()) == {0.0, 1.0}
    raw = make_splits().train.collate(torch.tensor([7, 3]))  # type: ignore[union-attr]
    assert torch.equal(task.inputs(raw)["images"], batch["images"][[7, 3]])


def test_share_of_white_pixels_is_the_grey_level() -> None:
    """40,000 pixels of grey level 64: 64 / 255 = 0.2510 with a standard error of 0.0022."""
    task, _ = bound_task(binarise="sampled")
    grey = torch.full((625, 1, 8, 8), 64, dtype=torch.uint8)
    found = task.inputs({"image": grey, "sample_ids": torch.arange(625)})["images"].mean().item()
    assert found == pytest.approx(64 / 255, abs=0.01)


def test_black_and_white_pixels_stay_what_they_are() -> None:
    task, _ = bound_task(binarise="sampled")
    image = torch.randint(0, 2, (50, 1, 8, 8), dtype=torch.uint8) * 255
    found = task.inputs({"image": image, "sample_ids": torch.arange(50)})["images"]
    assert torch.equal(found, (image / 255).float())


def test_threshold_is_one_half() -> None:
    task, _ = bound_task(binarise="threshold")
    image = torch.tensor([127, 128], dtype=torch.uint8).view(2, 1, 1, 1)
    assert task.inputs({"image": image, "sample_ids": torch.arange(2)})["images"].flatten().tolist() == [0.0, 1.0]


def test_metrics_are_means_of_the_bound_and_do_not_depend_on_batches() -> None:
    _, batch = bound_task(binarise="sampled")
    vae, whole, halves = make_vae(), DensityMetrics(7, 0), [DensityMetrics(7, 0) for _ in range(2)]
    noise = Draws(0, "image_density", "evaluation").normal(batch["sample_ids"], (7, 3), "code")
    with torch.no_grad():
        whole.update(vae, batch)
        for part, ids in zip(halves, torch.arange(30).split(20), strict=True):
            part.update(vae, {name: value[ids] for name, value in batch.items()})
        bound, elbo = importance_bound(vae, batch["images"], noise, batch["labels"])
    halves[0].merge([part.state() for part in halves])
    found = whole.compute()
    assert found["nats"] == pytest.approx(-bound.mean().item(), rel=1e-5)
    assert found["elbo_nats"] == pytest.approx(-elbo.mean().item(), rel=1e-5)
    assert found["bits_per_dimension"] == pytest.approx(found["nats"] / 64 / 0.693147, rel=1e-5)
    assert halves[0].compute() == pytest.approx(found, rel=1e-5)
    low, high = whole.table()["intervals"]["nats"]
    deviation = bound.std(correction=0).item() / 30**0.5
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=1e-3)


def test_units_whose_mean_never_changes_are_not_active() -> None:
    _, batch = bound_task()
    vae = make_vae()
    with torch.no_grad():
        vae.encoder.code.weight[0] = 0.0  # the first mean is its bias
        vae.encoder.code.weight[1:3] *= 20
        metrics = DensityMetrics(2, 0)
        metrics.update(vae, batch)
    assert metrics.compute()["active_units"] == 2.0


def test_report_has_samples_reconstructions_walks_and_classes(tmp_path: Path) -> None:
    task, _ = bound_task(binarise="sampled")
    found = task.pictures(make_vae(), make_splits(), tmp_path)
    names = ["generated.png", "real.png", "reconstructions.png", "walk.png", "classes.png"]
    assert [path.name for _, path in found] == names
    assert all(path.is_file() for _, path in found)
