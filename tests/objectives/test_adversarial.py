"""Adversarial learning against direct one-batch computations and closed forms, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.models.generative.dcgan import DCGAN, PRESETS, DCGANConfig
from layerwise.objectives.adversarial import Adversarial, AdversarialConfig
from layerwise.objectives.base import Context
from layerwise.ops.random import Draws

BATCH = 12
SPLITS = [[12], [4, 4, 4], [5, 5, 2], [1, 11]]


def make_gan(config: DCGANConfig = PRESETS["dcgan-tiny"]) -> DCGAN:
    torch.manual_seed(0)
    return DCGAN(config).double()


def make_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(BATCH, 1, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    return {"images": images, "sample_ids": torch.randperm(1000, generator=generator)[:BATCH]}


def make_context(phase: str, step: int = 0, training: bool = True) -> Context:
    return Context(step=step, epoch=0, phase=phase, draws=Draws(3, "noise", step, phase), training=training)


def loss_of_split(objective: Adversarial, gan: nn.Module, sizes: list[int], phase: str, step: int = 0) -> Tensor:
    """What the loop minimises: sums over micro-batches, divided by the counts of all of them."""
    batch = make_batch()
    parts = [
        dict(zip(batch, values, strict=True)) for values in zip(*(v.split(sizes) for v in batch.values()), strict=True)
    ]
    counts: dict[str, float] = {}
    for part in parts:
        for name, count in objective.counts(part, phase).items():
            counts[name] = counts.get(name, 0.0) + count
    total = torch.zeros((), dtype=torch.float64)
    for part in parts:
        for name, term in objective(gan, part, make_context(phase, step)).items():
            if term.minimised:
                total = total + term.weight * term.sum / counts[name]
    return total


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters())))


def direct_discriminator_loss(gan: DCGAN, loss: str, penalty: str, weight: float) -> Tensor:
    """The whole batch at once for the losses, one sample at a time for the penalties, from the papers' formulas."""
    batch = make_batch()
    draws, ids, x = Draws(3, "noise", 0, "discriminator"), batch["sample_ids"], batch["images"]
    fakes = gan.generator(draws.normal(ids, (gan.latent_size,), "latents", torch.float64)).detach()
    real, fake = gan.discriminator(x), gan.discriminator(fakes)
    if loss == "non_saturating":
        value = -torch.log(torch.sigmoid(real)).mean() - torch.log(1 - torch.sigmoid(fake)).mean()
    elif loss == "hinge":
        value = torch.clamp(1 - real, min=0).mean() + torch.clamp(1 + fake, min=0).mean()
    else:
        value = fake.mean() - real.mean()
    u = draws.uniform(ids, (1, 1, 1), "interpolation", torch.float64)
    penalties = []
    for i in range(len(x)):
        at = x[i : i + 1] if penalty == "r1" else (1 - u[i]) * x[i : i + 1] + u[i] * fakes[i : i + 1]
        at = at.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(gan.discriminator(at).sum(), at, create_graph=True)
        penalties.append(slope.pow(2).sum() / 2 if penalty == "r1" else (slope.pow(2).sum().sqrt() - 1) ** 2)
    return value if penalty == "none" else value + weight * torch.stack(penalties).mean()


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
@pytest.mark.parametrize("penalty", ["none", "r1", "gradient_penalty"])
@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "wasserstein"])
def test_discriminator_gradient_of_every_split_equals_direct_batch(loss: str, penalty: str, sizes: list[int]) -> None:
    gan = make_gan()
    config = AdversarialConfig(loss=loss, penalty=penalty, penalty_weight=5.0, penalty_every=4)  # type: ignore[arg-type]
    objective = Adversarial(config)
    objective.setup(gan)
    assert objective.per_batch == ()
    found = gradients(loss_of_split(objective, gan, sizes, "discriminator"), gan.discriminator)
    wanted = gradients(direct_discriminator_loss(gan, loss, penalty, 5.0 * 4), gan.discriminator)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_generator_gradient_of_every_split_equals_direct_batch(sizes: list[int]) -> None:
    gan = make_gan()
    objective = Adversarial(AdversarialConfig())
    objective.setup(gan)
    found = gradients(loss_of_split(objective, gan, sizes, "generator"), gan.generator)
    latents = Draws(3, "noise", 0, "generator").normal(
        make_batch()["sample_ids"], (gan.latent_size,), "latents", torch.float64
    )
    wanted = gradients(-F.logsigmoid(gan.discriminator(gan.generator(latents))).mean(), gan.generator)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


