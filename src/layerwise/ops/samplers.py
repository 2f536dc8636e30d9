"""Ways back from noise to pictures, each a walk over the times of a trained noise process.

DDPM: Ho et al. 2020 (arXiv:2006.11239), algorithm 2. DDIM: Song, Meng, Ermon 2021 (arXiv:2010.02502), equation 12.
Euler and Heun: Karras et al. 2022 (arXiv:2206.00364), algorithm 1, and equation 5 for the noise levels of "_karras".
Euler with fresh noise ("euler_a", ancestral): Song et al. 2021 (arXiv:2011.13456), appendix F, as Katherine Crowson's
k-diffusion has it. DPM-Solver++(2M): Lu et al. 2022
(arXiv:2211.01095), algorithm 2. PLMS: Liu et al. 2022 (arXiv:2202.09778), with the warm-up of latent diffusion's
reference code. Flow matching: Lipman et al. 2022 (arXiv:2210.02747). Spacing of times: Lin et al. 2023
(arXiv:2305.08891), table 2.

Each gives the steps of the scheduler of the same name in diffusers. Coefficients are numbers, computed in float64.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from layerwise.core.config import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.ops.noise_schedules import NoiseProcess, clean_and_noise

T = TypeVar("T")
SamplerName = Literal[
    "ddpm", "ddim", "plms", "euler", "euler_a", "heun", "dpm++2m", "euler_karras", "heun_karras", "dpm++2m_karras",
    "flow_euler",
]  # fmt: skip
Noise = Callable[[int], Tensor]  # number of a step -> standard normal noise of the sample's shape


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How to come from noise to a picture.

    Args:
        name: the walk; "flow_euler" belongs to the rectified schedule and is its only one. Those of "_karras" have more
            of their steps at little noise.
        steps: of the walk; "heun" asks the network twice a step.
        eta: fresh noise of "ddim", 0 is none, 1 is as much as "ddpm" has.
        spacing: which of the trained times are visited.
        steps_offset: added to the times of "leading".
        final_signal: "one" ends "ddim" and "plms" without noise, "first" at the noise of the first trained time.
        clip: estimates of the picture are kept within this range ("ddpm", "ddim", "heun"); None leaves them.
        variance: of "ddpm": that of the posterior for one picture ("small") or for normal data ("large").
        shift: of "flow_euler": above one, more of the steps are at high noise.
    """

    name: SamplerName = "ddim"
    steps: PositiveInt = 50
    eta: NonNegativeFloat = 0.0
    spacing: Literal["leading", "linspace", "trailing"] = "leading"
    steps_offset: NonNegativeInt = 0
    final_signal: Literal["one", "first"] = "one"
    clip: PositiveFloat | None = None
    variance: Literal["small", "large"] = "small"
    shift: PositiveFloat = 1.0


class Sampler(ABC):
    """One walk. `timesteps` are the times at which the network is asked, in order.

    Args:
        process: that the network was trained on.
        config: of the walk.
        skip: so many of the first steps are left out, to start from a picture.
    """

    timesteps: list[float]
    indices: list[int]  # number of the step, in the whole walk, that each question belongs to

    def __init__(self, process: NoiseProcess, config: SamplerConfig, skip: int = 0) -> None:
        self.process, self.config = process, config
        if not 0 <= skip < config.steps:
            raise ConfigError(f"skip={skip}: must be below steps={config.steps}.")

    def start(self, noise: Tensor) -> Tensor:
        """What the walk begins with, made of standard normal noise."""
        return noise

    def noised(self, clean: Tensor, noise: Tensor, i: int) -> Tensor:
        """A picture with as much noise as the walk has before question i; after the last one, none."""
        if i >= len(self.timesteps):
            return clean
        a, s = self._levels(self.timesteps[i])
        return a * clean + s * noise

    def scale(self, x: Tensor, i: int) -> Tensor:
        """What the network reads at question i."""
        return x

    @abstractmethod
    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        """The next point of the walk, from the answer to question i."""

    def _levels(self, time: float) -> tuple[float, float]:
        a, s = self.process.levels(torch.tensor(time))
        return float(a), float(s)

    def _clipped(self, clean: Tensor) -> Tensor:
        limit = self.config.clip
        return clean if limit is None else clean.clamp(-limit, limit)


