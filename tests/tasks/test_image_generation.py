"""Frechet distance against scipy's matrix root and closed forms; pictures that depend on seed and index alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from torch import Tensor

from layerwise.core.errors import ConfigError, DataError, UnsupportedError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.models.classic.rbm import RBM, RBMConfig
from layerwise.models.generative.dcgan import DCGAN, PRESETS
from layerwise.ops.random import Draws
from layerwise.tasks.image_generation import (
    GenerationMetrics,
    ImageGeneration,
    ImageGenerationConfig,
    make_pictures,
)
from layerwise.tasks.picture_grids import save_grid


def make_pictures_like(count: int, seed: int, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size * size, size * size, generator=torch.Generator().manual_seed(9)) / size
    return torch.tanh(torch.randn(count, size * size, generator=generator) @ mixing).view(count, 1, size, size)


def read(path: Path | str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def make_gan() -> DCGAN:
    torch.manual_seed(0)
    return DCGAN(PRESETS["dcgan-tiny"])


def test_metrics_equal_a_direct_computation_in_principal_components() -> None:
    real, fake = make_pictures_like(80, 1), make_pictures_like(80, 2) * 0.7
    metrics = GenerationMetrics(components=5, seed=0)
    for part in range(0, 80, 20):
        metrics.update_from(real[part : part + 20], fake[part : part + 20])
    x, y = (((p.double() + 1) / 2).flatten(1).numpy() for p in (real, fake))
    _, _, axes = np.linalg.svd(x - x.mean(0))
    u, v = x @ axes[:5].T, y @ axes[:5].T
    c1, c2 = np.cov(u.T, ddof=0), np.cov(v.T, ddof=0)
    wanted = np.square(u.mean(0) - v.mean(0)).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    found = metrics.compute()
    assert found["frechet_distance"] == pytest.approx(wanted, rel=1e-8)
    assert found["diversity"] == pytest.approx(y.var(0).sum() / x.var(0).sum(), rel=1e-10)


def test_same_pictures_have_distance_zero_and_diversity_one() -> None:
    metrics, real = GenerationMetrics(components=64, seed=0), make_pictures_like(100, 1)
    metrics.update_from(real, real)
    assert metrics.compute() == pytest.approx({"frechet_distance": 0.0, "diversity": 1.0}, abs=1e-9)


def test_collapsed_generator_has_no_diversity() -> None:
    metrics, real = GenerationMetrics(components=64, seed=0), make_pictures_like(100, 1)
    metrics.update_from(real, real[:1].expand_as(real))
    assert metrics.compute()["diversity"] == pytest.approx(0.0, abs=1e-9)


def test_merged_processes_equal_one_and_a_process_without_samples_adds_nothing() -> None:
    real, fake = make_pictures_like(60, 1), make_pictures_like(60, 2)
    whole, parts = GenerationMetrics(8, 0), [GenerationMetrics(8, 0) for _ in range(3)]
    whole.update_from(real, fake)
    parts[0].update_from(real[:45], fake[:45])
    parts[1].update_from(real[45:], fake[45:])
    merged = GenerationMetrics(8, 0)
    merged.merge([part.state() for part in parts])
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-9)
    assert parts[2].compute() == {}


def test_evaluation_does_not_depend_on_batch_size() -> None:
    gan, real = make_gan().eval(), make_pictures_like(30, 1)
    found = []
    for size in (30, 7):
        metrics = GenerationMetrics(8, 0)
        with torch.no_grad():
            for images, ids in zip(real.split(size), torch.arange(30).split(size), strict=True):
                metrics.update(gan, {"images": images, "sample_ids": ids})
        found.append(metrics.compute())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_large_pictures_are_averaged_down_to_at_most_1024_values() -> None:
    metrics = GenerationMetrics(4, 0)
    pictures = torch.rand(5, 3, 96, 64) * 2 - 1
    metrics.update_from(pictures, pictures)
    assert 256 < len(metrics.moments["real_sum"]) <= 1024
    assert metrics.moments["real_sum"].mean() == pytest.approx(5 * float((pictures.double().mean() + 1) / 2), rel=1e-2)


def test_picture_is_the_same_for_the_same_seed_whatever_the_number() -> None:
    gan = make_gan()
    many, few = make_pictures(gan, 40, seed=3), make_pictures(gan, 5, seed=3)
    assert torch.equal(many[:5], few)
    assert many.shape == (40, 1, 8, 8)
    assert not torch.equal(few, make_pictures(gan, 5, seed=4))


def test_generate_writes_a_grid_or_a_folder_with_the_same_pixels(tmp_path: Path) -> None:
    gan, task = make_gan(), ImageGeneration(ImageGenerationConfig())
    grid = task.generate(gan, prompt=None, count=4, seed=0, out=tmp_path / "grid.png")
    folder = task.generate(gan, prompt=None, count=4, seed=0, out=tmp_path / "samples")
    assert {row["file"] for row in grid} == {str(tmp_path / "grid.png")}
    whole = read(tmp_path / "grid.png")
    assert whole.shape == (18, 18)
    for i, row in enumerate(folder):
        top, left = i // 2 * 10, i % 2 * 10
        assert np.array_equal(read(row["file"]), whole[top : top + 8, left : left + 8])


def test_generate_refuses_a_prompt_and_other_files(tmp_path: Path) -> None:
    task = ImageGeneration(ImageGenerationConfig())
    with pytest.raises(ConfigError, match="prompt"):
        task.generate(make_gan(), prompt="a shoe", count=1, seed=0, out=tmp_path / "x.png")
    with pytest.raises(ConfigError, match=r"x\.jpg"):
        task.generate(make_gan(), prompt=None, count=1, seed=0, out=tmp_path / "x.jpg")


def test_grid_of_colour_pictures_keeps_every_pixel(tmp_path: Path) -> None:
    pictures = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    save_grid(pictures, tmp_path / "grid.png", gap=1, columns=3)
    found = read(tmp_path / "grid.png")
    assert found.shape == (9, 20, 3)
    assert np.array_equal(found[5:9, 7:13], pictures[4].permute(1, 2, 0).numpy())
    assert bool((found[5:9, 14:20] == 255).all())


def test_task_gives_inputs_in_minus_one_to_one_and_facts_of_the_data() -> None:
    image = torch.tensor([0, 255, 51, 204], dtype=torch.uint8).view(1, 1, 2, 2).expand(10, 1, 2, 2)
    examples, task = (
        TensorExamples({"image": image, "labels": torch.zeros(10, dtype=torch.int64)}),
        ImageGeneration(ImageGenerationConfig()),
    )
    task.bind(Splits(train=examples))
    assert task.facts() == {"in_channels": 1, "image_size": (2, 2), "num_classes": 0}
    found = task.inputs(examples.collate(torch.arange(2)))
    torch.testing.assert_close(found["images"][0, 0].flatten(), torch.tensor([-1.0, 1.0, -0.6, 0.6]))
    other = ImageGeneration(ImageGenerationConfig())
    other.load(task.state())
    assert other.facts() == task.facts()


def test_report_has_generated_and_real_pictures(tmp_path: Path) -> None:
    examples = TensorExamples({"image": torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)})
    gan, task = make_gan(), ImageGeneration(ImageGenerationConfig())
    found = task.pictures(gan, Splits(train=None, val=examples), tmp_path)
    assert [read(path).shape for _, path in found] == [(334, 334), (166, 208)]  # every pixel five times
    assert len(task.pictures(gan, None, tmp_path)) == 1


def test_data_without_pictures_and_models_that_do_not_generate_are_refused() -> None:
    task = ImageGeneration(ImageGenerationConfig())
    with pytest.raises(DataError, match="pictures"):
        task.bind(Splits(train=TensorExamples({"features": torch.zeros(3, 2)})))
    with pytest.raises(UnsupportedError, match="generator"):
        GenerationMetrics(2, 0).update(
            torch.nn.Identity(), {"images": torch.zeros(1, 1, 2, 2), "sample_ids": torch.arange(1)}
        )


def test_evaluation_latents_are_hashed_from_sample_ids() -> None:
    first = Draws(0, "image_generation", "evaluation").normal(torch.tensor([5]), (4,), "latents")
    torch.testing.assert_close(GenerationMetrics(2, 0).draws.normal(torch.tensor([4, 5]), (4,), "latents")[1:], first)


def test_models_that_draw_by_themselves_are_measured_in_the_range_they_have(tmp_path: Path) -> None:
    """A machine with strong visible biases draws those pixels: black and white ones come out as such."""
    rbm = RBM(RBMConfig(in_channels=1, image_size=(2, 2), hidden_size=3, gibbs_steps=2))
    with torch.no_grad():
        rbm.weight.zero_()
        rbm.visible_bias.copy_(torch.tensor([-30.0, 30.0, 30.0, -30.0]))
    examples = TensorExamples({"image": torch.tensor([[[[0, 255], [255, 0]]]] * 6, dtype=torch.uint8)})
    task = ImageGeneration(ImageGenerationConfig(normalise="unit"))
    task.bind(Splits(train=examples))
    batch = task.inputs(examples.collate(torch.arange(6)))
    assert batch["images"].unique().tolist() == [0.0, 1.0]
    metrics = task.accumulator()
    with torch.no_grad():
        metrics.update(rbm, batch)
    assert metrics.compute()["frechet_distance"] == pytest.approx(0.0, abs=1e-9)
    (row,) = task.generate(rbm, prompt=None, count=1, seed=0, out=tmp_path / "one.png")
    assert read(row["file"]).tolist() == [[0, 255], [255, 0]]
