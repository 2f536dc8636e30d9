"""How pictures turn into noise, and what a network says on the way back.

x_t = a_t x_0 + s_t e with e standard normal, for times t = 0 .. num_timesteps - 1.

Ho et al. 2020 (arXiv:2006.11239): a_t^2 = prod (1 - beta), betas linear. Rombach et al. 2022 (arXiv:2112.10752): square
roots of betas linear ("scaled_linear"). Nichol and Dhariwal 2021 (arXiv:2102.09672), equation 17: cosine. Liu et al.
2022 (arXiv:2209.03003) and Lipman et al. 2022 (arXiv:2210.02747): straight lines, a = 1 - s ("rectified"). No signal at
the last time: Lin et al. 2023 (arXiv:2305.08891), algorithm 1. Prediction of v: Salimans and Ho 2022
(arXiv:2202.00512), appendix D.

Everything is computed in float64, once.
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from layerwise.core.config import PositiveFloat, PositiveInt
from layerwise.core.errors import ConfigError

Prediction = Literal["eps", "x0", "v", "velocity"]
_MOST_BETA = 0.999  # of the cosine schedule, Nichol and Dhariwal 2021, section 3.2
# Signal left at the last time where there should be none, so that noise over signal stays finite: the smallest half.
_LEAST_SIGNAL = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class NoiseProcess:
    """A schedule, and what the network predicts. A part of configurations, which are read without torch.

    Args:
        schedule: see the module.
        num_timesteps: times of training; "rectified" has them between, too.
        beta_start, beta_end: of "linear" and "scaled_linear".
        zero_terminal_snr: the schedule is stretched so that the last time is pure noise.
        prediction: "eps" is the noise, "x0" the picture, "v" is a e - s x_0; "velocity", of "rectified" only, is
            e - x_0.
    """

    schedule: Literal["linear", "scaled_linear", "cosine", "rectified"] = "linear"
    num_timesteps: PositiveInt = 1000
    beta_start: PositiveFloat = 1e-4
    beta_end: PositiveFloat = 0.02
    zero_terminal_snr: bool = False
    prediction: Prediction = "eps"

    def __post_init__(self) -> None:
        if (self.schedule == "rectified") != (self.prediction == "velocity"):
            raise ConfigError(
                f"prediction={self.prediction} with schedule={self.schedule}: velocity belongs to rectified, the "
                "others to the other schedules."
            )
        if not self.beta_start <= self.beta_end < 1:
            raise ConfigError(f"beta_start={self.beta_start:g}, beta_end={self.beta_end:g}: must rise and be below 1.")

    def signal_squared(self) -> "Tensor":
        """a_t^2, float64 [num_timesteps], falling.

        Raises:
            ConfigError: "rectified", whose times are not whole.
        """
        import torch  # the class is read from its source, without the imports of its module

        steps = self.num_timesteps
        if self.schedule == "rectified":
            raise ConfigError("schedule=rectified has no table: a = 1 - t.")
        if self.schedule == "cosine":
            angles = (torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2
            bars = angles.cos().square()
            betas = (1 - bars[1:] / bars[:-1]).clamp(max=_MOST_BETA)
        elif self.schedule == "linear":
            betas = torch.linspace(self.beta_start, self.beta_end, steps, dtype=torch.float64)
        else:
            betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, steps, dtype=torch.float64).square()
        squared = (1 - betas).cumprod(0)
        if self.zero_terminal_snr:
            roots = squared.sqrt()
            roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
            squared = roots.square()
            squared[-1] = _LEAST_SIGNAL
        return squared

    def levels(self, times: "Tensor") -> "tuple[Tensor, Tensor]":
        """a and s, float64, at times of any shape: whole numbers, or any in [0, num_timesteps] for "rectified"."""
        if self.schedule == "rectified":
            noise = times.double() / self.num_timesteps
            return 1 - noise, noise
        squared = self.signal_squared().to(times.device)[times.long()]
        return squared.sqrt(), (1 - squared).sqrt()

    def target(self, clean: "Tensor", noise: "Tensor", times: "Tensor") -> "Tensor":
        """What the network should say of the noisy picture [B, ...] at times [B]."""
        if self.prediction == "eps":
            return noise
        if self.prediction == "x0":
            return clean
        if self.prediction == "velocity":
            return noise - clean
        a, s = (level.to(clean.dtype).view(-1, *[1] * (clean.dim() - 1)) for level in self.levels(times))
        return a * noise - s * clean

    def add_noise(self, clean: "Tensor", noise: "Tensor", times: "Tensor") -> "Tensor":
        """a x_0 + s e at times [B]."""
        a, s = (level.to(clean.dtype).view(-1, *[1] * (clean.dim() - 1)) for level in self.levels(times))
        return a * clean + s * noise


def clean_and_noise(prediction: Tensor, x: Tensor, a: float, s: float, kind: Prediction) -> tuple[Tensor, Tensor]:
    """The picture and the noise that a prediction says a noisy picture is made of.

    Args:
        prediction: of the network, of the given kind.
        x: a x_0 + s e.
        a, s: both above zero.
        kind: see `NoiseProcess`.
    """
    if kind == "eps":
        return (x - s * prediction) / a, prediction
    if kind == "x0":
        return prediction, (x - a * prediction) / s
    if kind == "v":
        return a * x - s * prediction, a * prediction + s * x
    return x - s * prediction, x + a * prediction
