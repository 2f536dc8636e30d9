"""Adversarial learning of a generator with styles: style mixing, noise, path-length regularisation.

Papers: T. Karras, S. Laine, T. Aila, "A style-based generator architecture for generative adversarial networks", CVPR
2019, https://arxiv.org/abs/1812.04948 (mixing: section 3.1); T. Karras et al., "Analyzing and improving the image
quality of StyleGAN", CVPR 2020, https://arxiv.org/abs/1912.04958 (path lengths: section 3.2, equation 4; lazy
regularisation: section 3.1).

Differs from the reference code: path lengths are compared with their running mean as it was before the step, and taken
of every picture of the batch, so that the gradient does not depend on how the batch was split.

Shapes: B batch, L styles a picture, S style, N noise values, C H W pictures.
"""

import math
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from layerwise.core.config import Fraction, NonNegativeFloat, PositiveInt
from layerwise.nn.protocols import GenerativeAdversarial, require
from layerwise.objectives.adversarial import Adversarial, AdversarialConfig
from layerwise.objectives.base import Batch, Context, Term, gather_rows


class StyleMapping(Protocol):
    """Latents [B, Z] to styles [B, S]."""

    w_avg: Tensor  # [S], a buffer: the running mean of styles

    def __call__(self, latents: Tensor, /) -> Tensor: ...


class StyleGenerator(Protocol):
    """A generator in two parts."""

    mapping: StyleMapping

    def synthesis(self, styles: Tensor, noise: Tensor | None = None, /) -> Tensor:
        """Pictures [B, C, H, W] of styles [B, L, S] and noise [B, N]."""
        ...


@runtime_checkable
class StyleBased(Protocol):
    """Two networks of which the generator has styles."""

    generator: nn.Module  # a `StyleGenerator`
    discriminator: nn.Module
    latent_size: int
    num_styles: int
    noise_size: int


@dataclass(frozen=True, kw_only=True)
class StyleAdversarialConfig(AdversarialConfig):
    """Options of adversarial learning with styles, beside those of `AdversarialConfig`.

    Args:
        mixing: share of generated pictures with two styles, the second from a random layer on.
        path_weight: factor of the path-length regularisation; 0 leaves it out.
        path_every: it is added in every n-th step, n times as strong.
        path_decay: share of the new lengths in their running mean.
        style_decay: share of the old mean style kept a step.
    """

    mixing: Fraction = 0.9
    path_weight: NonNegativeFloat = 2.0
    path_every: PositiveInt = 8
    path_decay: Fraction = 0.01
    style_decay: Fraction = 0.998


class StyleAdversarial(Adversarial):
    """The phases and losses of `Adversarial`, with styles w = f(z) of the generator g(w, noise).

    Path lengths are `l = |J_w' y|` with `y ~ N(0, 1 / (H W))` a value of the picture, by their root mean square over
    the styles of a picture; the generator's phase adds `path_weight (l - a)^2` with a their running mean. The mean
    style of the mapping network moves after each step. Both means are training state.

    References:
        Karras et al. 2020, equation 4.
    """

    path_mean: Tensor
    config: StyleAdversarialConfig

    def __init__(self, config: StyleAdversarialConfig) -> None:
        super().__init__(config)
        self.register_buffer("path_mean", torch.zeros(()))
        self._styles: list[tuple[Tensor, Tensor]] = []  # (sample ids, first styles) of this step, until after_step
        self._lengths: list[tuple[Tensor, Tensor]] = []  # (sample ids, path lengths), likewise

    def setup(self, network: nn.Module) -> None:
        super().setup(network)
        require(network, StyleBased, "objective=style_adversarial")

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        found = super().counts(batch, phase)
        return found | ({"path_length": float(len(batch["sample_ids"]))} if phase == "generator" else {})

    def _mixed_styles(self, network: StyleBased, batch: Batch, context: Context) -> Tensor:
        """Styles [B, L, S] of latents drawn for each sample."""
        ids, dtype, levels = batch["sample_ids"], batch["images"].dtype, network.num_styles
        mapping = cast(StyleGenerator, network.generator).mapping
        first = mapping(context.draws.normal(ids, (network.latent_size,), "latents", dtype))
        if context.phase == "generator" and context.training:
            self._styles.append((ids, first.detach()))
        if not self.config.mixing:
            return first[:, None].expand(-1, levels, -1)
        second = mapping(context.draws.normal(ids, (network.latent_size,), "latents-2", dtype))
        chosen = context.draws.uniform(ids, (), "mixing") < self.config.mixing
        cut = 1 + context.draws.integers(ids, (), "cut", levels - 1)
        cut = torch.where(chosen, cut, levels).to(first.device)
        before = torch.arange(levels, device=first.device) < cut[:, None]
        return torch.where(before[:, :, None], first[:, None], second[:, None])

    def _synthesise(self, network: StyleBased, styles: Tensor, batch: Batch, context: Context) -> Tensor:
        noise = context.draws.normal(batch["sample_ids"], (network.noise_size,), "noise", batch["images"].dtype)
        return cast(StyleGenerator, network.generator).synthesis(styles, noise)

    def _generate(self, gan: GenerativeAdversarial, batch: Batch, context: Context) -> Tensor:
        network = cast(StyleBased, gan)
        return self._synthesise(network, self._mixed_styles(network, batch, context), batch, context)

    def _please(self, gan: GenerativeAdversarial, batch: Batch, context: Context) -> dict[str, Term]:
        config, network = self.config, cast(StyleBased, gan)
        styles = self._mixed_styles(network, batch, context)
        fakes = self._synthesise(network, styles, batch, context)
        terms = {"generator": self._generator_term(gan, fakes, batch, context)}
        if config.path_weight and context.step % config.path_every == 0 and context.training:
            noise = context.draws.normal(batch["sample_ids"], tuple(fakes.shape[1:]), "path", fakes.dtype)
            lengths = path_lengths(fakes, styles, noise / math.sqrt(fakes.shape[2] * fakes.shape[3]))
            self._lengths.append((batch["sample_ids"], lengths.detach()))
            penalty = (lengths - self.path_mean.to(lengths.dtype)).square()
            weight = config.path_weight * config.path_every
            terms["path_length"] = Term(penalty.sum(), float(len(fakes)), weight=weight)
        return terms

    @torch.no_grad()
    def after_step(self, network: nn.Module, context: Context) -> None:
        styles, lengths = self._styles, self._lengths
        self._styles, self._lengths = [], []
        if styles:
            average = cast(StyleGenerator, cast(StyleBased, network).generator).mapping.w_avg
            mean = gather_rows(context, styles)[0].mean(0)
            average.lerp_(mean.to(average.dtype), 1.0 - self.config.style_decay)
        if lengths:
            mean = gather_rows(context, lengths)[0].mean()
            self.path_mean.lerp_(mean.to(self.path_mean.dtype), self.config.path_decay)


def path_lengths(pictures: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """`sqrt(mean_l |d sum(pictures noise) / d styles_l|^2)` [B], itself differentiable.

    Args:
        pictures: [B, C, H, W], made of the styles.
        styles: [B, L, S].
        noise: [B, C, H, W].
    """
    (gradient,) = torch.autograd.grad((pictures * noise).sum(), styles, create_graph=True)
    wide = gradient if gradient.dtype == torch.float64 else gradient.float()  # lengths are float32 on purpose
    return (wide.square().sum(2).mean(1) + 1e-12).sqrt()


OBJECTIVES = {"style_adversarial": StyleAdversarialConfig()}