def spaced_times(spacing: str, steps: int, trained: int, offset: int = 0, *, whole: bool = True) -> list[float]:
    """The times a walk visits, falling.

    Args:
        spacing: "linspace" spreads them from first to last, "leading" and "trailing" leave out the last and the first.
        steps: how many.
        trained: times of training.
        offset: added to those of "leading".
        whole: those of "linspace" are rounded.

    Raises:
        ConfigError: more steps than times, or times beyond the last.
    """
    if steps > trained:
        raise ConfigError(f"steps={steps}: must be at most the {trained} times that the network was trained on.")
    if spacing == "linspace":
        times = np.linspace(0, trained - 1, steps)[::-1]
        times = times.round() if whole else times
    elif spacing == "leading":
        times = (np.arange(steps) * (trained // steps))[::-1] + offset
    else:
        times = np.arange(trained, 0, -trained / steps).round()[:steps] - 1
    if times[0] > trained - 1:
        raise ConfigError(f"steps_offset={offset}: time {times[0]:g} is beyond the last one trained, {trained - 1}.")
    return [float(time) for time in times]


class _TableWalk(Sampler):
    """Walks over whole times of a table of noise levels."""

    def __init__(self, process: NoiseProcess, config: SamplerConfig, skip: int = 0) -> None:
        super().__init__(process, config, skip)
        self.stride = process.num_timesteps // config.steps
        times = spaced_times(config.spacing, config.steps, process.num_timesteps, config.steps_offset)
        self.timesteps, self.indices = times[skip:], list(range(skip, config.steps))
        self.squared: list[float] = process.signal_squared().tolist()
        self.final = 1.0 if config.final_signal == "one" else self.squared[0]

    def _squared_at(self, time: float) -> float:
        return self.squared[int(time)] if time >= 0 else self.final

    def _split(self, prediction: Tensor, x: Tensor, time: float) -> tuple[Tensor, Tensor]:
        squared = self._squared_at(time)
        a, s = math.sqrt(squared), math.sqrt(1 - squared)
        return clean_and_noise(prediction, x, a, s, self.process.prediction)


class DDPM(_TableWalk):
    """x' ~ N(mean of the posterior of the estimated picture, its variance)."""

    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        time = self.timesteps[i]
        now = self._squared_at(time)
        then = self._squared_at(self.timesteps[i + 1]) if i + 1 < len(self.timesteps) else 1.0
        beta = 1 - now / then
        clean = self._clipped(self._split(prediction, x, time)[0])
        mean = (math.sqrt(then) * beta / (1 - now)) * clean + (math.sqrt(now / then) * (1 - then) / (1 - now)) * x
        if time <= 0:
            return mean
        variance = beta if self.config.variance == "large" else max((1 - then) / (1 - now) * beta, 1e-20)
        return mean + math.sqrt(variance) * noise(self.indices[i])


class DDIM(_TableWalk):
    """x' = a' x_0 + sqrt(s'^2 - g^2) e + g fresh noise, with the estimates x_0 and e."""

    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        time = self.timesteps[i]
        now, then = self._squared_at(time), self._squared_at(time - self.stride)
        clean, rest = self._split(prediction, x, time)
        variance = self.config.eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        moved = math.sqrt(then) * self._clipped(clean) + math.sqrt(max(1 - then - variance, 0.0)) * rest
        return moved if self.config.eta == 0 else moved + math.sqrt(variance) * noise(self.indices[i])


class PLMS(_TableWalk):
    """DDIM's step along a mean of the last four answers (Adams and Bashforth); the second time is visited twice."""

    def __init__(self, process: NoiseProcess, config: SamplerConfig, skip: int = 0) -> None:
        super().__init__(process, config, skip)
        if process.prediction == "x0":
            raise ConfigError("sampler plms: a network that predicts x0 needs another one (ddim, euler, dpm++2m).")
        times = self.timesteps
        self.timesteps = [*times[:2], *times[1:]]
        self.indices = [*self.indices[:2], *self.indices[1:]]
        self._answers: list[Tensor] = []
        self._first: Tensor | None = None

    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        time, then = self.timesteps[i], self.timesteps[i] - self.stride
        answers = self._answers
        if i == 1:  # once more the first step, with the mean of its answer and the one at its end
            assert self._first is not None
            time, then, x = time + self.stride, time, self._first
            mixed = (prediction + answers[-1]) / 2
        else:
            answers.append(prediction)
            del answers[:-4]
            mixed = _adams_bashforth(answers)
            self._first = x if i == 0 else None
        now, after = self._squared_at(time), self._squared_at(then)
        if self.process.prediction == "v":
            mixed = math.sqrt(now) * mixed + math.sqrt(1 - now) * x
        rate = (after - now) / (now * math.sqrt(1 - after) + math.sqrt(now * (1 - now) * after))
        return math.sqrt(after / now) * x - rate * mixed


def _adams_bashforth(answers: list[Tensor]) -> Tensor:
    """The weighted mean of one to four answers, newest last."""
    weights = {1: (1.0,), 2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}
    newest_first = answers[::-1]
    mixed = weights[len(answers)][0] * newest_first[0]
    for weight, answer in zip(weights[len(answers)][1:], newest_first[1:], strict=True):
        mixed = mixed + weight * answer
    return mixed


class _SigmaWalk(Sampler):
    """Walks in x = x_0 + sigma e, sigma = s / a, down to sigma = 0."""

    def __init__(self, process: NoiseProcess, config: SamplerConfig, skip: int = 0) -> None:
        super().__init__(process, config, skip)
        trained, steps, offset = process.num_timesteps, config.steps, config.steps_offset
        times = spaced_times(config.spacing, steps, trained, offset, whole=False)
        squared = process.signal_squared()
        table = ((1 - squared) / squared).sqrt().numpy()
        sigmas = [float(sigma) for sigma in np.interp(times, np.arange(trained), table)]
        if self.karras:
            sigmas = _karras_levels(sigmas[0], sigmas[-1], steps)
            times = [_time_of(sigma, table) for sigma in sigmas]
        self.largest = sigmas[0]
        self.sigmas, self.timesteps = [*sigmas[skip:], 0.0], times[skip:]
        self.indices = list(range(skip, steps))

    def start(self, noise: Tensor) -> Tensor:
        """Spacings that begin at the last time begin with its sigma; "leading" with the signal's variance besides."""
        return noise * (math.hypot(self.largest, 1.0) if self.config.spacing == "leading" else self.largest)

    def noised(self, clean: Tensor, noise: Tensor, i: int) -> Tensor:
        return clean + self.sigmas[i] * noise

    def scale(self, x: Tensor, i: int) -> Tensor:
        return x / math.hypot(self.sigmas[i], 1.0)

    def _clean(self, prediction: Tensor, x: Tensor, sigma: float) -> Tensor:
        a = 1 / math.hypot(sigma, 1.0)
        return clean_and_noise(prediction, a * x, a, sigma * a, self.process.prediction)[0]

    @property
    def karras(self) -> bool:
        """Whether the noise levels are spaced by equation 5 of Karras et al. (2022)."""
        return self.config.name.endswith("_karras")


def _karras_levels(largest: float, smallest: float, steps: int) -> list[float]:
    """`(largest^(1/7) + i / (steps - 1) (smallest^(1/7) - largest^(1/7)))^7`, equation 5."""
    roots = np.linspace(largest ** (1 / 7), smallest ** (1 / 7), steps)
    return [float(root) ** 7 for root in roots]


def _time_of(sigma: float, table: np.ndarray) -> float:
    """The time of a noise level, between those of the table: linear in the logarithm."""
    return float(np.interp(math.log(sigma), np.log(table), np.arange(len(table))))


class Euler(_SigmaWalk):
    """x' = x + (sigma' - sigma) (x - x_0) / sigma."""

    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        sigma, after = self.sigmas[i], self.sigmas[i + 1]
        return x + ((after - sigma) / sigma) * (x - self._clean(prediction, x, sigma))


class EulerAncestral(_SigmaWalk):
    """Euler's step to less noise than the next level has, and as much fresh noise as is lacking there."""

    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        sigma, after = self.sigmas[i], self.sigmas[i + 1]
        fresh = after * math.sqrt(max(1 - (after / sigma) ** 2, 0.0))
        down = math.sqrt(after**2 - fresh**2)
        moved = x + ((down - sigma) / sigma) * (x - self._clean(prediction, x, sigma))
        return moved if fresh == 0 else moved + fresh * noise(self.indices[i])


class Heun(_SigmaWalk):
    """Euler's step, then the same step along the mean of the slopes at its ends; the last step is Euler's."""

    def __init__(self, process: NoiseProcess, config: SamplerConfig, skip: int = 0) -> None:
        super().__init__(process, config, skip)
        self.timesteps = _doubled(self.timesteps)
        self.indices = _doubled(self.indices)
        self.sigmas = [*_doubled(self.sigmas[:-1]), 0.0]
        self._before: tuple[Tensor, Tensor] | None = None

    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        sigma = self.sigmas[i]
        slope = (x - self._clipped(self._clean(prediction, x, sigma))) / sigma
        if i % 2 == 0:
            self._before = (x, slope)
            return x + (self.sigmas[i + 1] - sigma) * slope
        assert self._before is not None
        origin, first = self._before
        return origin + (sigma - self.sigmas[i - 1]) * (first + slope) / 2


def _doubled(values: list[T]) -> list[T]:
    """The first once, the others twice."""
    return [*values[:1], *(value for value in values[1:] for _ in range(2))]


class DPMSolver2M(_SigmaWalk):
    """DPM-Solver++(2M): an exponential integrator that extrapolates the estimate of the picture from its last two."""

    def __init__(self, process: NoiseProcess, config: SamplerConfig, skip: int = 0) -> None:
        Sampler.__init__(self, process, config, skip)
        trained, steps = process.num_timesteps, config.steps
        if config.spacing == "trailing":
            times = spaced_times("trailing", steps, trained)
        else:
            times = spaced_times(config.spacing, steps + 1, trained)[:-1]
            times = [time + config.steps_offset * (config.spacing == "leading") for time in times]
        squared = process.signal_squared()
        table = ((1 - squared) / squared).sqrt().numpy()
        sigmas = [float(table[int(time)]) for time in times]
        if self.karras:
            sigmas = _karras_levels(float(table[-1]), float(table[0]), steps)
            times = [float(round(_time_of(sigma, table))) for sigma in sigmas]
        self.timesteps, self.indices = times[skip:], list(range(skip, steps))
        self.sigmas = [*sigmas[skip:], 0.0]
        self._last: Tensor | None = None

    def start(self, noise: Tensor) -> Tensor:
        return noise

    def noised(self, clean: Tensor, noise: Tensor, i: int) -> Tensor:
        a = 1 / math.hypot(self.sigmas[i], 1.0)
        return a * clean + (a * self.sigmas[i]) * noise

    def scale(self, x: Tensor, i: int) -> Tensor:
        return x

    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        sigma, after = self.sigmas[i], self.sigmas[i + 1]
        a, b = (1 / math.hypot(value, 1.0) for value in (sigma, after))
        clean = clean_and_noise(prediction, x, a, sigma * a, self.process.prediction)[0]
        estimate = clean
        if self._last is not None and after > 0:  # in between: half the change of the estimate a unit of log-SNR
            ratio = math.log(self.sigmas[i - 1] / sigma) / math.log(sigma / after)
            estimate = clean + (clean - self._last) * (0.5 / ratio)
        self._last = clean
        # sigma b over sigma a, and 1 - exp(-h) with exp(-h) = after / sigma
        return (after * b / (sigma * a)) * x + (b * (1 - after / sigma)) * estimate


class FlowEuler(Sampler):
    """x' = x + (s' - s) v along straight lines."""

    def __init__(self, process: NoiseProcess, config: SamplerConfig, skip: int = 0) -> None:
        super().__init__(process, config, skip)
        if process.schedule != "rectified":
            raise ConfigError(f"sampler flow_euler is for schedule=rectified, not {process.schedule}.")
        if config.spacing == "leading":
            raise ConfigError(
                "sampler flow_euler: spacing=leading would leave out pure noise. trailing and linspace do not."
            )
        least = _shifted(1 / process.num_timesteps, config.shift)
        if config.spacing == "linspace":
            levels = np.linspace(1.0, least, config.steps).tolist()
        else:
            levels = [1 - i / config.steps for i in range(config.steps)]
        levels = [_shifted(level, config.shift) for level in levels][skip:]
        self.noise_levels = [*levels, 0.0]
        self.timesteps = [level * process.num_timesteps for level in levels]
        self.indices = list(range(skip, config.steps))

    def step(self, prediction: Tensor, x: Tensor, i: int, noise: Noise) -> Tensor:
        return x + (self.noise_levels[i + 1] - self.noise_levels[i]) * prediction


def _shifted(level: float, shift: float) -> float:
    return shift * level / (1 + (shift - 1) * level)


_WALKS: dict[SamplerName, type[Sampler]] = {
    "ddpm": DDPM, "ddim": DDIM, "plms": PLMS, "euler": Euler, "euler_a": EulerAncestral, "heun": Heun,
    "dpm++2m": DPMSolver2M, "euler_karras": Euler, "heun_karras": Heun, "dpm++2m_karras": DPMSolver2M,
    "flow_euler": FlowEuler,
}  # fmt: skip


def make_sampler(process: NoiseProcess, config: SamplerConfig, skip: int = 0) -> Sampler:
    """The walk of that name; it is used once.

    Raises:
        ConfigError: it does not go with the process.
    """
    if process.schedule == "rectified" and config.name != "flow_euler":
        raise ConfigError(f"sampler {config.name} is not for schedule=rectified; flow_euler is.")
    return _WALKS[config.name](process, config, skip)


def walk(
    predict: Callable[[Tensor, Tensor], Tensor],
    sampler: Sampler,
    x: Tensor,
    noise: Noise,
    after: Callable[[Tensor, int], Tensor] | None = None,
) -> Tensor:
    """Go from a starting point to a picture.

    Args:
        predict: (noisy pictures [B, ...], times [B]) -> prediction; more channels than the pictures have are a learned
            variance and left out.
        sampler: a fresh one.
        x: where to start, `sampler.start(noise)` or `sampler.noised(...)`.
        noise: fresh noise of each step, for walks that use any.
        after: changes a point (point, number of the question that it answers + 1), to keep parts of a picture as they
            are, or to look on.
    """
    for i, time in enumerate(sampler.timesteps):
        times = torch.full((len(x),), time, dtype=torch.float32, device=x.device)
        prediction = predict(sampler.scale(x, i), times)[:, : x.shape[1]].to(x.dtype)
        x = sampler.step(prediction, x, i, noise)
        if after is not None:
            x = after(x, i + 1)
    return x
