"""Autoencoding for latent diffusion: each term against naive float64 loops, the start step, splits of a batch."""

import math

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.models.generative.autoencoder_kl import PRESETS, AutoencoderKL
from layerwise.models.generative.latent_diffusion import PRESETS as LATENT_PRESETS
from layerwise.models.generative.latent_diffusion import LatentDiffusion
from layerwise.objectives.base import Context, Term
from layerwise.objectives.kl_autoencoding import (
    KLAutoencoding,
    KLAutoencodingConfig,
    adaptive_weight,
    perceptual_distance,
)
from layerwise.ops.random import Draws

TINY = PRESETS["autoencoder-kl-tiny"]


def context(phase: str = "main", step: int = 0) -> Context:
    return Context(step=step, epoch=0, phase=phase, draws=Draws(0, "noise", step, phase))


def batch(count: int = 3, first: int = 0) -> dict[str, Tensor]:
    images = torch.rand(8, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return {"images": images[first : first + count], "sample_ids": torch.arange(first, first + count)}


def made(**options: object) -> tuple[KLAutoencoding, AutoencoderKL]:
    torch.manual_seed(0)
    network = AutoencoderKL(TINY).double()
    options = {"discriminator_width": 16, "discriminator_levels": 1, **options}
    objective = KLAutoencoding(KLAutoencodingConfig(**options))  # type: ignore[arg-type]
    objective.setup(network)
    objective.double()
    if objective.discriminator is not None:  # strong enough that hinges bend
        with torch.no_grad():
            for parameter in objective.discriminator.parameters():
                parameter.mul_(10.0)
    return objective, network


def drawn(network: AutoencoderKL, images: Tensor, ids: Tensor, phase: str, step: int) -> tuple[Tensor, ...]:
    """Reconstruction, mean and log variance."""
    mean, log_variance = network.encode(images)
    noise = context(phase, step).draws.normal(ids, tuple(mean.shape[1:]), "latents", torch.float64)
    return network.decode(mean + torch.exp(log_variance / 2) * noise), mean, log_variance


@pytest.mark.parametrize("distance", ["absolute", "squared"])
def test_pixels_and_divergence_are_those_of_naive_loops(distance: str) -> None:
    """float64, 1e-10."""
    objective, network = made(distance=distance, kl_weight=0.25)
    given = batch()
    terms = objective(network, given, context())
    r, mean, log_variance = drawn(network, given["images"], given["sample_ids"], "main", 0)
    pixels = divergence = 0.0
    for x, y in zip(given["images"].flatten().tolist(), r.flatten().tolist(), strict=True):
        pixels += abs(x - y) if distance == "absolute" else (x - y) ** 2
    for m, v in zip(mean.flatten().tolist(), log_variance.flatten().tolist(), strict=True):
        divergence += (m * m + math.exp(v) - 1 - v) / 2
    assert set(terms) == {"pixels", "divergence"}
    assert terms["pixels"].sum.item() == pytest.approx(pixels / 768, rel=1e-10)
    assert terms["divergence"].sum.item() == pytest.approx(divergence / 768, rel=1e-10)
    assert (terms["pixels"].weight, terms["divergence"].weight) == (1.0, 0.25)
    assert terms["pixels"].count == objective.counts(given, "main")["pixels"] == 3.0


class TwoMaps(nn.Module):
    """A network whose maps can be written down: the picture, and every second pixel of it squared."""

    pyramid_channels, pyramid_strides = (3, 3), (1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(()))

    def forward_pyramid(self, images: Tensor) -> list[Tensor]:
        return [images * self.unused, images[..., ::2, ::2].square()]


def naive_distance(x: Tensor, y: Tensor) -> float:
    total = 0.0
    for a, b in zip(TwoMaps().forward_pyramid(x[None]), TwoMaps().forward_pyramid(y[None]), strict=True):
        places = [(i, j) for i in range(a.shape[2]) for j in range(a.shape[3])]
        for i, j in places:
            u, v = a[0, :, i, j].tolist(), b[0, :, i, j].tolist()
            nu, nv = math.hypot(*u), math.hypot(*v)
            total += sum((p / nu - q / nv) ** 2 for p, q in zip(u, v, strict=True)) / len(places)
    return total


def test_perceptual_distance_is_that_of_naive_loops() -> None:
    """float64, 1e-9."""
    x, y = batch()["images"], batch(3, 3)["images"]
    found = perceptual_distance(TwoMaps(), x, y)
    assert found.tolist() == pytest.approx([naive_distance(a, b) for a, b in zip(x, y, strict=True)], rel=1e-9)
    assert perceptual_distance(TwoMaps(), x, x).tolist() == [0.0, 0.0, 0.0]


def test_distances_are_measured_in_a_network_that_is_given_which_does_not_learn() -> None:
    network, eye = AutoencoderKL(TINY).double(), TwoMaps().double()
    objective = KLAutoencoding(KLAutoencodingConfig(perceptual_weight=0.5), eye)
    objective.setup(network)
    objective.train()
    assert objective.phases == ("main",)
    assert objective.discriminator is None
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    given = batch()
    term = objective(network, given, context())["perceptual"]
    r = drawn(network, given["images"], given["sample_ids"], "main", 0)[0]
    expected = sum(naive_distance(a, b) for a, b in zip(given["images"], r, strict=True))
    assert term.sum.item() == pytest.approx(expected, rel=1e-9)
    assert term.weight == 0.5
    with pytest.raises(ConfigError, match="perceptual_weight=0"):
        KLAutoencoding(KLAutoencodingConfig(), TwoMaps())
    with pytest.raises(UnsupportedError, match="perceptual term"):
        KLAutoencoding(KLAutoencodingConfig(perceptual_weight=1.0), nn.Linear(1, 1))


def test_the_discriminator_has_the_hinge_loss_and_the_autoencoder_its_mean() -> None:
    """float64, 1e-9, patch by patch."""
    objective, network = made(adversarial_weight=0.5, adaptive=False)
    assert objective.phases == ("autoencoder", "discriminator")
    assert objective.discriminator is not None
    given = batch()
    losses = []
    for x, r in zip(given["images"], drawn(network, given["images"], given["sample_ids"], "discriminator", 7)[0],
                    strict=True):  # fmt: skip
        real, fake = (objective.discriminator(picture[None]).flatten().tolist() for picture in (x, r))
        losses.append(sum(max(0.0, 1 - d) for d in real) / len(real) / 2)
        losses.append(sum(max(0.0, 1 + d) for d in fake) / len(fake) / 2)
    found = objective(network, given, context("discriminator", 7))
    assert set(found) == {"discriminator"}
    assert found["discriminator"].sum.item() == pytest.approx(sum(losses), rel=1e-9)
    pleased = objective(network, given, context("autoencoder", 7))["adversarial"]
    r = drawn(network, given["images"], given["sample_ids"], "autoencoder", 7)[0]
    means = [-objective.discriminator(picture[None]).mean().item() for picture in r]
    assert pleased.sum.item() == pytest.approx(sum(means), rel=1e-9)
    assert pleased.weight == 0.5


def test_the_adversarial_term_gets_the_strength_of_the_others_at_the_last_layer() -> None:
    """With the weight, gradients of both at the decoder's last layer have equal lengths (up to the 1e-4 in the
    divisor); by finite differences of naive losses.
    """
    objective, network = made(adversarial_weight=1.0, distance="squared")
    given = batch()
    term = objective(network, given, context("autoencoder"))["adversarial"]
    assert objective.discriminator is not None
    weight, lengths, h = network.last_layer, [0.0, 0.0], 1e-6
    with torch.no_grad():
        for flat in range(weight.numel()):
            values = []
            for sign in (1, -1):
                weight.view(-1)[flat] += sign * h
                r = drawn(network, given["images"], given["sample_ids"], "autoencoder", 0)[0]
                pixels = (given["images"] - r).square().sum() / 768
                values.append((pixels, -objective.discriminator(r).flatten(1).mean(1).sum()))
                weight.view(-1)[flat] -= sign * h
            for i in range(2):
                lengths[i] += float((values[0][i] - values[1][i]) / (2 * h)) ** 2
    expected = math.sqrt(lengths[0]) / (math.sqrt(lengths[1]) + 1e-4)
    r = drawn(network, given["images"], given["sample_ids"], "autoencoder", 0)[0]
    pleased = -objective.discriminator(r).flatten(1).mean(1).sum()
    assert (term.sum / pleased).item() == pytest.approx(expected, rel=1e-5)
    assert objective.per_batch == ("adversarial",)


def test_the_adaptive_weight_has_a_ceiling() -> None:
    w = torch.ones(2, dtype=torch.float64, requires_grad=True)
    assert adaptive_weight(1e9 * w.sum(), (1e-9 * w).sum(), w).item() == 1e4
    assert adaptive_weight(3 * w[0], 4 * w[1], w).item() == pytest.approx(3 / 4.0001, rel=1e-12)


def test_before_its_step_the_discriminator_neither_learns_nor_counts() -> None:
    objective, network = made(adversarial_weight=1.0, perceptual_weight=1.0, start_step=5)
    before = objective(network, batch(), context("discriminator", 4))["discriminator"].sum
    before.backward()
    assert before.item() == 0.0
    assert all(float(p.grad.abs().max()) == 0.0 for p in objective.parameters() if p.grad is not None)
    assert set(objective(network, batch(), context("autoencoder", 4))) == {"pixels", "divergence"}
    names = {"pixels", "divergence", "perceptual", "adversarial"}
    assert set(objective(network, batch(), context("autoencoder", 5))) == names
    assert objective(network, batch(), context("discriminator", 5))["discriminator"].sum.item() > 0


def gradient(terms: list[dict[str, Term]], network: nn.Module) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for part in terms:
        for term in part.values():
            total = total + term.weight * term.sum / 6
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, list(network.parameters()))])


def test_the_gradient_does_not_depend_on_how_a_batch_was_split() -> None:
    """Without the adaptive weight; float64, 1e-10."""
    objective, network = made(adversarial_weight=0.3, perceptual_weight=0.7, adaptive=False)
    now = context("autoencoder")
    whole = gradient([objective(network, batch(6), now)], network)
    halves = gradient([objective(network, batch(2), now), objective(network, batch(4, 2), now)], network)
    torch.testing.assert_close(whole, halves, rtol=1e-10, atol=1e-12)


def test_a_network_that_holds_an_autoencoder_trains_that() -> None:
    network = LatentDiffusion(LATENT_PRESETS["latent-diffusion-tiny"]).double()
    objective = KLAutoencoding(KLAutoencodingConfig())
    objective.setup(network)
    terms = objective(network, batch(), context())
    (terms["pixels"].sum + terms["divergence"].sum).backward()
    reached = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert reached == {"vae"}
    with pytest.raises(UnsupportedError, match="objective=kl_autoencoding"):
        KLAutoencoding(KLAutoencodingConfig()).setup(nn.Linear(1, 1))
