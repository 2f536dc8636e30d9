"""Transfer learning: what LeNet-5 learned on MNIST, put to work on other digits with five labels a class.

The digits that come with scikit-learn were written and scanned by others, and have 8 x 8 pixels. Each recipe but the
first starts from `layerwise train lenet5_mnist --run runs/lenet5_mnist`.
"""

from dataclasses import replace

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def transfer_digits_scratch() -> Recipe:
    """What the others are measured by: the same network, data and steps, from random weights."""
    return Recipe(
        task=component("image_classification"),
        model=component("lenet5", activation="relu"),
        data=component("digits", size=28, limit=5, augment=[component("shift", pixels=2)]),
        objective=component("cross_entropy"),
        optimizer=component("AdamW", lr=1e-3, weight_decay=0.05),
        schedule=component("cosine", warmup_share=0.1),
        max_steps=400,
        batch_size=50,
        eval=Eval(every_epochs=None, monitor="last"),
    )


def transfer_digits() -> Recipe:
    """All weights trained on from MNIST's."""
    return replace(transfer_digits_scratch(), init="runs/lenet5_mnist")


def transfer_digits_probe() -> Recipe:
    """A linear probe: all but the last layer as MNIST left them."""
    return replace(transfer_digits(), freeze=("conv*", "fc1.*"))


def transfer_digits_decay() -> Recipe:
    """Each layer at half the learning rate of the one above it."""
    return replace(transfer_digits(), layer_decay=0.5)


def transfer_digits_lora() -> Recipe:
    """Changes of rank four in every layer, and the last layer in full; merged into the weights at the end."""
    adapter = component("lora", rank=4, alpha=8.0, train=["fc2.*"])
    return replace(transfer_digits(), adapter=adapter)
