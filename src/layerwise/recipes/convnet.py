"""A small convolutional network on MNIST and on a tenth of CIFAR-10."""

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


def convnet_cifar() -> Recipe:
    """Nine convolutions on 4,000 pictures of CIFAR-10, from random weights, in the manner of speed runs (Muon, one
    cycle, half of the pictures mixed, ten views at the end): at least 72 % of the test pictures right, in under 20
    minutes on two cores.
    """
    return Recipe(
        task=component("image_classification", test_time=["flip", "shift"]),
        model=component("convnet", widths=[64, 128, 256], depth=3, norm="batch_norm", dropout=0.2),
        data=component(
            "cifar10_subset",
            augment=[component("flip"), component("crop", padding=4), component("cutmix", probability=0.5)],
        ),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("Muon", lr=0.02, weight_decay=0.05, adamw_lr=3e-3),
        schedule=component("one_cycle", peak=0.2),
        epochs=40,
        batch_size=128,
        eval=Eval(every_epochs=5, monitor="last"),
    )
