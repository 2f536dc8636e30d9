"""Momentum contrast on Fashion-MNIST."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def moco_fashion() -> Recipe:
    """Features learned without labels: with ten labels a class, a linear probe on them gets at least 71 % of the test.

    The same probe on raw pixels gets 67.3 %. Four passes over the training pictures, five minutes on two cores.
    """
    return Recipe(
        task=component("representation"),
        model=component("convnet", widths=[64, 128, 256], depth=1, pool_size=2),
        data=component(
            "fashion_mnist",
            augment=[component("two_views", scale=[0.4, 1.0], brightness=0.6, contrast=0.6, blur=0.5)],
        ),
        objective=component("momentum_contrast", temperature=0.2, hidden_size=512),
        optimizer=component("AdamW", lr=3e-3, weight_decay=1e-4),
        schedule=component("cosine", warmup_steps=50),
        freeze=("classifier.*",),
        epochs=4,
        batch_size=128,
        eval=Eval(every_epochs=1),
    )
