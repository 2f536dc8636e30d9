"""The bound against a model whose likelihood has a closed form, the divergence against torch's, splits of a batch."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.models.generative.vae import PRESETS, VAE
from layerwise.objectives.base import Context
from layerwise.objectives.variational import Variational, VariationalConfig, importance_bound, normal_divergence
from layerwise.ops.random import Draws

PIXELS, CODE, SIGMA = 6, 2, 0.5


class LinearNormal(nn.Module):
    """x = W z + b + sigma e with orthogonal columns of W: p(x) = N(b, W W' + sigma^2 1), and q may be p(z | x) exactly.

    With columns of length s_i, p(z_i | x) = N(w_i.(x - b) / (s_i^2 + sigma^2), sigma^2 / (s_i^2 + sigma^2)).
    """

    def __init__(self, broader: float = 1.0) -> None:
        super().__init__()
        self.code_size, self.num_classes, self.broader = CODE, 0, broader
        generator = torch.Generator().manual_seed(0)
        q, _ = torch.linalg.qr(torch.randn(PIXELS, CODE, generator=generator, dtype=torch.float64))
        self.lengths = torch.tensor([1.5, 0.7], dtype=torch.float64)
        self.weight = q * self.lengths
        self.bias = torch.randn(PIXELS, generator=generator, dtype=torch.float64)

    def encode_distribution(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = self.lengths.square() + SIGMA**2
        mean = (images.flatten(1) - self.bias) @ self.weight / total
        return mean, torch.log(self.broader * SIGMA**2 / total).expand_as(mean)

    def log_likelihood(self, images: Tensor, code: Tensor, labels: Tensor | None = None) -> Tensor:
        return Normal(code @ self.weight.T + self.bias, SIGMA).log_prob(images.flatten(1)).sum(1)

    def decode_pictures(self, code: Tensor, labels: Tensor | None = None) -> Tensor:
        return code @ self.weight.T + self.bias

    def evidence(self, images: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.T + SIGMA**2 * torch.eye(PIXELS, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(self.bias, covariance).log_prob(images.flatten(1))


def pictures(count: int = 4) -> Tensor:
    return torch.randn(count, 1, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def noise(count: int, samples: int) -> Tensor:
    return torch.randn(count, samples, CODE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_with_the_true_posterior_both_bounds_are_the_likelihood_for_any_noise() -> None:
    """Every weight is p(x) itself; float64, 1e-10."""
    model, images = LinearNormal(), pictures()
    bound, elbo = importance_bound(model, images, noise(4, 3))
    torch.testing.assert_close(bound, model.evidence(images), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(elbo, model.evidence(images), rtol=1e-10, atol=1e-10)


def test_with_another_q_one_sample_is_off_by_the_divergence_and_many_reach_the_likelihood() -> None:
    """q with twice the variance: the gap of the evidence lower bound is KL(q || p(z | x)) = D (r - 1 - log r) / 2.

    200,000 samples: the standard error of log-mean is below 0.003, of the mean below 0.003.
    """
    model, images = LinearNormal(broader=2.0), pictures(2)
    bound, elbo = importance_bound(model, images, noise(2, 200_000))
    evidence, gap = model.evidence(images), CODE * (2.0 - 1.0 - math.log(2.0)) / 2
    torch.testing.assert_close(bound, evidence, rtol=0, atol=0.01)
    torch.testing.assert_close(elbo, evidence - gap, rtol=0, atol=0.01)


def test_divergence_is_torchs() -> None:
    mean, log_variance = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    unit = Normal(torch.zeros(7, 5, dtype=torch.float64), torch.ones(7, 5, dtype=torch.float64))
    wanted = kl_divergence(Normal(mean, (log_variance / 2).exp()), unit).sum(1)
    torch.testing.assert_close(normal_divergence(mean, log_variance), wanted, rtol=1e-12, atol=1e-12)


def make_batch(count: int = 12) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "images": (torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float64) < 0.3).double(),
        "labels": torch.randint(3, (count,), generator=generator),
        "sample_ids": torch.randperm(1000, generator=generator)[:count],
    }


def make_context(step: int = 0) -> Context:
    return Context(step=step, epoch=0, phase="main", draws=Draws(3, "noise", step))


def make_vae() -> VAE:
    torch.manual_seed(0)
    return VAE(PRESETS["vae-tiny"]).double()


def test_terms_are_the_negative_bound_of_one_sample() -> None:
    """In expectation; here with the closed-form divergence of the paper's equation 10, one picture at a time."""
    vae, batch = make_vae(), make_batch()
    terms = Variational(VariationalConfig())(vae, batch, make_context())
    missed = divergence = 0.0
    for i in range(12):
        x, y = batch["images"][i : i + 1], batch["labels"][i : i + 1]
        q_mean, q_log = vae.encode_distribution(x, y)
        e = make_context().draws.normal(batch["sample_ids"][i : i + 1], (3,), "code", torch.float64)
        logits = vae.decode(q_mean + (q_log / 2).exp() * e, y)
        missed -= torch.distributions.Bernoulli(logits=logits).log_prob(x).sum().item()
        unit = Normal(torch.zeros_like(q_mean), torch.ones_like(q_mean))
        divergence += kl_divergence(Normal(q_mean, (q_log / 2).exp()), unit).sum().item()
    assert terms["reconstruction"].sum.item() == pytest.approx(missed, rel=1e-10)
    assert terms["divergence"].sum.item() == pytest.approx(divergence, rel=1e-10)
    assert terms["divergence"].count == 12.0


@pytest.mark.parametrize("sizes", [[4, 4, 4], [5, 5, 2], [1, 11]], ids=str)
def test_gradient_of_every_split_equals_that_of_the_whole_batch(sizes: list[int]) -> None:
    vae, batch, objective = make_vae(), make_batch(), Variational(VariationalConfig(beta=2.0))

    def gradients(parts: list[dict[str, Tensor]]) -> list[Tensor]:
        counts = {name: 12.0 for name in objective.counts(batch, "main")}
        total = torch.zeros((), dtype=torch.float64)
        for part in parts:
            for name, term in objective(vae, part, make_context()).items():
                total = total + term.weight * term.sum / counts[name]
        return list(torch.autograd.grad(total, list(vae.parameters())))

    pieces = zip(*(value.split(sizes) for value in batch.values()), strict=True)
    split = gradients([dict(zip(batch, values, strict=True)) for values in pieces])
    for a, b in zip(split, gradients([batch]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_beta_rises_in_a_straight_line() -> None:
    objective = Variational(VariationalConfig(beta=4.0, warmup_steps=4))
    assert [objective.beta(step) for step in (0, 1, 3, 100)] == [1.0, 2.0, 4.0, 4.0]
    assert objective(make_vae(), make_batch(), make_context(1))["divergence"].weight == 2.0


def test_conditional_model_without_labels_and_other_networks_are_refused() -> None:
    batch = {name: value for name, value in make_batch().items() if name != "labels"}
    with pytest.raises(ConfigError, match="no labels"):
        Variational(VariationalConfig())(make_vae(), batch, make_context())
    with pytest.raises(UnsupportedError, match="encode_distribution"):
        Variational(VariationalConfig()).setup(nn.Linear(2, 2))
