"""Pictures by taking noise away: the walk of a trained denoiser, under a condition, from noise or from a picture.

Guidance without a classifier: J. Ho, T. Salimans, 2022, https://arxiv.org/abs/2207.12598, equation 6. From a picture:
C. Meng et al., "SDEdit", 2022, https://arxiv.org/abs/2108.01073. Keeping parts: A. Lugmayr et al., "RePaint", 2022,
https://arxiv.org/abs/2201.09865, without its repetitions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import Denoiser
from layerwise.ops.noise_schedules import NoiseProcess
from layerwise.ops.random import Draws
from layerwise.ops.samplers import SamplerConfig, SamplerName, make_sampler, walk


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """What a person may ask of generated pictures; None takes what the model was trained or saved with.

    Args:
        steps: of the walk.
        sampler: name of the walk, see `SamplerConfig`.
        guidance: how strongly the condition counts: 1 is the model's own prediction under it, 0 the one without.
        negative: a text to lead away from, in place of no text.
        size: height and width in pixels.
        image: a picture to start from.
        strength: share of the walk that is done from that picture: 1 keeps nothing of it, None does four fifths.
        mask: a picture whose white parts are made anew; the others stay as `image` has them.
        interpolate: samples lie on the way between the first and the last one's noise.
        truncation: of styles: 1 draws all that was learned, less is more typical.
        tile: pictures are made of their latents in overlapping tiles of so many pixels a side, which bounds memory.
    """

    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    negative: str | None = None
    size: tuple[int, int] | None = None
    image: Path | None = None
    strength: float | None = None
    mask: Path | None = None
    interpolate: bool = False
    truncation: float | None = None
    tile: int | None = None

    def beyond(self, *known: str) -> list[str]:
        """The flags of what was asked for, those left out that are `known`."""
        asked = [entry.name for entry in fields(self) if getattr(self, entry.name) != entry.default]
        return [f"--{name}" for name in asked if name not in known]

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 < self.strength <= 1:
            raise ConfigError(f"--strength {self.strength:g}: must be above 0 and at most 1.")
        for flag, given in (("--mask", self.mask), ("--strength", self.strength)):
            if given is not None and self.image is None:
                raise ConfigError(f"{flag} says what is made anew in a picture: give the picture with --image.")
        if self.mask is not None and self.strength is not None:
            raise ConfigError("--strength and --mask: what the mask has white is made wholly anew. Give one of them.")
        if self.guidance is not None and not 0 <= self.guidance < math.inf:
            raise ConfigError(f"--guidance {self.guidance:g}: must be 0 or more.")
        if self.truncation is not None and not 0 <= self.truncation < math.inf:
            raise ConfigError(f"--truncation {self.truncation:g}: must be 0 or more.")

    def walk(self, usual: SamplerConfig) -> SamplerConfig:
        """The walk, `usual` with what was asked for.

        Raises:
            ConfigError: an unknown name, or no step.
        """
        names = get_args(SamplerName)
        if self.sampler is not None and self.sampler not in names:
            raise ConfigError(f"--sampler {self.sampler}: known are {', '.join(names)}.")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"--steps {self.steps}: must be at least 1.")
        changes = {"name": self.sampler, "steps": self.steps}
        return replace(usual, **{name: value for name, value in changes.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What pictures are to show: classes [B] or tokens [B, T], and those that stand for nothing, or for what to avoid.

    Args:
        wanted, unwanted: as `Denoiser.embed_condition` takes them.
        guidance: see `PictureOptions`.
    """

    wanted: Tensor
    unwanted: Tensor
    guidance: float


def make_predictor(network: Denoiser, conditions: Conditions | None) -> Callable[[Tensor, Tensor], Tensor]:
    """(noisy samples, times) -> prediction `u + w (c - u)` with c under the condition and u without."""
    if conditions is None:
        return lambda x, times: network(x, times)
    wanted = network.embed_condition(conditions.wanted)
    if conditions.guidance == 1:
        return lambda x, times: network(x, times, wanted)
    if conditions.wanted.dim() == 1 and not getattr(network, "null_class", True):
        raise ConfigError("guidance leads away from no class, and the model was trained without one: leave it at 1.")
    both = torch.cat([network.embed_condition(conditions.unwanted), wanted])

    def predict(x: Tensor, times: Tensor) -> Tensor:
        without, under = network(torch.cat([x, x]), torch.cat([times, times]), both).chunk(2)
        return without + conditions.guidance * (under - without)

    return predict