class LinearGAN(nn.Module):
    """D(x) = w.x, G(z) = z as a picture of 2 x 2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_size = 4
        self.generator = nn.Unflatten(1, (1, 2, 2))
        linear = nn.Linear(4, 1, bias=False).double()
        linear.weight.data = torch.tensor([[1.0, 2.0, 2.0, 4.0]], dtype=torch.float64)
        self.discriminator = nn.Sequential(nn.Flatten(), linear, nn.Flatten(0))


@pytest.mark.parametrize(("penalty", "value"), [("r1", 25.0 / 2), ("gradient_penalty", 16.0)])
def test_penalty_of_linear_discriminator_is_the_closed_form(penalty: str, value: float) -> None:
    """|w| = 5: R1 is |w|^2 / 2, the gradient penalty (|w| - 1)^2, wherever it is taken."""
    config = AdversarialConfig(penalty=penalty, penalty_weight=3.0, penalty_every=2)  # type: ignore[arg-type]
    objective = Adversarial(config)
    images = torch.rand(6, 1, 2, 2, dtype=torch.float64)
    batch = {"images": images, "sample_ids": torch.arange(6)}
    term = objective(LinearGAN(), batch, make_context("discriminator"))["penalty"]
    assert term.sum.item() / term.count == pytest.approx(value, rel=1e-12)
    assert term.weight == 6.0


def test_lazy_penalty_is_absent_between_its_steps() -> None:
    gan, objective = make_gan(), Adversarial(AdversarialConfig(penalty="r1", penalty_every=3))
    due = ["penalty" in objective(gan, make_batch(), make_context("discriminator", step)) for step in range(7)]
    assert due == [True, False, False, True, False, False, True]


def test_held_out_data_is_judged_without_penalty_and_gradients() -> None:
    gan, objective = make_gan(), Adversarial(AdversarialConfig(penalty="r1"))
    with torch.no_grad():
        terms = objective(gan, make_batch(), make_context("discriminator", training=False))
    assert "penalty" not in terms


def test_discriminator_phase_leaves_generator_without_gradient() -> None:
    gan, objective = make_gan(), Adversarial(AdversarialConfig(penalty="gradient_penalty"))
    loss_of_split(objective, gan, [BATCH], "discriminator").backward()
    assert all(parameter.grad is None for parameter in gan.generator.parameters())
    assert all(parameter.grad is not None for parameter in gan.discriminator.parameters())


def test_accuracy_counts_both_kinds_of_pictures() -> None:
    gan, objective = LinearGAN(), Adversarial(AdversarialConfig())
    images = torch.ones(4, 1, 2, 2, dtype=torch.float64)  # D = 9 > 0: all right
    ids = torch.arange(4)
    latents = Draws(3, "noise", 0, "discriminator").normal(ids, (4,), "latents", torch.float64)
    fakes_right = int((latents @ torch.tensor([1.0, 2.0, 2.0, 4.0], dtype=torch.float64) < 0).sum())
    term = objective(gan, {"images": images, "sample_ids": ids}, make_context("discriminator"))["accuracy"]
    assert term.sum.item() == (4 + fakes_right) / 2
    assert not term.minimised


def test_batch_norm_makes_terms_per_batch() -> None:
    config = DCGANConfig(in_channels=1, image_size=(8, 8), latent_size=4, widths=(16, 8), generator_norm="batch")
    objective = Adversarial(AdversarialConfig())
    objective.setup(make_gan(config))
    assert {"real", "fake", "penalty", "generator"} <= set(objective.per_batch)
    assert objective.counts(make_batch(), "discriminator") == {}


def test_network_without_discriminator_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="discriminator"):
        Adversarial(AdversarialConfig()).setup(nn.Linear(2, 2))
