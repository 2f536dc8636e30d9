"""LeNet-5 on handwritten digits: those that come with the install, and MNIST."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def lenet5() -> Recipe:
    """LeNet-5 on the 1,797 digits bundled with scikit-learn: at least 98.5 % of the test digits right, in under a
    minute.
    """
    return Recipe(
        task=component("image_classification"),
        model=component("lenet5", activation="relu"),
        data=component("digits", size=32, augment=[component("affine", degrees=15.0, scale=(0.85, 1.15))]),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("AdamW", lr=4e-3, weight_decay=0.05),
        schedule=component("one_cycle"),
        epochs=50,
        batch_size=32,
        eval=Eval(every_epochs=5, monitor="last"),
    )


def lenet5_mnist() -> Recipe:
    """LeNet-5 on MNIST with small shifts: test error at most 0.9 % in under three minutes (LeCun et al. 1998: 0.95
    %).
    """
    return Recipe(
        task=component("image_classification"),
        model=component("lenet5", activation="relu"),
        data=component("mnist", augment=[component("shift", pixels=2)]),
        objective=component("cross_entropy"),
        optimizer=component("AdamW", lr=3e-3, weight_decay=0.05),
        schedule=component("one_cycle"),
        epochs=12,
        batch_size=128,
        eval=Eval(monitor="last"),
    )


def lenet5_paper() -> Recipe:
    """The published setting: tanh, the paper's table of connections, plain stochastic gradient descent, 20 passes
    over MNIST.
    """
    return Recipe(
        task=component("image_classification"),
        model=component("lenet5-1998"),
        data=component("mnist"),
        objective=component("cross_entropy"),
        optimizer=component("SGD", lr=0.01),
        schedule=component("step", milestones=[2, 5, 8, 12], gamma=0.5, unit="epochs"),
        epochs=20,
        batch_size=1,
        eval=Eval(monitor="last"),
    )
