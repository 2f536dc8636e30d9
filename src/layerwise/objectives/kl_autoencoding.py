"""Autoencoding for latent diffusion: pictures through maps that are smaller, nearly without noise, and sharp.

Papers: R. Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022,
https://arxiv.org/abs/2112.10752 (section 3.1, appendix G); P. Esser, R. Rombach, B. Ommer, "Taming transformers for
high-resolution image synthesis", CVPR 2021, https://arxiv.org/abs/2012.09841 (equations 5 to 7); R. Zhang et al., "The
unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018, https://arxiv.org/abs/1801.03924
(equation 1); for features of the discriminator: A. Larsen et al., "Autoencoding beyond pixels using a learned
similarity metric", 2016, https://arxiv.org/abs/1512.09300.

Differs from the paper: pixels and divergence are divided by the number of a picture's values; no variance of the pixels
is learned; perceptual distances weigh the channels alike, where theirs learned weights from people's judgements.

Shapes: B batch, C channels, H W height and width of pictures; Z h w of latents.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import NonNegativeFloat, NonNegativeInt, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.patch_discriminator import PatchDiscriminator
from layerwise.nn.protocols import Pyramid, require
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.objectives.variational import normal_divergence, wide

_MOST_WEIGHT, _EPS = 1e4, 1e-4  # of the adaptive weight, as in the papers' code


@runtime_checkable
class LatentMaps(Protocol):
    """An autoencoder whose code is maps with a mean and a variance."""

    last_layer: Tensor  # what the pictures' last layer multiplies by

    def encode(self, images: Tensor, /) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, [B, Z, h, w] each."""
        ...

    def decode(self, latents: Tensor, /) -> Tensor:
        """Pictures [B, C, H, W]."""
        ...


@dataclass(frozen=True, kw_only=True)
class KLAutoencodingConfig:
    """Options of autoencoding.

    Args:
        distance: of pixels.
        kl_weight: factor of the divergence.
        perceptual_weight: factor of the distance in features, of the discriminator once it learns; 0: none.
        adversarial_weight: factor of the discriminator's judgement; 0: none. Without it and without a perceptual term
            there is no discriminator.
        start_step: the step at which the discriminator begins to learn and its terms to count.
        adaptive: the adversarial term is brought to the strength that the others have at the decoder's last layer
            (Esser et al., equation 7).
        discriminator_width, discriminator_levels: see `PatchDiscriminator`.
    """

    distance: Literal["absolute", "squared"] = "absolute"
    kl_weight: NonNegativeFloat = 1e-6
    perceptual_weight: NonNegativeFloat = 0.0
    adversarial_weight: NonNegativeFloat = 0.0
    start_step: NonNegativeInt = 0
    adaptive: bool = True
    discriminator_width: PositiveInt = 32
    discriminator_levels: PositiveInt = 2


def perceptual_distance(eye: Pyramid, images: Tensor, others: Tensor) -> Tensor:
    """`sum_l mean_hw |f_l(x) / |f_l(x)| - f_l(y) / |f_l(y)||^2` [B], norms over channels: between 0 and 4 a map.

    Args:
        eye: gives the maps f_l.
        images, others: [B, C, H, W].

    References:
        Zhang et al., equation 1, with weights of one.
    """
    total = torch.zeros(len(images), dtype=wide(images).dtype, device=images.device)
    for a, b in zip(eye.forward_pyramid(images), eye.forward_pyramid(others), strict=True):
        a, b = F.normalize(wide(a), dim=1, eps=1e-10), F.normalize(wide(b), dim=1, eps=1e-10)
        total = total + (a - b).square().sum(1).flatten(1).mean(1)
    return total


