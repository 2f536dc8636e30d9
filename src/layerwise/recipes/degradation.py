"""Degradation: without shortcuts more layers fit the training pictures far worse (He et al. 2015, figure 6).

The four recipes differ in the network alone. `layerwise runs draw` puts their curves into one picture.
"""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def _on_cifar(model: str) -> Recipe:
    return Recipe(
        task=component("image_classification"),
        model=component(model),
        data=component("cifar10_subset", augment=[component("flip"), component("crop", padding=4)]),
        objective=component("cross_entropy", show_accuracy=True),
        optimizer=component("SGD", lr=0.05, momentum=0.9, weight_decay=1e-4),
        schedule=component("step", milestones=[32.0, 40.0]),
        epochs=48,
        batch_size=64,
        eval=Eval(every_epochs=1, monitor="last"),
    )


def degradation_plain20() -> Recipe:
    """20 layers without shortcuts on 4,000 pictures of CIFAR-10, rate divided by ten twice."""
    return _on_cifar("plain20_cifar")


def degradation_plain56() -> Recipe:
    """56 layers without shortcuts, all else the same: a higher training error than 20 layers have."""
    return _on_cifar("plain56_cifar")


def degradation_resnet20() -> Recipe:
    """20 layers with shortcuts, all else the same."""
    return _on_cifar("resnet20_cifar")


def degradation_resnet56() -> Recipe:
    """56 layers with shortcuts, all else the same: nearly as good a fit as 20 layers have in so few steps."""
    return _on_cifar("resnet56_cifar")