def take_noise_away(
    network: Denoiser,
    noise: Tensor,
    fresh: Callable[[int], Tensor],
    *,
    process: NoiseProcess,
    walk_config: SamplerConfig,
    conditions: Conditions | None = None,
    start: Tensor | None = None,
    strength: float = 1.0,
    made_anew: Tensor | None = None,
    watch: Callable[[Tensor, int], None] | None = None,
) -> Tensor:
    """Samples [B, ...] of noise of that shape.

    Args:
        network: in eval mode, without gradients.
        noise: standard normal.
        fresh: noise of each step, for walks that need any.
        process, walk_config: how it was trained, and how to go back.
        conditions: None: there is none.
        start: samples of pictures to begin with in place of noise alone.
        strength: share of the steps that are done on them.
        made_anew: [B, 1, h, w] in {0, 1}; where it is 0 the samples stay those of `start`.
        watch: sees every point of the walk (point, questions asked).
    """
    skip = 0 if start is None else walk_config.steps - max(1, int(walk_config.steps * strength))
    sampler = make_sampler(process, walk_config, skip)
    # A walk over all steps begins at pure noise, whatever it starts from.
    x = sampler.start(noise) if start is None or skip == 0 else sampler.noised(start, noise, 0)

    def after(x: Tensor, asked: int) -> Tensor:
        if made_anew is not None and start is not None:
            x = torch.where(made_anew > 0.5, x, sampler.noised(start, noise, asked))
        if watch is not None:
            watch(x, asked)
        return x

    return walk(make_predictor(network, conditions), sampler, x, fresh, after)


def latent_noise(draws: Draws, sample_ids: Tensor, shape: tuple[int, ...], like: Tensor, *, last: int | None) -> Tensor:
    """Standard normal noise [B, *shape], a function of sample id and draws alone.

    Args:
        last: of the samples 0 .. last, the first and the last have noise of their own and the others lie between, on
            the great circle (Shoemake 1985); None: every sample has its own.
    """
    drawn = draws if not last else DrawsBetween(draws, last)
    return drawn.normal(sample_ids, shape, "latents").to(like.device, like.dtype)


class DrawsBetween(Draws):
    """Normal numbers of samples that lie on the way from sample 0 to another, on the great circle (Shoemake 1985).

    Args:
        ends: gives the numbers of the two.
        last: the other one, above 0.
    """

    def __init__(self, ends: Draws, last: int) -> None:
        self._ends, self._last = ends, last

    @property
    def key(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._ends.key

    def normal(
        self, sample_ids: Tensor, shape: tuple[int, ...], name: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        ends = torch.tensor([0, self._last], device=sample_ids.device)
        first, second = self._ends.normal(ends, shape, name, torch.float64)
        angle = torch.acos(F.cosine_similarity(first.flatten(), second.flatten(), dim=0))
        share = (sample_ids.double() / self._last).clamp(0, 1).view(-1, *[1] * len(shape))
        mixed = (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * second) / torch.sin(angle)
        return mixed.to(dtype)

    def integers(self, sample_ids: Tensor, shape: tuple[int, ...], name: str, high: int) -> Tensor:
        """Raises ConfigError: between two choices there is nothing."""
        raise ConfigError(
            f"--interpolate: this model draws its {name} from a list, and there is nothing between two choices."
            + (" Say which class with --prompt." if name == "labels" else "")
        )

    def uniform(
        self, sample_ids: Tensor, shape: tuple[int, ...], name: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Raises ConfigError: a chance that decides has nothing between two outcomes."""
        raise ConfigError(
            "--interpolate: this model decides by chance on the way; there is nothing between two samples."
        )

    uniform_pairs = uniform
