"""Adversarial networks on Fashion-MNIST beside `dcgan_fashion`, and on a person's own pictures."""

from layerwise.core.config import Component, component
from layerwise.train.recipe import EMA, Eval, Phase, Recipe


def _phases(
    rate: float, generator_rate: float, *, beta1: float = 0.0, beta2: float = 0.99, critic: int = 1
) -> tuple[Phase, ...]:
    return _both(
        component("Adam", lr=rate, beta1=beta1, beta2=beta2),
        component("Adam", lr=generator_rate, beta1=beta1, beta2=beta2),
        critic=critic,
    )


def _both(discriminator: Component, generator: Component, *, critic: int = 1) -> tuple[Phase, ...]:
    """A phase a network, of these optimisers; `critic` steps of the discriminator to one of the generator."""
    return (
        Phase(name="discriminator", parameters=("discriminator.*",), optimizer=discriminator, repeat=critic),
        Phase(name="generator", parameters=("generator.*",), optimizer=generator),
    )


def gan_fashion() -> Recipe:
    """The fully connected networks of 2014 with the non-saturating loss and nothing else."""
    return Recipe(
        task=component("image_generation", judge="judge_fashion", evaluated=2000),
        model=component("gan"),
        data=component("fashion_mnist"),
        objective=component("adversarial"),
        phases=_phases(2e-4, 2e-4, beta1=0.5, beta2=0.999),
        ema=EMA(decay=0.998, parameters=("generator.*",)),
        epochs=30,
        batch_size=128,
        eval=Eval(every_epochs=3),
    )


def wgan_gp_fashion() -> Recipe:
    """DCGAN's networks as a Wasserstein critic with gradient penalty: five steps of the critic to one of the generator
    (Gulrajani et al. 2017, algorithm 1).
    """
    return Recipe(
        task=component("image_generation", judge="judge_fashion", evaluated=2000),
        model=component("dcgan"),
        data=component("fashion_mnist"),
        objective=component("adversarial", loss="wasserstein", penalty="gradient_penalty", penalty_weight=10.0),
        phases=_phases(4e-4, 4e-4, beta1=0.0, beta2=0.9, critic=5),
        ema=EMA(decay=0.998, parameters=("generator.*",)),
        epochs=2,
        batch_size=64,
        eval=Eval(every_epochs=1, monitor="last"),
    )


def stylegan2_fashion() -> Recipe:
    """StyleGAN2 at 32 x 32 with path-length regularisation, lazy R1 and style mixing, 20 minutes on two cores."""
    return Recipe(
        task=component("image_generation", judge="judge_fashion", evaluated=2000),
        model=component("stylegan2-small"),
        data=component("fashion_mnist", pad=2),
        objective=component("style_adversarial", penalty="r1", penalty_weight=0.5, penalty_every=16),
        phases=_phases(2e-3, 2e-3),
        ema=EMA(decay=0.998, parameters=("generator.*",)),
        max_steps=4350,
        batch_size=32,
        eval=Eval(every_epochs=1, monitor="last"),
    )


def image_generation() -> Recipe:
    """New pictures like those in a folder: `data.root=./photos`, 200 may do.

    A small StyleGAN2 on squares of 32 pixels (`data.size=64`: larger and slower); what the discriminator sees is
    augmented, so that it does not learn few pictures by heart.
    """
    return Recipe(
        task=component("image_generation"),
        model=component("stylegan2-small"),
        data=component("pictures", size=32, augment=[component("flip")]),
        objective=component(
            "style_adversarial",
            penalty="r1",
            penalty_weight=0.5,
            penalty_every=16,
            augment=("colour", "translation", "cutout"),
        ),
        phases=_phases(2e-3, 2e-3),
        ema=EMA(decay=0.998, parameters=("generator.*",)),
        max_steps=4000,
        batch_size=32,
        eval=Eval(every_epochs=None, every_steps=500, monitor="last"),
    )


# --------------------------------------------------------------------------------------------------------- as published


def gan_paper() -> Recipe:
    """The published setting for MNIST, as far as its code says it: two layers of 1,200 units, stochastic gradient
    descent with momentum at 0.1, batches of 100. The code lets rate and momentum change as it goes.
    """
    descent = component("SGD", lr=0.1, momentum=0.5)
    return Recipe(
        task=component("image_generation"),
        model=component("gan", latent_size=100, hidden_sizes=[1200, 1200], dropout=0.5),
        data=component("mnist"),
        objective=component("adversarial"),
        phases=_both(descent, descent),
        epochs=100,
        batch_size=100,
        eval=Eval(every_epochs=10, monitor="last"),
    )


def dcgan_paper() -> Recipe:
    """The published setting for LSUN's bedrooms, `data.root=./bedrooms`: 64 x 64 pixels, Adam at 2e-4 with a first
    moment of 0.5, batches of 128, five passes over three million pictures.
    """
    return Recipe(
        task=component("image_generation", evaluated=2000),
        model=component("dcgan-2015"),
        data=component("pictures", size=64),
        objective=component("adversarial"),
        phases=_phases(2e-4, 2e-4, beta1=0.5, beta2=0.999),
        epochs=5,
        batch_size=128,
        eval=Eval(every_epochs=1, monitor="last"),
    )


def wgan_gp_paper() -> Recipe:
    """The published algorithm with DCGAN's networks on LSUN's bedrooms, `data.root=./bedrooms`: Adam at 1e-4 without a
    first moment, five steps of the critic to one of the 200,000 of the generator, batches of 64.
    """
    return Recipe(
        task=component("image_generation", evaluated=2000),
        model=component("dcgan-2015", discriminator_norm="none"),
        data=component("pictures", size=64),
        objective=component("adversarial", loss="wasserstein", penalty="gradient_penalty", penalty_weight=10.0),
        phases=_phases(1e-4, 1e-4, beta1=0.0, beta2=0.9, critic=5),
        max_steps=200_000,
        batch_size=64,
        eval=Eval(every_epochs=None, every_steps=10_000, monitor="last"),
    )


def stylegan2_paper() -> Recipe:
    """The published configuration F on FFHQ, `data.root=./ffhq`: 1024 x 1024 pixels, 25 million pictures in batches of
    32, R1 of 10 in every 16th step, averaged weights with a half-life of 10,000 pictures.
    """
    return Recipe(
        task=component("image_generation", evaluated=2000),
        model=component("stylegan2"),
        data=component("pictures", size=1024, augment=[component("flip")]),
        objective=component("style_adversarial", penalty="r1", penalty_weight=10.0, penalty_every=16, path_every=8),
        phases=_phases(2e-3, 2e-3),
        ema=EMA(decay=0.5 ** (32 / 10_000), parameters=("generator.*",)),
        max_steps=25_000_000 // 32,
        batch_size=32,
        eval=Eval(every_epochs=None, every_steps=10_000, monitor="last"),
    )
