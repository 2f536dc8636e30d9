"""Variational learning: a lower bound on the likelihood of pictures under a model with a hidden code.

Papers: D. P. Kingma, M. Welling, "Auto-encoding variational Bayes", ICLR 2014, https://arxiv.org/abs/1312.6114; I.
Higgins et al., "beta-VAE: learning basic visual concepts with a constrained variational framework", ICLR 2017; Y.
Burda, R. Grosse, R. Salakhutdinov, "Importance weighted autoencoders", ICLR 2016, https://arxiv.org/abs/1509.00519 (the
bound of many samples).

Shapes: B batch, C H W pictures, D code, K samples a picture.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from layerwise.core.config import NonNegativeFloat, NonNegativeInt
from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import LatentVariable, require
from layerwise.objectives.base import Batch, Context, Objective, Term


@dataclass(frozen=True, kw_only=True)
class VariationalConfig:
    """Options of variational learning.

    Args:
        beta: factor of the divergence; 1 is the bound, more asks for codes nearer to the prior.
        warmup_steps: beta rises from 0 in a straight line over so many steps.
    """

    beta: NonNegativeFloat = 1.0
    warmup_steps: NonNegativeInt = 0


def wide(x: Tensor) -> Tensor:
    """Float32 on purpose, or float64: sums of many terms."""
    return x if x.dtype == torch.float64 else x.float()


def normal_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """`KL(N(m, s^2) || N(0, 1)) = sum_i (m_i^2 + s_i^2 - 1 - log s_i^2) / 2` [B] of [B, D].

    References:
        Kingma and Welling, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).flatten(1).sum(1)


def labels_of(model: LatentVariable, batch: Batch, purpose: str) -> Tensor | None:
    """The labels that a conditional model takes; None where it takes none.

    Raises:
        ConfigError: it takes some and the data has none.
    """
    if not model.num_classes:
        return None
    if "labels" not in batch:
        raise ConfigError(
            f"{purpose}: the model is conditional and the data has no labels. Set model.conditional=false."
        )
    return batch["labels"]


def importance_bound(
    model: LatentVariable, images: Tensor, noise: Tensor, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Two lower bounds on log p(x), from K codes `z_k = mean + deviation * noise_k`.

    `log 1/K sum_k w_k` (Burda et al., equation 8) and `1/K sum_k log w_k` (the evidence lower bound) with
    `w_k = p(x | z_k) p(z_k) / q(z_k | x)`. The first never falls, in expectation, as K grows, and goes to log p(x).

    Args:
        images: [B, C, H, W].
        noise: standard normal [B, K, D].
        labels: int64 [B] of a conditional model.

    Returns:
        Both bounds in nats, [B] each.
    """
    mean, log_variance = (wide(x) for x in model.encode_distribution(images, labels))
    count = noise.shape[1]
    codes = mean[:, None] + (0.5 * log_variance).exp()[:, None] * noise
    # The constants (2 pi)^(-D/2) of prior and q are the same.
    prior = -0.5 * codes.square().sum(2)
    posterior = -0.5 * (noise.square().sum(2) + log_variance.sum(1, keepdim=True))
    repeated = images.repeat_interleave(count, 0)
    own = None if labels is None else labels.repeat_interleave(count, 0)
    likelihood = wide(model.log_likelihood(repeated, codes.flatten(0, 1).to(noise.dtype), own)).view(-1, count)
    log_weights = likelihood + prior - posterior
    return torch.logsumexp(log_weights, 1) - math.log(count), log_weights.mean(1)


class Variational(Objective):
    """Mean over pictures of `-log p(x | z) + beta KL(q(z | x) || N(0, 1))` with `z = mean + deviation * noise`.

    The noise is hashed from the sample id, so the gradient does not depend on how a batch was split.

    Shape:
        images: float [B, C, H, W]; labels int64 [B] where the model is conditional; the network is a `LatentVariable`.

    References:
        Kingma and Welling, equation 10, with one sample a picture.
    """

    def __init__(self, config: VariationalConfig) -> None:
        super().__init__()
        self.config = config

    def setup(self, network: nn.Module) -> None:
        require(network, LatentVariable, "objective=variational")

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return dict.fromkeys(("reconstruction", "divergence"), float(len(batch["sample_ids"])))

    def beta(self, step: int) -> float:
        """Factor of the divergence at a step."""
        config = self.config
        return config.beta * min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else config.beta

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        model, images = cast(LatentVariable, network), batch["images"]
        labels = labels_of(model, batch, "objective=variational")
        mean, log_variance = (wide(x) for x in model.encode_distribution(images, labels))
        noise = context.draws.normal(batch["sample_ids"], tuple(mean.shape[1:]), "code", mean.dtype)
        code = mean + (0.5 * log_variance).exp() * noise
        count = float(len(images))
        missed = -model.log_likelihood(images, code.to(images.dtype), labels)
        return {
            "reconstruction": Term(missed.sum(), count),
            "divergence": Term(normal_divergence(mean, log_variance).sum(), count, weight=self.beta(context.step)),
        }


OBJECTIVES = {"variational": VariationalConfig()}
