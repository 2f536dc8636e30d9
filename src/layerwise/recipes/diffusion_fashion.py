"""Diffusion models on Fashion-MNIST: the same pictures, the same judge."""

from layerwise.core.config import component
from layerwise.train.recipe import EMA, Eval, Recipe


def ddpm_fashion() -> Recipe:
    """Clothes by class from noise, 28 x 28: a small U-Net that predicts v on the cosine schedule, 50 DDIM steps."""
    return Recipe(
        task=component(
            "image_generation",
            condition="class",
            sampler={"name": "ddim", "steps": 50, "spacing": "trailing"},
            guidance=1.5,
            evaluated=1000,
        ),
        model=component("ddpm-small"),
        data=component("fashion_mnist"),
        objective=component("denoising", process={"schedule": "cosine", "prediction": "v"}, min_snr=5.0),
        optimizer=component("AdamW", lr=1e-3, weight_decay=0.0),
        schedule=component("cosine", warmup_share=0.05),
        ema=EMA(decay=0.999),
        clip=1.0,
        epochs=12,
        batch_size=128,
        eval=Eval(every_epochs=4),
    )


def flow_fashion() -> Recipe:
    """The same network by flow matching: 10 Euler steps."""
    return Recipe(
        task=component(
            "image_generation",
            condition="class",
            sampler={"name": "flow_euler", "steps": 10, "spacing": "trailing"},
            guidance=1.5,
            evaluated=1000,
        ),
        model=component("ddpm-small"),
        data=component("fashion_mnist"),
        objective=component("flow_matching", times="logit_normal"),
        optimizer=component("AdamW", lr=1e-3, weight_decay=0.0),
        schedule=component("cosine", warmup_share=0.05),
        ema=EMA(decay=0.999),
        clip=1.0,
        epochs=12,
        batch_size=128,
        eval=Eval(every_epochs=4),
    )


def dit_fashion() -> Recipe:
    """A transformer over 4 x 4 patches by flow matching, 25 Euler steps."""
    return Recipe(
        task=component(
            "image_generation",
            condition="class",
            sampler={"name": "flow_euler", "steps": 25, "spacing": "trailing"},
            guidance=1.5,
            evaluated=1000,
        ),
        model=component("dit-mini"),
        data=component("fashion_mnist"),
        objective=component("flow_matching", times="logit_normal"),
        optimizer=component("AdamW", lr=1e-3, weight_decay=0.0),
        schedule=component("cosine", warmup_share=0.05),
        ema=EMA(decay=0.999),
        clip=1.0,
        epochs=16,
        batch_size=128,
        eval=Eval(every_epochs=4),
    )
