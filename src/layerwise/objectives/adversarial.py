"""Adversarial learning: a discriminator tells real from generated pictures, a generator learns to be taken for real.

Papers: I. Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, https://arxiv.org/abs/1406.2661 (the
non-saturating loss, section 3); J. H. Lim, J. C. Ye, "Geometric GAN", 2017, https://arxiv.org/abs/1705.02894 (hinge);
M. Arjovsky, S. Chintala, L. Bottou, "Wasserstein GAN", 2017, https://arxiv.org/abs/1701.07875; I. Gulrajani et al.,
"Improved training of Wasserstein GANs", 2017, https://arxiv.org/abs/1704.00028 (gradient penalty, equation 3); L.
Mescheder, A. Geiger, S. Nowozin, "Which training methods for GANs do actually converge?", 2018,
https://arxiv.org/abs/1801.04406 (R1, equation 9); T. Karras et al., "Analyzing and improving the image quality of
StyleGAN", 2020, https://arxiv.org/abs/1912.04958 (lazy regularisation, appendix B).

Shapes: B batch, C channels, H W height and width.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import NonNegativeFloat, PositiveInt
from layerwise.nn.protocols import GenerativeAdversarial, require
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.ops.diff_augment import Augmentation, differentiable_augment


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Options of adversarial learning.

    Args:
        loss: what both networks minimise, see `Adversarial`.
        penalty: on the discriminator's gradient by its input: "r1" at real pictures, "gradient_penalty" between real
            and generated ones.
        penalty_weight: factor of the penalty.
        penalty_every: the penalty is added in every n-th step, n times as strong.
        augment: what real and generated pictures go through before they are judged, for data of few pictures; see
            `differentiable_augment`.
    """

    loss: Literal["non_saturating", "hinge", "wasserstein"] = "non_saturating"
    penalty: Literal["none", "r1", "gradient_penalty"] = "none"
    penalty_weight: NonNegativeFloat = 1.0
    penalty_every: PositiveInt = 1
    augment: tuple[Augmentation, ...] = ()


def _wide(x: Tensor) -> Tensor:
    """Losses are float32 on purpose, float64 where the network is."""
    return x if x.dtype == torch.float64 else x.float()


class Adversarial(Objective):
    """Two phases, `discriminator` and `generator`.

    With logits d = D(x) of real and d' = D(G(z)) of generated pictures, they minimise the means over samples of

    | loss           | discriminator                      | generator        |
    |----------------|------------------------------------|------------------|
    | non_saturating | softplus(-d) + softplus(d')        | softplus(-d')    |
    | hinge          | max(0, 1 - d) + max(0, 1 + d')     | -d'              |
    | wasserstein    | d' - d                             | -d'              |

    Penalties: R1 is `||D'(x)||^2 / 2` with the gradient by the picture; the gradient penalty is `(||D'(y)|| - 1)^2` at
    `y = x + u (G(z) - x)` with u uniform a sample. Latents and u are hashed from the sample id, so no term depends on
    how a batch is split, except through batch norm and other layers that say `mixes_samples`: where the network has
    any, the terms are declared `per_batch`.

    Shape:
        images: float [B, C, H, W]; the network offers `generator` ([B, latent_size] -> pictures), `discriminator`
        (pictures -> [B]) and `latent_size`.

    Note:
        `accuracy` is shown, not trained on: the share of real and generated pictures that are told apart.
    """

    phases = ("discriminator", "generator")

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        self.config = config

    def setup(self, network: nn.Module) -> None:
        require(network, GenerativeAdversarial, "objective=adversarial")
        if any(_mixes_samples(module) for module in network.modules()):
            self.per_batch = ("real", "fake", "penalty", "accuracy", "generator")

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        names = ("real", "fake", "penalty", "accuracy") if phase == "discriminator" else ("generator",)
        return {name: float(len(batch["sample_ids"])) for name in names if name not in self.per_batch}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        gan = cast(GenerativeAdversarial, network)
        if context.phase == "generator":
            return self._please(gan, batch, context)
        with torch.no_grad():
            fakes = self._generate(gan, batch, context).to(batch["images"].dtype)
        return self._judge(gan.discriminator, batch["images"], fakes, batch["sample_ids"], context)

    def _generate(self, gan: GenerativeAdversarial, batch: Batch, context: Context) -> Tensor:
        """Pictures of latents drawn for each sample."""
        latents = context.draws.normal(batch["sample_ids"], (gan.latent_size,), "latents", batch["images"].dtype)
        return gan.generator(latents)

    def _please(self, gan: GenerativeAdversarial, batch: Batch, context: Context) -> dict[str, Term]:
        """Terms of the generator."""
        return {"generator": self._generator_term(gan, self._generate(gan, batch, context), batch, context)}

    def _generator_term(self, gan: GenerativeAdversarial, fakes: Tensor, batch: Batch, context: Context) -> Term:
        shown = self._augmented(fakes, batch["sample_ids"], context, "fake")
        logits = _wide(gan.discriminator(shown))
        loss = F.softplus(-logits) if self.config.loss == "non_saturating" else -logits
        return Term(loss.sum(), float(len(fakes)))

    def _augmented(self, pictures: Tensor, sample_ids: Tensor, context: Context, name: str) -> Tensor:
        return differentiable_augment(pictures, sample_ids, context.draws, self.config.augment, f"augment-{name}")

    def _judge(
        self, discriminator: nn.Module, reals: Tensor, fakes: Tensor, sample_ids: Tensor, context: Context
    ) -> dict[str, Term]:
        """Terms of the discriminator."""
        config, count = self.config, float(len(reals))
        due = (
            config.penalty != "none"
            and config.penalty_weight > 0
            and context.step % config.penalty_every == 0
            and context.training
        )
        if due and config.penalty == "r1":
            reals = reals.detach().requires_grad_(True)
        real = _wide(discriminator(self._augmented(reals, sample_ids, context, "real")))
        fake = _wide(discriminator(self._augmented(fakes, sample_ids, context, "fake")))
        if config.loss == "non_saturating":
            losses = F.softplus(-real), F.softplus(fake)
        elif config.loss == "hinge":
            losses = F.relu(1.0 - real), F.relu(1.0 + fake)
        else:
            losses = -real, fake
        with torch.no_grad():
            right = 0.5 * ((real > 0).sum() + (fake < 0).sum())
        terms = {
            "real": Term(losses[0].sum(), count),
            "fake": Term(losses[1].sum(), count),
            "accuracy": Term(right, count, minimised=False),
        }
        if due:
            if config.penalty == "r1":
                penalty = _input_gradient(real, reals).square().sum(1) / 2
            else:
                u = context.draws.uniform(sample_ids, (1, 1, 1), "interpolation", reals.dtype)
                between = (reals + u * (fakes - reals)).requires_grad_(True)
                norms = torch.linalg.vector_norm(_input_gradient(_wide(discriminator(between)), between), dim=1)
                penalty = (norms - 1.0).square()
            terms["penalty"] = Term(penalty.sum(), count, weight=config.penalty_weight * config.penalty_every)
        return terms


def _mixes_samples(module: nn.Module) -> bool:
    """Whether what a module gives for a sample depends on its batch mates."""
    batch_norm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
    return isinstance(module, batch_norm) or bool(getattr(module, "mixes_samples", False))


def _input_gradient(logits: Tensor, pictures: Tensor) -> Tensor:
    """Gradient of each logit by its own picture, [B, C H W], itself differentiable."""
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return _wide(gradient).flatten(1)


OBJECTIVES = {"adversarial": AdversarialConfig()}
