"""Variational autoencoders on MNIST and Fashion-MNIST."""

from dataclasses import replace

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def vae_mnist() -> Recipe:
    """784-200-200-50 and back on binary MNIST: a 500-sample bound of 88.2 nats a test picture.

    Burda et al. (2016) report 86.76 for this network. Training pictures are binarised anew in every epoch, as there;
    test pictures once, by a hash of their sample id. The divergence counts in full only after 30,000 of 178,200 steps,
    so that more of the code comes to be used (Sonderby et al. 2016).
    """
    return Recipe(
        task=component("image_density", binarise="sampled"),
        model=component("vae"),
        data=component("mnist", val=0.01, augment=[component("binarise")]),
        objective=component("variational", warmup_steps=30_000),
        optimizer=component("Adam", lr=2e-3),
        schedule=component("cosine"),
        epochs=300,
        batch_size=100,
        eval=Eval(every_epochs=60, monitor="last"),
    )


def vae_mnist_conditional() -> Recipe:
    """The same network with the class told to encoder and decoder: the report draws every digit in the same hand."""
    return Recipe(
        task=component("image_density", binarise="sampled"),
        model=component("vae", conditional=True),
        data=component("mnist", augment=[component("binarise")]),
        objective=component("variational"),
        optimizer=component("Adam", lr=1e-3),
        schedule=component("cosine"),
        epochs=60,
        batch_size=100,
        eval=Eval(every_epochs=20, monitor="last"),
    )


def vae_fashion() -> Recipe:
    """Convolutions and grey levels on Fashion-MNIST, measured as the adversarial networks are: by its samples.

    With `objective.beta=1` reconstructions are sharp and codes from the prior give no clothes; the distance of samples
    is a seventh of that with 12.
    """
    return Recipe(
        task=component("image_generation", normalise="unit", judge="judge_fashion", evaluated=2000),
        model=component("vae-conv", likelihood="gaussian"),
        data=component("fashion_mnist"),
        objective=component("variational", beta=12.0),
        optimizer=component("Adam", lr=1e-3),
        schedule=component("cosine"),
        epochs=30,
        batch_size=128,
        eval=Eval(every_epochs=5, monitor="last"),
    )


def vae_mnist_paper() -> Recipe:
    """The published setting of Burda et al. (2016) for one stochastic layer: Adam, 3^i passes at 0.001 / 10^(i / 7) for
    i = 0 ... 7, 3,280 in all, batches of 20.
    """
    ends = [float(sum(3**j for j in range(i + 1))) for i in range(7)]
    return replace(
        vae_mnist(),
        objective=component("variational"),
        optimizer=component("Adam", lr=1e-3, eps=1e-4),
        schedule=component("step", milestones=ends, gamma=10 ** (-1 / 7)),
        epochs=3280,
        batch_size=20,
        eval=Eval(every_epochs=100, monitor="last"),
    )
