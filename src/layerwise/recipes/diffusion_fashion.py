"""Diffusion models on Fashion-MNIST: the same pictures, the same judge."""

from layerwise.core.config import Component, component
from layerwise.train.recipe import EMA, Eval, Recipe


def _of_classes(model: str, objective: Component, sampler: str, *, steps: int, epochs: int) -> Recipe:
    """Clothes by class from noise, 28 x 28. Pictures are slow to make: evaluations as training goes make 128, the last
    as many as the judge looks at.
    """
    return Recipe(
        task=component(
            "image_generation",
            condition="class",
            sampler={"name": sampler, "steps": steps, "spacing": "trailing"},
            guidance=1.5,
            judge="judge_fashion",
            evaluated=128,
        ),
        model=component(model),
        data=component("fashion_mnist"),
        objective=objective,
        optimizer=component("AdamW", lr=1e-3, weight_decay=0.0),
        schedule=component("cosine", warmup_share=0.05),
        ema=EMA(decay=0.999),
        clip=1.0,
        epochs=epochs,
        batch_size=64,
        eval=Eval(every_epochs=1, monitor="last"),
    )


def ddpm_fashion() -> Recipe:
    """A small U-Net that predicts v on the cosine schedule, 50 DDIM steps."""
    denoising = component("denoising", process={"schedule": "cosine", "prediction": "v"}, min_snr=5.0)
    return _of_classes("ddpm-small", denoising, "ddim", steps=50, epochs=2)


def flow_fashion() -> Recipe:
    """The same network by flow matching: 10 Euler steps."""
    return _of_classes("ddpm-small", component("flow_matching", times="logit_normal"), "flow_euler", steps=10, epochs=2)


def dit_fashion() -> Recipe:
    """A transformer over 4 x 4 patches by flow matching, 25 Euler steps."""
    return _of_classes("dit-mini", component("flow_matching", times="logit_normal"), "flow_euler", steps=25, epochs=3)


# --------------------------------------------------------------------------------------------------------- as published


def ddpm_paper() -> Recipe:
    """The published setting for CIFAR-10: 800,000 steps of 128 pictures at 2e-4, dropout, flips, averaged weights, and
    1,000 steps from noise to picture.
    """
    return Recipe(
        task=component(
            "image_generation", sampler={"name": "ddpm", "steps": 1000, "clip": 1.0, "variance": "large"}, evaluated=64
        ),
        model=component("ddpm-cifar10", num_classes=0, dropout=0.1),
        data=component("cifar10", augment=[component("flip")]),
        objective=component("denoising"),
        optimizer=component("Adam", lr=2e-4),
        schedule=component("constant", warmup_steps=5000),
        ema=EMA(decay=0.9999),
        clip=1.0,
        max_steps=800_000,
        batch_size=128,
        eval=Eval(every_epochs=None, every_steps=50_000, monitor="last"),
    )


def flow_matching_paper() -> Recipe:
    """The published setting for CIFAR-10: a U-Net of 256 channels, 391,000 steps of 256 pictures, rate 5e-4 after a
    warm-up of 45,000 steps. The paper's samples are made by an adaptive solver of 142 steps.
    """
    return Recipe(
        task=component(
            "image_generation", sampler={"name": "flow_euler", "steps": 142, "spacing": "trailing"}, evaluated=64
        ),
        model=component("ddpm-cifar10", num_classes=0, widths=[256, 512, 512, 512], head_dim=64, scale_shift=True),
        data=component("cifar10"),
        objective=component("flow_matching"),
        optimizer=component("Adam", lr=5e-4),
        schedule=component("linear", warmup_steps=45_000),
        max_steps=391_000,
        batch_size=256,
        eval=Eval(every_epochs=None, every_steps=50_000, monitor="last"),
    )
