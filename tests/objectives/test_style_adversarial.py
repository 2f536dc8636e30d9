"""Style mixing, path lengths and running means against direct computations, in float64; splits of a batch."""

import math

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.models.generative.dcgan import DCGAN
from layerwise.models.generative.dcgan import PRESETS as DCGANS
from layerwise.models.generative.stylegan2 import PRESETS, StyleGAN2
from layerwise.objectives.base import Context
from layerwise.objectives.style_adversarial import StyleAdversarial, StyleAdversarialConfig, path_lengths
from layerwise.ops.random import Draws

BATCH = 12


def make_gan() -> StyleGAN2:
    torch.manual_seed(0)
    gan = StyleGAN2(PRESETS["stylegan2-tiny"]).double()
    with torch.no_grad():
        for name, parameter in gan.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.3)
    return gan


def make_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(BATCH, 1, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    return {"images": images, "sample_ids": torch.randperm(1000, generator=generator)[:BATCH]}


def make_context(phase: str, step: int = 0, training: bool = True) -> Context:
    return Context(step=step, epoch=0, phase=phase, draws=Draws(3, "noise", step, phase), training=training)


def make_objective(gan: nn.Module, **options: object) -> StyleAdversarial:
    objective = StyleAdversarial(StyleAdversarialConfig(**options)).double()  # type: ignore[arg-type]
    objective.setup(gan)
    return objective


def test_path_lengths_are_the_norms_of_the_jacobian_applied_to_noise() -> None:
    """The Jacobian itself, one picture at a time."""
    gan = make_gan()
    styles = torch.randn(2, gan.num_styles, 8, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(2, 1, 8, 8, dtype=torch.float64) / 8
    found = path_lengths(gan.generator.synthesis(styles), styles, noise)
    for b in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda w: gan.generator.synthesis(w)[0].flatten(), styles[b : b + 1].detach()
        )
        applied = torch.einsum("p,pls->ls", noise[b].flatten(), jacobian[:, 0])
        wanted = math.sqrt(float(applied.pow(2).sum(1).mean()))
        assert found[b].item() == pytest.approx(wanted, rel=1e-8)


def test_path_length_of_a_linear_generator_is_the_closed_form() -> None:
    """Picture = the first style, scaled by a: the length is a |y|."""
    styles = torch.randn(3, 1, 4, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    pictures = 2.5 * styles[:, 0].view(3, 1, 2, 2)
    wanted = 2.5 * noise.flatten(1).norm(dim=1)
    torch.testing.assert_close(path_lengths(pictures, styles, noise), wanted, rtol=1e-9, atol=1e-9)


def test_generator_terms_are_the_direct_computation() -> None:
    gan, batch = make_gan(), make_batch()
    objective = make_objective(gan, mixing=0.0, path_weight=2.0, path_every=4)
    objective.path_mean.fill_(0.7)
    terms = objective(gan, batch, make_context("generator"))
    draws, ids = Draws(3, "noise", 0, "generator"), batch["sample_ids"]
    styles = gan.generator.mapping(draws.normal(ids, (8,), "latents", torch.float64))
    styles = styles[:, None].repeat(1, gan.num_styles, 1)
    noise = draws.normal(ids, (gan.noise_size,), "noise", torch.float64)
    pictures = gan.generator.synthesis(styles, noise)
    wanted = -torch.log(torch.sigmoid(gan.discriminator(pictures))).sum()
    assert terms["generator"].sum.item() == pytest.approx(wanted.item(), rel=1e-10)
    y = draws.normal(ids, (1, 8, 8), "path", torch.float64) / 8
    lengths = path_lengths(pictures, styles, y)
    assert terms["path_length"].sum.item() == pytest.approx((lengths - 0.7).pow(2).sum().item(), rel=1e-8)
    assert (terms["path_length"].weight, terms["path_length"].count) == (8.0, 12.0)


def test_path_lengths_are_taken_every_few_steps_and_never_of_held_out_data() -> None:
    gan, batch = make_gan(), make_batch()
    objective = make_objective(gan, path_every=3)
    due = ["path_length" in objective(gan, batch, make_context("generator", step)) for step in range(5)]
    assert due == [True, False, False, True, False]
    assert "path_length" not in objective(gan, batch, make_context("generator", training=False))


def test_mixed_pictures_have_two_styles_and_the_others_one() -> None:
    gan = make_gan()
    objective = make_objective(gan, mixing=0.5)
    ids = torch.arange(400)
    batch = {"images": torch.zeros(400, 1, 8, 8, dtype=torch.float64), "sample_ids": ids}
    with torch.no_grad():
        styles = objective._mixed_styles(gan, batch, make_context("generator"))  # type: ignore[arg-type]
    levels = gan.num_styles
    cuts = []
    for row in styles:
        same = [torch.equal(row[level], row[0]) for level in range(levels)]
        cut = same.index(False) if False in same else levels
        assert same == [level < cut for level in range(levels)]
        assert all(torch.equal(row[level], row[-1]) for level in range(cut, levels))
        cuts.append(cut)
    share = sum(cut < levels for cut in cuts) / 400
    assert share == pytest.approx(0.5, abs=0.1)  # four standard errors
    assert set(cuts) == set(range(1, levels + 1))


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
@pytest.mark.parametrize("sizes", [[4, 4, 4], [5, 5, 2], [1, 11], [0, 12]], ids=str)
def test_gradient_and_means_of_every_split_equal_those_of_the_whole_batch(phase: str, sizes: list[int]) -> None:
    batch = make_batch()

    def step(parts: list[dict[str, Tensor]]) -> list[Tensor]:
        gan = make_gan()
        objective = make_objective(gan, penalty="r1", augment=("translation", "colour"))
        assert objective.per_batch == ()
        total = torch.zeros((), dtype=torch.float64)
        for part in parts:
            terms = objective(gan, part, make_context(phase))
            assert all(name in objective.counts(part, phase) for name in terms)
            total = total + sum(term.weight * term.sum / BATCH for term in terms.values() if term.minimised)
        own = gan.discriminator if phase == "discriminator" else gan.generator
        gradients = torch.autograd.grad(total, list(own.parameters()), allow_unused=True)
        objective.after_step(gan, make_context("after_step"))
        means = [objective.path_mean, gan.generator.mapping.w_avg.clone()]
        return [*(g for g in gradients if g is not None), *means]

    pieces = zip(*(value.split(sizes) for value in batch.values()), strict=True)
    split, whole = step([dict(zip(batch, values, strict=True)) for values in pieces]), step([batch])
    assert len(split) == len(whole)
    for a, b in zip(split, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_means_follow_the_steps_own_means() -> None:
    gan, batch = make_gan(), make_batch()
    objective = make_objective(gan, mixing=0.0, path_decay=0.25, style_decay=0.9)
    objective(gan, batch, make_context("generator"))
    draws, ids = Draws(3, "noise", 0, "generator"), batch["sample_ids"]
    with torch.no_grad():
        styles = gan.generator.mapping(draws.normal(ids, (8,), "latents", torch.float64))
    lengths = objective._lengths[0][1]
    objective.after_step(gan, make_context("after_step"))
    torch.testing.assert_close(gan.generator.mapping.w_avg, 0.1 * styles.mean(0), rtol=1e-10, atol=1e-12)
    assert objective.path_mean.item() == pytest.approx(0.25 * lengths.mean().item(), rel=1e-10)
    assert set(objective.state_dict()) == {"path_mean"}


def test_minibatch_deviation_makes_terms_per_batch() -> None:
    torch.manual_seed(0)
    config = PRESETS["stylegan2-tiny"]
    gan = StyleGAN2(
        type(config)(in_channels=1, image_size=(8, 8), latent_size=8, style_size=8, channel_base=64, channel_max=8)
    )
    objective = make_objective(gan)
    assert {"real", "fake", "generator"} <= set(objective.per_batch)
    assert set(objective.counts(make_batch(), "generator")) == {"path_length"}


def test_networks_without_styles_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="noise_size, num_styles"):
        make_objective(DCGAN(DCGANS["dcgan-tiny"]))
