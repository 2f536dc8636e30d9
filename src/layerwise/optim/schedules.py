"""Learning-rate schedules: pure functions of the step, as factors of the optimiser's learning rate.

Step, cosine (Loshchilov, Hutter, "SGDR", 2017, https://arxiv.org/abs/1608.03983), one-cycle (Smith, Topin,
"Super-Convergence", 2017, https://arxiv.org/abs/1708.07120), warm-up-stable-decay (Hu et al., "MiniCPM", 2024,
https://arxiv.org/abs/2404.06395; shape "sqrt": Hagele et al., 2024, https://arxiv.org/abs/2405.18392), inverse root
(Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, equation 3).

Steps count from 0. With w steps of warm-up, step t < w has the factor (t + 1) / w and step w is the first of the
schedule proper. A schedule that ends at the fraction `final` would reach it at step `total_steps`, one past the last,
as torch's do.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from layerwise.core.config import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, Range
from layerwise.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ConstantConfig:
    """The same rate throughout, after warm-up.

    Args:
        warmup_steps, warmup_epochs, warmup_share: length of the rise from zero, in steps, epochs, or as a share of all
            steps; at most one.
    """

    warmup_steps: NonNegativeInt = 0
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_share: Fraction = 0.0

    def __post_init__(self) -> None:
        self.check_one_length("warmup")

    def check_one_length(self, what: str) -> None:
        """Raise ConfigError if a length is given in more than one unit."""
        given = [f"{what}_{unit}" for unit in ("steps", "epochs", "share") if getattr(self, f"{what}_{unit}")]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)}: give one of them.")


@dataclass(frozen=True, kw_only=True)
class LinearConfig(ConstantConfig):
    """A straight fall to `final` times the rate.

    Args:
        final: fraction of the rate at the end.
    """

    final: Fraction = 0.0


@dataclass(frozen=True, kw_only=True)
class CosineConfig(ConstantConfig):
    """A half cosine down to `final` times the rate.

    Args:
        final: fraction of the rate at the end.
    """

    final: Fraction = 0.0


@dataclass(frozen=True, kw_only=True)
class StepDecayConfig(ConstantConfig):
    """The rate is multiplied by `gamma` at every milestone.

    Args:
        milestones: when, in `unit`, ascending.
        unit: of the milestones.
        gamma: factor at each.
    """

    milestones: tuple[PositiveFloat, ...] = (30.0, 60.0, 80.0)
    unit: Literal["epochs", "steps"] = "epochs"
    gamma: Annotated[float, Range(0, 1, open_low=True)] = 0.1

    def __post_init__(self) -> None:
        self.check_one_length("warmup")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ConfigError(f"milestones={list(self.milestones)}: must ascend.")


@dataclass(frozen=True, kw_only=True)
class OneCycleConfig:
    """Up to the full rate and down to almost none.

    Args:
        peak: share of all steps after which the full rate is reached.
        start_divisor: the first step's rate is the full one divided by this.
        end_divisor: the last step's rate is the first one's divided by this.
        anneal: shape of both parts.
    """

    peak: Fraction = 0.3
    start_divisor: Annotated[float, Range(1)] = 25.0
    end_divisor: Annotated[float, Range(1)] = 1e4
    anneal: Literal["cosine", "linear"] = "cosine"


@dataclass(frozen=True, kw_only=True)
class WSDConfig(ConstantConfig):
    """Warm-up, a stable stretch at the full rate, decay.

    Args:
        decay_steps, decay_epochs, decay_share: length of the decay; at most one; with none given, a fifth of all steps.
        shape: of the decay: straight, a half cosine, or 1 - sqrt(progress).
        final: fraction of the rate at the end.
    """

    decay_steps: NonNegativeInt = 0
    decay_epochs: NonNegativeFloat = 0.0
    decay_share: Fraction = 0.0
    shape: Literal["linear", "cosine", "sqrt"] = "sqrt"
    final: Fraction = 0.0

    def __post_init__(self) -> None:
        self.check_one_length("warmup")
        self.check_one_length("decay")


@dataclass(frozen=True, kw_only=True)
class InverseSqrtConfig(ConstantConfig):
    """A fall with the root of the number of steps, from the full rate at the end of the warm-up.

    Vaswani et al. write the rate as `d_model^-0.5 min(s^-0.5, s warmup^-1.5)`: here `lr` is its peak,
    `(d_model warmup)^-0.5`.
    """


def _needed(value: int | None, schedule: str, what: str) -> int:
    if value is None:
        remedy = "Set epochs or max_steps." if what == "the number of steps" else "Give steps instead."
        raise ConfigError(f"schedule={schedule}: needs {what}, which is not known here. {remedy}")
    return value


def _length(config: object, what: str, schedule: str, total_steps: int | None, steps_per_epoch: int | None) -> int:
    """Steps of a length given in steps, epochs or as a share of all steps."""
    steps, epochs, share = (getattr(config, f"{what}_{unit}") for unit in ("steps", "epochs", "share"))
    if epochs:
        return round(epochs * _needed(steps_per_epoch, schedule, "the length of an epoch"))
    if share:
        return round(share * _needed(total_steps, schedule, "the number of steps"))
    return steps


def _progress(step: int, first: int, end: int) -> float:
    """Share of the way from step `first` to step `end`, within 0 and 1."""
    return min(max((step - first) / max(end - first, 1), 0.0), 1.0)


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


class Constant:
    """Factor 1 after warm-up."""

    name = "constant"

    def __init__(self, config: ConstantConfig) -> None:
        self.config = config

    def factor(self, step: int, total_steps: int | None, steps_per_epoch: int | None) -> float:
        """Factor of the learning rate.

        Args:
            step: optimiser steps done before this one.
            total_steps: of the whole training; None if only time limits it.
            steps_per_epoch: None where there are no epochs.

        Raises:
            ConfigError: the schedule needs one of these and it is None.
        """
        warmup = _length(self.config, "warmup", self.name, total_steps, steps_per_epoch)
        if step < warmup:
            return (step + 1) / warmup
        return self.after_warmup(step, warmup, total_steps, steps_per_epoch)

    def after_warmup(self, step: int, warmup: int, total_steps: int | None, steps_per_epoch: int | None) -> float:
        """Factor at a step that is not in the warm-up."""
        return 1.0


class Linear(Constant):
    """`1 - (1 - final) p` with progress p after warm-up."""

    name = "linear"
    config: LinearConfig

    def after_warmup(self, step: int, warmup: int, total_steps: int | None, steps_per_epoch: int | None) -> float:
        """Factor at a step that is not in the warm-up."""
        progress = _progress(step, warmup, _needed(total_steps, self.name, "the number of steps"))
        return 1.0 - (1.0 - self.config.final) * progress


class Cosine(Constant):
    """`final + (1 - final) (1 + cos(pi p)) / 2` with progress p after warm-up."""

    name = "cosine"
    config: CosineConfig

    def after_warmup(self, step: int, warmup: int, total_steps: int | None, steps_per_epoch: int | None) -> float:
        """Factor at a step that is not in the warm-up."""
        progress = _progress(step, warmup, _needed(total_steps, self.name, "the number of steps"))
        return self.config.final + (1.0 - self.config.final) * _cosine(progress)


class InverseSqrt(Constant):
    """`sqrt(w / (t + 1))` after w steps of warm-up; w counts as one where there is none."""

    name = "inverse_sqrt"
    config: InverseSqrtConfig

    def after_warmup(self, step: int, warmup: int, total_steps: int | None, steps_per_epoch: int | None) -> float:
        """Factor at a step that is not in the warm-up."""
        return math.sqrt(max(warmup, 1) / (step + 1))


class StepDecay(Constant):
    """`gamma ** n` after n milestones."""

    name = "step"
    config: StepDecayConfig

    def after_warmup(self, step: int, warmup: int, total_steps: int | None, steps_per_epoch: int | None) -> float:
        """Factor at a step that is not in the warm-up."""
        in_epochs = self.config.unit == "epochs"
        unit = _needed(steps_per_epoch, self.name, "the length of an epoch") if in_epochs else 1
        return self.config.gamma ** sum(step >= round(milestone * unit) for milestone in self.config.milestones)


class OneCycle:
    """From `1 / start_divisor` up to 1 at the peak, down to `1 / (start_divisor end_divisor)` at the last step."""

    def __init__(self, config: OneCycleConfig) -> None:
        self.config = config

    def factor(self, step: int, total_steps: int | None, steps_per_epoch: int | None) -> float:
        """Factor of the learning rate, see `Constant.factor`."""
        total = _needed(total_steps, "one_cycle", "the number of steps")
        low = 1.0 / self.config.start_divisor
        peak, last = self.config.peak * total - 1, total - 1
        if step < peak:
            return self._between(low, 1.0, step / peak)
        rest = last - max(peak, 0.0)
        return self._between(
            1.0, low / self.config.end_divisor, min((step - max(peak, 0.0)) / rest, 1.0) if rest > 0 else 0.0
        )

    def _between(self, start: float, end: float, progress: float) -> float:
        return end + (start - end) * (_cosine(progress) if self.config.anneal == "cosine" else 1.0 - progress)


class WSD(Constant):
    """1 until the decay begins, then down to `final` in the shape given."""

    name = "wsd"
    config: WSDConfig

    def after_warmup(self, step: int, warmup: int, total_steps: int | None, steps_per_epoch: int | None) -> float:
        """Factor at a step that is not in the warm-up."""
        config, total = self.config, _needed(total_steps, self.name, "the number of steps")
        decay = _length(config, "decay", self.name, total_steps, steps_per_epoch)
        if not (config.decay_steps or config.decay_epochs or config.decay_share):
            decay = round(total / 5)
        progress = _progress(step, total - decay, total)
        fall = {"linear": 1.0 - progress, "cosine": _cosine(progress), "sqrt": 1.0 - math.sqrt(progress)}[config.shape]
        return config.final + (1.0 - config.final) * fall


SCHEDULES = {
    "constant": ConstantConfig(),
    "linear": LinearConfig(),
    "cosine": CosineConfig(),
    "inverse_sqrt": InverseSqrtConfig(),
    "step": StepDecayConfig(),
    "one_cycle": OneCycleConfig(),
    "wsd": WSDConfig(),
}
