"""Every walk, step by step, against the scheduler of diffusers: float32 1e-5, and float64 1e-9 where theirs computes in
it. In float64 their tables, which are float32, are replaced by the same formulas in float64.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.ops.noise_schedules import NoiseProcess
from layerwise.ops.samplers import Sampler, SamplerConfig, make_sampler, spaced_times, walk

# diffusers hands torch's tensors to numpy in a way that numpy warns of
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
CLASSES = {
    "ddpm": "DDPMScheduler", "ddim": "DDIMScheduler", "plms": "PNDMScheduler", "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler", "heun": "HeunDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
}  # fmt: skip
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


@pytest.fixture(scope="session")
def diffusers(torchvision: ModuleType) -> ModuleType:
    """The library of reference schedulers; skips where it is not installed."""
    return pytest.importorskip("diffusers")


def betas_in_float64(schedule: str, count: int = 1000) -> Tensor:
    if schedule == "linear":
        return torch.linspace(BETAS["beta_start"], BETAS["beta_end"], count, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(BETAS["beta_start"] ** 0.5, BETAS["beta_end"] ** 0.5, count, dtype=torch.float64) ** 2
    bar = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    betas = [min(1 - after / now, 0.999) for now, after in itertools.pairwise(bar)]
    return torch.tensor(betas, dtype=torch.float64)


def make_theirs(diffusers: ModuleType, name: str, process: NoiseProcess, config: SamplerConfig) -> Any:
    options: dict[str, Any] = {
        **BETAS,
        "beta_schedule": {"cosine": "squaredcos_cap_v2"}.get(process.schedule, process.schedule),
        "prediction_type": PREDICTIONS[process.prediction],
        "timestep_spacing": config.spacing,
        "steps_offset": config.steps_offset,
    }
    if name in ("ddpm", "ddim"):
        options |= {"clip_sample": config.clip is not None, "clip_sample_range": config.clip or 1.0}
    if name == "heun":
        options |= {"clip_sample": config.clip is not None, "clip_sample_range": config.clip or 1.0}
    if name in ("ddim", "plms"):
        options["set_alpha_to_one"] = config.final_signal == "one"
    if name == "plms":
        options["skip_prk_steps"] = True
    if name == "ddpm":
        options["variance_type"] = f"fixed_{config.variance}"
    if name.endswith("_karras"):
        options["use_karras_sigmas"] = True
    return getattr(diffusers, CLASSES[name.removesuffix("_karras")])(**options)


def in_float64(scheduler: Any, name: str, process: NoiseProcess, config: SamplerConfig) -> None:
    """Replace their float32 tables."""
    squared = (1 - betas_in_float64(process.schedule)).cumprod(0)
    scheduler.alphas_cumprod = squared
    if hasattr(scheduler, "final_alpha_cumprod"):
        one = torch.tensor(1.0, dtype=torch.float64)
        scheduler.final_alpha_cumprod = one if config.final_signal == "one" else squared[0]
    if name in ("euler", "heun"):
        times = scheduler.timesteps.double().numpy()
        table = ((1 - squared) / squared).sqrt().numpy()
        sigmas = np.interp(times, np.arange(1000), table)
        scheduler.sigmas = torch.cat([torch.from_numpy(sigmas), torch.zeros(1, dtype=torch.float64)])


def compare(
    ours: Sampler, theirs: Any, dtype: torch.dtype, step: Callable[..., Tensor], scales: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of equal tensors: what the network reads and where each step leads, both from the same point."""
    generator = torch.Generator().manual_seed(0)
    x = theirs.init_noise_sigma * torch.randn(2, 3, 4, 4, generator=generator, dtype=dtype)
    yield ours.start(x / theirs.init_noise_sigma), x
    # what theirs draws, drawn once more for ours
    twins = [torch.Generator().manual_seed(7) for _ in range(2)]
    for i, time in enumerate(theirs.timesteps):
        scaled = theirs.scale_model_input(x, time)
        yield ours.scale(x, i), scaled
        said = torch.randn(x.shape, generator=generator, dtype=dtype) * 0.3 + torch.tanh(scaled)
        wanted = step(said, time, x, twins[0])
        yield (
            ours.step(said, x, i, lambda _, like=x: torch.randn(like.shape, generator=twins[1], dtype=like.dtype)),
            wanted,
        )
        x = wanted


