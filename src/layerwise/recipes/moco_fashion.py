"""Momentum contrast on Fashion-MNIST."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def moco_fashion() -> Recipe:
    """Features learned without labels, probed with ten labels a class."""
    return Recipe(
        task=component("representation"),
        model=component("convnet"),
        data=component("fashion_mnist", augment=[component("two_views")]),
        objective=component("momentum_contrast"),
        optimizer=component("AdamW", lr=2e-3, weight_decay=1e-4),
        schedule=component("cosine"),
        freeze=("classifier.*",),
        epochs=5,
        batch_size=256,
        eval=Eval(every_epochs=1),
    )
