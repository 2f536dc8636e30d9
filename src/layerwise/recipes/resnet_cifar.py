"""ResNet for small pictures, on Fashion-MNIST, and its published setting."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def resnet_cifar_fashion() -> Recipe:
    """ResNet-20 on Fashion-MNIST with flips and padded crops: at least 94 % of the test pictures right, in under 20
    minutes on two cores.
    """
    return Recipe(
        task=component("image_classification"),
        model=component("resnet20_cifar"),
        data=component("fashion_mnist", augment=[component("flip"), component("crop", padding=2)]),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("Muon", lr=0.02, weight_decay=0.05, adamw_lr=3e-3),
        schedule=component("one_cycle", peak=0.2),
        epochs=24,
        batch_size=256,
        eval=Eval(every_epochs=1, monitor="last"),
    )


def resnet_cifar_paper() -> Recipe:
    """The published setting (He et al. 2015, section 4.2) on CIFAR-10: rate 0.1 divided by ten after 32,000
    and 48,000 of 64,000 steps, batches of 128.
    """
    return Recipe(
        task=component("image_classification"),
        model=component("resnet20_cifar"),
        data=component("cifar10", augment=[component("flip"), component("crop", padding=4)]),
        objective=component("cross_entropy"),
        optimizer=component("SGD", lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=component("step", milestones=[32_000.0, 48_000.0], unit="steps"),
        max_steps=64_000,
        batch_size=128,
        eval=Eval(monitor="last"),
    )
