"""Denoising diffusion: noise of every strength is added to pictures, and the network learns to tell it from them.

Papers: J. Ho, A. Jain, P. Abbeel, "Denoising diffusion probabilistic models", 2020, https://arxiv.org/abs/2006.11239
(equation 14); T. Salimans, J. Ho, "Progressive distillation for fast sampling of diffusion models", 2022,
https://arxiv.org/abs/2202.00512 (prediction of v); T. Hang et al., "Efficient diffusion training via min-SNR weighting
strategy", 2023, https://arxiv.org/abs/2303.09556 (section 3.4); J. Ho, T. Salimans, "Classifier-free diffusion
guidance", 2022, https://arxiv.org/abs/2207.12598 (algorithm 1: the condition is left out now and then).

Shapes: B batch, C channels, H W height and width of pictures; Z h w of what is denoised.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from layerwise.core.config import PositiveFloat, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import Denoiser, require
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.ops.noise_schedules import NoiseProcess


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig:
    """Options of denoising diffusion.

    Args:
        process: how noise is added and what is predicted.
        min_snr: gamma: terms count at most as much as those with this ratio of signal to noise; None weighs all times
            equally in what is predicted.
        condition_dropout: share of samples whose class or text is left out.
    """

    process: NoiseProcess = NoiseProcess()
    min_snr: PositiveFloat | None = None
    condition_dropout: Probability = 0.1

    def __post_init__(self) -> None:
        if self.process.schedule == "rectified":
            raise ConfigError("objective=denoising: process.schedule=rectified is what objective=flow_matching is for.")


def kept_condition(network: Denoiser, batch: Batch, context: Context, dropout: float) -> Tensor | None:
    """The class or text of each sample as the network takes it, left out of a share of them while training; None where
    there is none.

    A batch has `labels` [B], whose number beyond the last class stands for none, or `tokens` [B, T] and `empty_tokens`.
    """
    wanted = batch.get("labels", batch.get("tokens"))
    if wanted is None:
        return None
    if context.training and dropout > 0:
        left_out = context.draws.uniform(batch["sample_ids"], (), "condition").to(wanted.device) < dropout
        if "labels" in batch:
            nothing = torch.full_like(wanted, int(network.num_classes))  # pyright: ignore[reportAttributeAccessIssue]
        else:
            nothing, left_out = batch["empty_tokens"], left_out[:, None]
        wanted = torch.where(left_out, nothing, wanted)
    return network.embed_condition(wanted)


def clean_samples(network: Denoiser, batch: Batch, context: Context) -> Tensor:
    """Pictures as what is denoised, without gradient: a draw of the latents where the network has such."""
    images = batch["images"]
    shape = network.sample_shape(images.shape[-2], images.shape[-1])
    with torch.no_grad():
        noise = None
        if shape != tuple(images.shape[1:]):
            noise = context.draws.normal(batch["sample_ids"], shape, "latents", images.dtype)
        return network.to_samples(images, noise)


def mean_square(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over all but the first dimension, [B], in float32 at least."""
    wide = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(wide) - target.to(wide)).square().flatten(1).mean(1)


class Denoising(Objective):
    """Mean over samples of `w_t |y_t - f(a_t x + s_t e, t, c)|^2 / dims`.

    y is the noise e, the picture x or v = a e - s x. With min-SNR weights and r = a^2 / s^2, w is min(r, gamma) / r for
    the noise, min(r, gamma) for the picture and min(r, gamma) / (r + 1) for v; else 1. Times, noise and which
    conditions are left out are hashed from step and sample id.

    Shape:
        images: float [B, C, H, W] in [-1, 1]; labels int64 [B], or tokens and empty_tokens int64 [B, T], optional; the
        network offers what `Denoiser` names.
    """

    def __init__(self, config: DenoisingConfig) -> None:
        super().__init__()
        self.config, self.process = config, config.process
        a, s = config.process.levels(torch.arange(config.process.num_timesteps))
        ratio = (a / s).square()
        weights = torch.ones_like(ratio)
        if config.min_snr is not None:
            least = ratio.clamp(max=config.min_snr)
            weights = {"eps": least / ratio, "x0": least, "v": least / (ratio + 1)}[config.process.prediction]
        self._weights, self._levels = weights, torch.stack([a, s])

    def setup(self, network: nn.Module) -> None:
        require(network, Denoiser, "objective=denoising")

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"denoising": float(len(batch["sample_ids"]))}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        denoiser, ids = cast(Denoiser, network), batch["sample_ids"]
        clean = clean_samples(denoiser, batch, context)
        times = context.draws.integers(ids, (), "time", self.process.num_timesteps)
        noise = context.draws.normal(ids, tuple(clean.shape[1:]), "noise", clean.dtype).to(clean.device)
        a, s = self._levels[:, times.cpu()].to(clean.device, clean.dtype)[:, :, None, None, None]
        condition = kept_condition(denoiser, batch, context, self.config.condition_dropout)
        said = denoiser(a * clean + s * noise, times.to(clean.device, torch.float32), condition)
        kind = self.process.prediction
        target = noise if kind == "eps" else clean if kind == "x0" else a * noise - s * clean
        losses = mean_square(said, target)
        weights = self._weights[times.cpu()].to(losses.device, losses.dtype)
        return {"denoising": Term((weights * losses).sum(), float(len(losses)))}


OBJECTIVES = {"denoising": DenoisingConfig()}
