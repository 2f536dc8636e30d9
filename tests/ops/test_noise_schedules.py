"""Noise processes against diffusers' tables, closed forms and each other."""

import math
from types import ModuleType
from typing import Any

import pytest
import torch

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError
from layerwise.ops.noise_schedules import NoiseProcess, Prediction, clean_and_noise

NAMES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("schedule", NAMES)
def test_tables_are_those_of_diffusers(schedule: Any, zero: bool, torchvision: ModuleType) -> None:
    """Its tables are float32 products of 1,000 factors: 1e-4; the square roots that samplers use are within half."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.EulerDiscreteScheduler(
        beta_schedule=NAMES[schedule], beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=zero
    ).alphas_cumprod
    ours = NoiseProcess(schedule=schedule, beta_start=0.00085, beta_end=0.012, zero_terminal_snr=zero).signal_squared()
    assert ours.dtype == torch.float64
    # what remains of a difference at the end of the stretched schedule is rounding of theirs
    torch.testing.assert_close(theirs.double()[:-5], ours[:-5], rtol=1e-4, atol=1e-9)
    assert float((theirs.double() - ours).abs().max()) < 1e-6


def test_linear_schedule_is_the_product_of_one_minus_beta() -> None:
    found = NoiseProcess(num_timesteps=10, beta_start=0.1, beta_end=0.3).signal_squared()
    product = 1.0
    for i in range(10):
        product *= 1 - (0.1 + 0.2 * i / 9)
        assert float(found[i]) == pytest.approx(product, rel=1e-12)


def test_cosine_schedule_is_the_squared_cosine_until_it_is_cut() -> None:
    found, zero = NoiseProcess(schedule="cosine").signal_squared(), math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    for i in (0, 10, 500, 900):
        wanted = math.cos(((i + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / zero
        assert float(found[i]) == pytest.approx(wanted, rel=1e-9)


def test_rectified_levels_are_straight_lines() -> None:
    a, s = NoiseProcess(schedule="rectified", prediction="velocity").levels(torch.tensor([0.0, 250.0, 1000.0]))
    assert a.tolist() == [1.0, 0.75, 0.0]
    assert s.tolist() == [0.0, 0.25, 1.0]


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "velocity"])
def test_a_true_prediction_gives_back_picture_and_noise(kind: Prediction) -> None:
    process = NoiseProcess(schedule="rectified" if kind == "velocity" else "cosine", prediction=kind)
    clean, noise = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    times = torch.tensor([3.0, 500.0, 900.0])
    x, said = process.add_noise(clean, noise, times), process.target(clean, noise, times)
    for i, time in enumerate(times):
        a, s = (float(level) for level in process.levels(time))
        found = clean_and_noise(said[i], x[i], a, s, kind)
        torch.testing.assert_close(found[0], clean[i], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found[1], noise[i], rtol=1e-9, atol=1e-9)


def test_noisy_pictures_keep_unit_variance_except_on_straight_lines() -> None:
    for schedule in ("linear", "scaled_linear", "cosine"):
        a, s = NoiseProcess(schedule=schedule).levels(torch.arange(1000))  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(a.square() + s.square(), torch.ones(1000, dtype=torch.float64))


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="velocity"):
        NoiseProcess(schedule="rectified")
    with pytest.raises(ConfigError, match="velocity"):
        NoiseProcess(prediction="velocity")
    with pytest.raises(ConfigError, match="beta_end"):
        NoiseProcess(beta_start=0.1, beta_end=0.05)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
def test_a_process_out_of_a_recipe_has_its_table(schedule: str) -> None:
    """Configurations are read from source, without what their module imports."""
    tree = {"name": "denoising", "process": {"schedule": schedule}}
    process = parse_component("objective", tree, "objective").config.process
    table = process.signal_squared()
    assert table.dtype == torch.float64
    assert bool((table.diff() < 0).all())