def assert_equal_steps(pairs: Iterator[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
    for got, wanted in pairs:
        assert got.dtype == dtype
        assert float((got - wanted).norm() / wanted.norm()) <= TOLERANCE[dtype]


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ddpm": ({}, {"name": "ddpm", "steps": 20}),
    "ddpm-large-clipped-v": ({"prediction": "v"}, {"name": "ddpm", "steps": 7, "variance": "large", "clip": 1.0}),
    "ddpm-x0-trailing": (
        {"prediction": "x0", "schedule": "cosine"}, {"name": "ddpm", "steps": 9, "spacing": "trailing"}
    ),
    "ddim": ({"schedule": "scaled_linear"}, {"name": "ddim", "steps": 20, "steps_offset": 1, "final_signal": "first"}),
    "ddim-clipped": ({}, {"name": "ddim", "steps": 10, "clip": 1.5}),
    "ddim-eta": ({}, {"name": "ddim", "steps": 12, "eta": 1.0, "spacing": "linspace"}),
    "ddim-v-trailing": ({"prediction": "v", "schedule": "cosine"}, {"name": "ddim", "steps": 7, "spacing": "trailing"}),
    "ddim-x0": ({"prediction": "x0"}, {"name": "ddim", "steps": 13, "eta": 0.5}),
    "plms": ({"schedule": "scaled_linear"}, {"name": "plms", "steps": 12, "steps_offset": 1, "final_signal": "first"}),
    "plms-v": ({"prediction": "v"}, {"name": "plms", "steps": 7, "spacing": "trailing"}),
    "plms-one-step": ({}, {"name": "plms", "steps": 1, "spacing": "leading"}),
    "euler": ({"schedule": "scaled_linear"}, {"name": "euler", "steps": 20, "steps_offset": 1}),
    "euler-linspace-v": ({"prediction": "v"}, {"name": "euler", "steps": 7, "spacing": "linspace"}),
    "euler-x0-trailing": ({"prediction": "x0"}, {"name": "euler", "steps": 9, "spacing": "trailing"}),
    "heun": ({}, {"name": "heun", "steps": 10}),
    "heun-v-linspace-clipped": (
        {"prediction": "v", "schedule": "scaled_linear"},
        {"name": "heun", "steps": 7, "spacing": "linspace", "clip": 2.0},
    ),
    "heun-x0": ({"prediction": "x0"}, {"name": "heun", "steps": 6, "spacing": "trailing"}),
    "dpm++2m": ({"schedule": "scaled_linear"}, {"name": "dpm++2m", "steps": 20, "spacing": "linspace"}),
    "dpm++2m-v-leading": ({"prediction": "v"}, {"name": "dpm++2m", "steps": 9, "steps_offset": 1}),
    "dpm++2m-x0-trailing": ({"prediction": "x0"}, {"name": "dpm++2m", "steps": 6, "spacing": "trailing"}),
    "euler_a": ({"schedule": "scaled_linear"}, {"name": "euler_a", "steps": 11, "steps_offset": 1}),
    "euler_a-v-linspace": ({"prediction": "v"}, {"name": "euler_a", "steps": 6, "spacing": "linspace"}),
    "euler-karras": ({"schedule": "scaled_linear"}, {"name": "euler_karras", "steps": 12, "spacing": "linspace"}),
    "euler-karras-v-leading": ({"prediction": "v"}, {"name": "euler_karras", "steps": 7, "steps_offset": 1}),
    "heun-karras-x0": ({"prediction": "x0"}, {"name": "heun_karras", "steps": 8, "spacing": "trailing"}),
    "dpm++2m-karras": ({"schedule": "scaled_linear"}, {"name": "dpm++2m_karras", "steps": 15, "spacing": "linspace"}),
    "dpm++2m-karras-v": ({"prediction": "v"}, {"name": "dpm++2m_karras", "steps": 9, "spacing": "linspace"}),
}  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_diffusers(case: str, dtype: torch.dtype, diffusers: ModuleType) -> None:
    options, chosen = CASES[case]
    process, config = NoiseProcess(**BETAS, **options), SamplerConfig(**chosen)
    if config.name not in ("ddpm", "ddim", "plms", "heun") and dtype == torch.float64:
        pytest.skip("theirs computes in float32 whatever it is given; the papers' formulas are tested below")
    theirs = make_theirs(diffusers, config.name, process, config)
    theirs.set_timesteps(config.steps)
    if dtype == torch.float64:
        in_float64(theirs, config.name, process, config)
    ours = make_sampler(process, config)
    # Times of Karras' levels are interpolated in a table that is float32 there.
    near = 2e-3 if config.name.endswith("_karras") else 1e-4
    assert ours.timesteps == pytest.approx(theirs.timesteps.tolist(), abs=near)

    def step(said: Tensor, time: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        extra: dict[str, Any] = {"generator": generator} if config.name in ("ddpm", "ddim", "euler_a") else {}
        if config.name == "ddim":
            extra["eta"] = config.eta
        return theirs.step(said, time, x, **extra).prev_sample

    assert_equal_steps(compare(ours, theirs, dtype, step), dtype)


@pytest.mark.parametrize(("shift", "steps"), [(1.0, 10), (3.0, 7)])
def test_steps_of_flow_matching_are_those_of_diffusers(shift: float, steps: int, diffusers: ModuleType) -> None:
    theirs: Any = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(steps)
    process = NoiseProcess(schedule="rectified", prediction="velocity")
    ours = make_sampler(process, SamplerConfig(name="flow_euler", steps=steps, spacing="linspace", shift=shift))
    assert ours.timesteps == pytest.approx(theirs.timesteps.tolist(), rel=1e-5)
    x = torch.randn(2, 3, 4, 4)
    for i, time in enumerate(theirs.timesteps):
        said = torch.randn(x.shape)
        wanted = theirs.step(said, time, x).prev_sample
        torch.testing.assert_close(ours.step(said, x, i, torch.zeros), wanted, rtol=1e-5, atol=1e-6)  # pyright: ignore
        x = wanted


def test_euler_and_dpm_solver_take_the_steps_of_the_papers_in_float64() -> None:
    """Karras et al. 2022, algorithm 1 without fresh noise; Lu et al. 2022, algorithm 2: with lambda = log(a / s),
    h_i = lambda_i - lambda_(i-1) and r_i = h_(i-1) / h_i, D_i = (1 + 1 / (2 r_i)) x_0 - 1 / (2 r_i) last x_0, and
    x_i = s_i / s_(i-1) x - a_i (exp(-h_i) - 1) D_i; the last step ends at s = 0.
    """
    process = NoiseProcess(**BETAS, schedule="scaled_linear")
    squared = (1 - betas_in_float64("scaled_linear")).cumprod(0)
    answers = [torch.randn(1, 2, 3, 3, dtype=torch.float64) for _ in range(6)]
    start = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    for name in ("euler", "dpm++2m"):
        sampler = make_sampler(process, SamplerConfig(name=name, steps=6, spacing="trailing"))  # pyright: ignore
        times = [int(time) for time in sampler.timesteps]
        a = [float(squared[t]) ** 0.5 for t in times] + [1.0]
        s = [(1 - float(squared[t])) ** 0.5 for t in times] + [0.0]
        x, wanted, last = start, start, start
        for i, said in enumerate(answers):
            x = sampler.step(said, x, i, torch.zeros)  # pyright: ignore[reportArgumentType]
            if name == "euler":
                wanted = wanted + (s[i + 1] / a[i + 1] - s[i] / a[i]) * said
            else:
                clean = (wanted - s[i] * said) / a[i]
                combined = clean
                if 0 < i < 5:
                    lam = [math.log(a[k] / s[k]) for k in (i - 1, i, i + 1)]
                    ratio = (lam[1] - lam[0]) / (lam[2] - lam[1])
                    combined = (1 + 1 / (2 * ratio)) * clean - last / (2 * ratio)
                decay = s[i + 1] / a[i + 1] * a[i] / s[i]  # exp(-h)
                wanted, last = s[i + 1] / s[i] * wanted - a[i + 1] * (decay - 1) * combined, clean
            assert float((x - wanted).norm() / wanted.norm()) <= 1e-9


def gaussian_score(process: NoiseProcess, variance: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The best prediction of noise for pictures from N(0, variance): E[e | x] = s x / (a^2 variance + s^2)."""

    def predict(x: Tensor, times: Tensor) -> Tensor:
        a, s = process.levels(times)
        return (s / (a.square() * variance + s.square())).view(-1, 1, 1, 1) * x

    return predict


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"),
    [("ddim", 200, 0.02), ("euler", 200, 0.02), ("heun", 40, 0.01), ("dpm++2m", 40, 0.01), ("plms", 50, 0.02)],
)
def test_walks_end_at_the_solution_of_the_differential_equation(name: Any, steps: int, tolerance: float) -> None:
    """For pictures from N(0, v) the way back is known: the answer is sqrt(v) times the noise it began with."""
    process, variance = NoiseProcess(), 0.25
    sampler = make_sampler(process, SamplerConfig(name=name, steps=steps, spacing="linspace"))
    noise = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    found = walk(gaussian_score(process, variance), sampler, sampler.start(noise), torch.zeros)  # pyright: ignore
    torch.testing.assert_close(found, variance**0.5 * noise, rtol=tolerance, atol=tolerance)


def test_flow_matching_ends_at_the_solution_of_the_differential_equation() -> None:
    process, variance = NoiseProcess(schedule="rectified", prediction="velocity"), 0.25

    def predict(x: Tensor, times: Tensor) -> Tensor:
        t = (times / 1000).view(-1, 1, 1, 1).double()
        return (t - (1 - t) * variance) / (t.square() + (1 - t).square() * variance) * x  # E[e - x_0 | x]

    sampler = make_sampler(process, SamplerConfig(name="flow_euler", steps=400, spacing="trailing"))
    noise = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    found = walk(predict, sampler, sampler.start(noise), torch.zeros)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(found, variance**0.5 * noise, rtol=0.01, atol=0.01)


def test_ancestral_walks_have_the_variance_of_the_pictures() -> None:
    process, variance = NoiseProcess(), 0.25
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 100, 100, generator=generator, dtype=torch.float64)
    for config in (SamplerConfig(name="ddpm", steps=500), SamplerConfig(name="ddim", steps=500, eta=1.0)):
        sampler = make_sampler(process, config)
        fresh = lambda _: torch.randn(noise.shape, generator=generator, dtype=torch.float64)  # noqa: E731
        found = walk(gaussian_score(process, variance), sampler, sampler.start(noise), fresh)
        assert float(found.var()) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "euler", "heun", "dpm++2m", "plms", "flow_euler"])
def test_a_walk_from_the_middle_has_the_steps_that_are_left(name: Any) -> None:
    rectified = name == "flow_euler"
    process = NoiseProcess(schedule="rectified", prediction="velocity") if rectified else NoiseProcess()
    config = SamplerConfig(name=name, steps=10, spacing="trailing")
    whole, part = make_sampler(process, config), make_sampler(process, config, skip=6)
    assert set(part.indices) == {6, 7, 8, 9}
    assert sorted(set(part.timesteps)) == sorted(set(whole.timesteps))[:4]
    clean, noise = torch.randn(1, 1, 2, 2), torch.randn(1, 1, 2, 2)
    at = whole.timesteps.index(part.timesteps[0])
    torch.testing.assert_close(part.noised(clean, noise, 0), whole.noised(clean, noise, at))
    torch.testing.assert_close(part.noised(clean, noise, len(part.timesteps)), clean)


def test_a_learned_variance_is_left_out() -> None:
    sampler = make_sampler(NoiseProcess(), SamplerConfig(steps=2))
    x = torch.randn(1, 3, 2, 2)
    twice = walk(lambda y, _: torch.cat([y, torch.full_like(y, math.nan)], 1), sampler, x, torch.zeros)  # pyright: ignore
    once = walk(lambda y, _: y, make_sampler(NoiseProcess(), SamplerConfig(steps=2)), x, torch.zeros)  # pyright: ignore
    assert torch.equal(twice, once)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most the 1000 times"):
        spaced_times("leading", 1001, 1000)
    with pytest.raises(ConfigError, match="steps_offset=20"):
        spaced_times("leading", 100, 1000, 20)
    with pytest.raises(ConfigError, match="skip=50"):
        make_sampler(NoiseProcess(), SamplerConfig(), skip=50)
    with pytest.raises(ConfigError, match="flow_euler is"):
        make_sampler(NoiseProcess(schedule="rectified", prediction="velocity"), SamplerConfig())
    with pytest.raises(ConfigError, match="schedule=rectified"):
        make_sampler(NoiseProcess(), SamplerConfig(name="flow_euler"))
    with pytest.raises(ConfigError, match="x0"):
        make_sampler(NoiseProcess(prediction="x0"), SamplerConfig(name="plms"))