def adaptive_weight(others: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """`|d others / d W| / (|d adversarial / d W| + 1e-4)`, at most 10,000, without gradient.

    References:
        Esser et al., equation 7.
    """
    gradients = (torch.autograd.grad(loss, last_layer, retain_graph=True)[0] for loss in (others, adversarial))
    first, second = (torch.linalg.vector_norm(wide(gradient)) for gradient in gradients)
    return (first / (second + _EPS)).clamp(0.0, _MOST_WEIGHT).detach()


class KLAutoencoding(Objective):
    """Two phases, `autoencoder` and `discriminator`; without a discriminator one, called "main".

    With z drawn from N(m(x), exp(l(x))), r decoded from it and n values a picture, the autoencoder minimises the means
    of

        |x - r|_1 / n  (or |x - r|^2 / n)  +  kl_weight KL(N(m, exp(l)) || N(0, 1)) / n
            + perceptual_weight d(x, r)  -  lambda adversarial_weight D(r),

    the discriminator `(max(0, 1 - D(x)) + max(0, 1 + D(r))) / 2` over patches. d is `perceptual_distance` in the
    discriminator's maps, or in those of a network that is given and stays as it is; lambda is `adaptive_weight`. Before
    `start_step` the discriminator neither learns nor counts. The draw is hashed from the sample id.

    Args:
        config: see its class.
        eye: a trained network with maps (`Pyramid`) to measure perceptual distances in.

    Shape:
        images: float [B, C, H, W]; the network is `LatentMaps`, or has one as `autoencoder`.

    Note:
        `adversarial` is declared `per_batch` where its weight is adaptive: the weight is a micro-batch's own.
    """

    def __init__(self, config: KLAutoencodingConfig, eye: nn.Module | None = None) -> None:
        super().__init__()
        if eye is not None and not config.perceptual_weight:
            raise ConfigError("perceptual_weight=0: a network to measure in is given and would not be used.")
        self.config, self.eye = config, None if eye is None else eye.eval().requires_grad_(False)
        if eye is not None:
            require(eye, Pyramid, "the perceptual term")
        self.judged = config.adversarial_weight > 0 or (config.perceptual_weight > 0 and eye is None)
        self.phases = ("autoencoder", "discriminator") if self.judged else ("main",)
        self.per_batch = ("adversarial",) if config.adaptive else ()
        self.discriminator: PatchDiscriminator | None = None

    def setup(self, network: nn.Module) -> None:
        self._autoencoder(network)
        if self.judged:
            config, channels = self.config, _channels(network)
            self.discriminator = PatchDiscriminator(channels, config.discriminator_width, config.discriminator_levels)

    def _autoencoder(self, network: nn.Module) -> LatentMaps:
        return require(getattr(network, "autoencoder", network), LatentMaps, "objective=kl_autoencoding")

    def train(self, mode: bool = True) -> "KLAutoencoding":
        """A network to measure in stays in eval mode."""
        super().train(mode)
        if self.eye is not None:
            self.eye.eval()
        return self

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        names = (
            ("discriminator",) if phase == "discriminator" else ("pixels", "divergence", "perceptual", "adversarial")
        )
        return {name: float(len(batch["sample_ids"])) for name in names if name not in self.per_batch}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        autoencoder, images = self._autoencoder(network), batch["images"]
        if context.phase == "discriminator":
            return {"discriminator": Term(self._judge(autoencoder, batch, context), float(len(images)))}
        config, count, values = self.config, float(len(images)), images[0].numel()
        mean, log_variance = (wide(x) for x in autoencoder.encode(images))
        made = autoencoder.decode(_draw(mean, log_variance, batch, context).to(images.dtype))
        difference = wide(images) - wide(made)
        errors = difference.abs() if config.distance == "absolute" else difference.square()
        divergence = normal_divergence(mean, log_variance) / values
        terms = {
            "pixels": Term(errors.sum() / values, count),
            "divergence": Term(divergence.sum(), count, weight=config.kl_weight),
        }
        begun = context.step >= config.start_step
        eye = self.eye if self.eye is not None else self.discriminator if begun else None
        if config.perceptual_weight and eye is not None:
            distance = perceptual_distance(cast(Pyramid, eye), images, made.to(images.dtype))
            terms["perceptual"] = Term(distance.sum(), count, weight=config.perceptual_weight)
        if config.adversarial_weight and begun and self.discriminator is not None:
            pleased = -wide(self.discriminator(made.to(images.dtype))).flatten(1).mean(1).sum()
            weight = 1.0
            if config.adaptive and context.training and torch.is_grad_enabled():
                others = sum(terms[name].sum * terms[name].weight for name in terms if name != "divergence")
                weight = adaptive_weight(cast(Tensor, others), pleased, autoencoder.last_layer)
            terms["adversarial"] = Term(pleased * weight, count, weight=config.adversarial_weight)
        return terms

    def _judge(self, autoencoder: LatentMaps, batch: Batch, context: Context) -> Tensor:
        """The discriminator's loss, summed over pictures."""
        assert self.discriminator is not None
        if context.step < self.config.start_step:
            return sum((0.0 * p.sum() for p in self.discriminator.parameters()), torch.zeros(()))
        images = batch["images"]
        with torch.no_grad():
            mean, log_variance = (wide(x) for x in autoencoder.encode(images))
            made = autoencoder.decode(_draw(mean, log_variance, batch, context).to(images.dtype)).to(images.dtype)
        real, fake = (wide(self.discriminator(x)).flatten(1) for x in (images, made))
        return 0.5 * (F.relu(1.0 - real).mean(1) + F.relu(1.0 + fake).mean(1)).sum()


def _draw(mean: Tensor, log_variance: Tensor, batch: Batch, context: Context) -> Tensor:
    noise = context.draws.normal(batch["sample_ids"], tuple(mean.shape[1:]), "latents", mean.dtype).to(mean.device)
    return mean + (0.5 * log_variance).exp() * noise


def _channels(network: nn.Module) -> int:
    """Channels of the pictures that a network makes."""
    return cast(LatentMaps, getattr(network, "autoencoder", network)).last_layer.shape[0]


OBJECTIVES = {"kl_autoencoding": KLAutoencodingConfig()}
