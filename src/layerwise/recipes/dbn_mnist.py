"""Deep belief networks on MNIST: restricted Boltzmann machines trained one after the other, then fine-tuning."""

from dataclasses import replace

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe, Stage

_LAYERS = 3


def dbn_mnist() -> Recipe:
    """Greedy pre-training by contrastive divergence, then backpropagation: at most 1.4 % of the test digits wrong.

    No augmentation, and nothing in the network knows which pixels are neighbours. The paper's error, with labels in the
    top machine and the up-down algorithm, is 1.25 %.
    """
    return Recipe(
        task=component("image_classification", normalise="unit"),
        model=component("deep_belief_network", dropout=0.4, input_dropout=0.2),
        data=component("mnist"),
        objective=component("cross_entropy"),
        optimizer=component("SGD", lr=0.05, momentum=0.9, weight_decay=2e-4),
        stages=(
            *_greedy(epochs=10),
            Stage(
                name="fine-tune",
                optimizer=component("AdamW", lr=1e-3, weight_decay=0.01),
                schedule=component("cosine"),
                epochs=70,
                freeze=("*.visible_bias",),
            ),
        ),
        batch_size=128,
        eval=Eval(every_epochs=5, monitor="last"),
    )


def dbn_mnist_paper() -> Recipe:
    """The published greedy stages, 50 passes each, then backpropagation as Hinton and Salakhutdinov (2006) have it.

    They reached 1.2 % with conjugate gradients, Hinton, Osindero and Teh 1.25 % with the up-down algorithm; here
    fine-tuning is by stochastic gradient descent.
    """
    return Recipe(
        task=component("image_classification", normalise="unit"),
        model=component("deep_belief_network"),
        data=component("mnist"),
        objective=component("cross_entropy"),
        optimizer=component("SGD", lr=0.05, momentum=0.9, weight_decay=2e-4),
        stages=(
            *_greedy(epochs=50, visible="mean"),
            Stage(name="fine-tune", epochs=50, freeze=("*.visible_bias",)),
        ),
        batch_size=100,
        eval=Eval(every_epochs=10, monitor="last"),
    )


def dbn_mnist_100() -> Recipe:
    """Labels for 100 pictures a class: the machines learn from all 54,000, the classifier from 1,000 of them."""
    return replace(
        dbn_mnist(),
        stages=(*_greedy(epochs=10), replace(_FEW_LABELS, freeze=("*.visible_bias",))),
        eval=Eval(every_epochs=None, every_steps=1000, monitor="last"),
    )


def dbn_mnist_100_scratch() -> Recipe:
    """What `dbn_mnist_100` is measured against: the same network on the same 1,000 pictures, from random weights.

    They are drawn from Glorot's distribution: from the machines' own, N(0, 0.01), logistic layers hardly learn.
    """
    return replace(
        dbn_mnist(),
        init="glorot_normal",
        stages=(replace(_FEW_LABELS, freeze=("*.visible_bias",)),),
        eval=Eval(every_epochs=None, every_steps=1000, monitor="last"),
    )


def dbn_mnist_samples() -> Recipe:
    """The stack as a generative model: no classifier, and digits drawn by a chain in its top machine.

    That machine learns by persistent chains: contrastive divergence leaves probability where it never looks, far from
    the data, and there a long chain ends.
    """
    top = replace(
        _greedy(epochs=10)[-1],
        objective=component("contrastive_divergence", layer=2, persistent=128),
        optimizer=component("SGD", lr=0.05, momentum=0.0),
        schedule=component("linear"),
    )
    return Recipe(
        task=component("image_generation", normalise="unit"),
        model=component("deep_belief_network", num_classes=10, gibbs_steps=500),
        data=component("mnist"),
        objective=component("contrastive_divergence"),
        optimizer=component("SGD", lr=0.05, momentum=0.9, weight_decay=2e-4),
        stages=(*_greedy(epochs=10)[:-1], top),
        batch_size=128,
        eval=Eval(every_epochs=None, monitor="last"),
    )


_FEW_LABELS = Stage(
    name="fine-tune",
    optimizer=component("AdamW", lr=1e-3, weight_decay=0.01),
    schedule=component("cosine"),
    max_steps=2000,
    limit=100,
)


def _greedy(*, epochs: float, visible: str = "sample") -> tuple[Stage, ...]:
    """One stage of contrastive divergence a machine, from the bottom up, all else frozen."""
    return tuple(
        Stage(
            name=f"pretrain-{layer + 1}",
            objective=component("contrastive_divergence", layer=layer, visible=visible),
            epochs=epochs,
            freeze=(*(f"blocks.{other}.*" for other in range(_LAYERS) if other != layer), "classifier.*"),
        )
        for layer in range(_LAYERS)
    )
