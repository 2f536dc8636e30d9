"""Adversarial networks on Fashion-MNIST beside `dcgan_fashion`, and on a person's own pictures."""

from layerwise.core.config import component
from layerwise.train.recipe import EMA, Eval, Phase, Recipe


def _phases(
    rate: float, generator_rate: float, *, beta1: float = 0.0, beta2: float = 0.99, critic: int = 1
) -> tuple[Phase, ...]:
    return (
        Phase(
            name="discriminator",
            parameters=("discriminator.*",),
            optimizer=component("Adam", lr=rate, beta1=beta1, beta2=beta2),
            repeat=critic,
        ),
        Phase(
            name="generator",
            parameters=("generator.*",),
            optimizer=component("Adam", lr=generator_rate, beta1=beta1, beta2=beta2),
        ),
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
