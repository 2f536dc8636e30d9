"""Reconstruction: errors by hand, principal components against numpy's singular values, predictions on files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.models.classic.autoencoder import Autoencoder, AutoencoderConfig
from layerwise.tasks.reconstruction import (
    PrincipalComponents,
    ReconstructionMetrics,
    ReconstructionTask,
    ReconstructionTaskConfig,
    principal_components,
)

CODE = 3


def make_examples(count: int = 40) -> TensorExamples:
    generator = torch.Generator().manual_seed(0)
    return TensorExamples({"image": torch.randint(0, 256, (count, 1, 4, 4), generator=generator, dtype=torch.uint8)})


def make_network() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig(in_channels=1, image_size=(4, 4), hidden_sizes=(8,), code_size=CODE)).eval()


def bound() -> tuple[ReconstructionTask, TensorExamples]:
    task, examples = ReconstructionTask(ReconstructionTaskConfig()), make_examples()
    task.bind(Splits(train=examples, val=examples))
    return task, examples


def test_principal_components_reach_the_error_of_the_truncated_singular_values() -> None:
    """Eckart and Young 1936: the best rank-k error is the sum of the squared singular values that are left out."""
    examples = make_examples()
    x = examples.columns["image"].flatten(1).double() / 255
    left_out = np.linalg.svd((x - x.mean(0)).numpy(), compute_uv=False)[CODE:]
    found = principal_components(examples).reconstruct(x, CODE)
    assert float((x - found).square().sum()) == pytest.approx(float((left_out**2).sum()), rel=1e-9)


def test_errors_are_summed_over_pixels_and_averaged_over_pictures() -> None:
    task, examples = bound()
    network, accumulator = make_network(), task.accumulator()
    with torch.no_grad():
        for ids in (torch.arange(25), torch.arange(25, 40)):
            accumulator.update(network, task.inputs(examples.collate(ids)))
        images = examples.columns["image"].double() / 255
        made = network(images.float()).reconstruction.double()
    by_hand = sum(float((a - b).square().sum()) for a, b in zip(images, made, strict=True)) / 40
    assert accumulator.compute()["squared_error"] == pytest.approx(by_hand, rel=1e-5)  # float32 network
    values = images.flatten(1)
    centred = (values - values.mean(0)).numpy()
    left_out = np.linalg.svd(centred, compute_uv=False)[CODE:]
    assert accumulator.compute()["pca_squared_error"] == pytest.approx(float((left_out**2).sum()) / 40, rel=1e-5)


def test_interval_of_the_mean_error() -> None:
    metrics = ReconstructionMetrics(None)
    errors = [1.0, 2.0, 4.0, 5.0]
    metrics.sums = torch.tensor([4.0, sum(errors), sum(e * e for e in errors), 0.0], dtype=torch.float64)
    half = 1.959964 * np.std(errors) / 2
    assert metrics.table()["intervals"]["squared_error"] == pytest.approx((3 - half, 3 + half), rel=1e-9)
    assert metrics.compute() == {"squared_error": 3.0}


def test_halves_merged_equal_the_whole() -> None:
    task, examples = bound()
    network, whole = make_network(), task.accumulator()
    halves = [task.accumulator(), task.accumulator()]
    with torch.no_grad():
        whole.update(network, task.inputs(examples.collate(torch.arange(40))))
        for half, ids in zip(halves, (torch.arange(10), torch.arange(10, 40)), strict=True):
            half.update(network, task.inputs(examples.collate(ids)))
    united = task.accumulator()
    united.merge([half.state() for half in halves])
    assert united.compute() == pytest.approx(whole.compute(), rel=1e-9)
    assert united.table()["code_size"] == CODE


def test_state_travels_without_the_data_and_predicts_on_files(tmp_path: Path) -> None:
    task, examples = bound()
    other = ReconstructionTask(ReconstructionTaskConfig())
    other.load(task.state())
    assert other.facts() == task.facts() == {"in_channels": 1, "image_size": (4, 4)}
    picture = examples.columns["image"][0]
    path = tmp_path / "one.png"
    Image.fromarray(picture[0].numpy()).save(path)
    (name, columns), network = other.decode([str(path)])[0], make_network()
    with torch.no_grad():
        (row,) = other.predict(network, other.inputs(columns))
        output = network(picture[None].float() / 255)
    assert name == str(path)
    assert row["code"] == pytest.approx(output.code[0].tolist(), rel=1e-5)
    wanted = float((picture.double() / 255 - output.reconstruction.double()).square().sum())
    assert row["squared_error"] == pytest.approx(wanted, rel=1e-5)


def test_report_has_rows_of_originals_reconstructions_and_principal_components(tmp_path: Path) -> None:
    task, examples = bound()
    ((caption, path),) = task.pictures(make_network(), Splits(train=examples, val=examples), tmp_path)
    assert "3 principal components" in caption
    with Image.open(path) as grid:
        assert grid.size == (12 * 42 - 2, 3 * 42 - 2)  # every pixel ten times
        first = np.asarray(grid)[:40:10, :40:10]
    assert np.array_equal(first, examples.columns["image"][0, 0].numpy())
    assert task.pictures(make_network(), None, tmp_path) == []


def test_large_pictures_are_measured_without_principal_components() -> None:
    task = ReconstructionTask(ReconstructionTaskConfig())
    images = torch.zeros(3, 3, 40, 40, dtype=torch.uint8)
    task.bind(Splits(train=TensorExamples({"image": images})))
    assert task.accumulator().components is None


def test_data_without_pictures_are_refused() -> None:
    task = ReconstructionTask(ReconstructionTaskConfig())
    with pytest.raises(DataError, match="pictures"):
        task.bind(Splits(train=TensorExamples({"features": torch.zeros(3, 2)})))


def test_all_directions_give_the_picture_back() -> None:
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    directions = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3)).double()).Q
    found = PrincipalComponents(x.mean(0), directions).reconstruct(x, 4)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)
