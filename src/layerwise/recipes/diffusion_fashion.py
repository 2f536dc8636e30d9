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
    return _of_classes("dit-mini", component("flow_matching", times="logit_normal"), "flow_euler", steps=25, epochs=5)
