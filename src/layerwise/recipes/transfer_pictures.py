"""Fine-tuning against training from scratch: three classes of pictures with 25 labels each.

What is known before are pictures of seven other classes. The two recipes differ in `init` and in what belongs to
it, the rates that fall from the head to the first block.
"""

from dataclasses import replace

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe

_KNOWN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog"]
_NEW = ["horse", "ship", "truck"]
_AUGMENT = [component("flip"), component("crop", padding=4)]
_NETWORK = component("convnet", widths=[32, 64, 128], depth=3, norm="batch_norm", dropout=0.2)


def transfer_pictures_source() -> Recipe:
    """What is known before: a small convolutional network on 2,800 pictures of seven classes of CIFAR-10."""
    return Recipe(
        task=component("image_classification"),
        model=_NETWORK,
        data=component("cifar10_subset", classes=_KNOWN, augment=_AUGMENT),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("Muon", lr=0.02, weight_decay=0.05, adamw_lr=3e-3),
        schedule=component("one_cycle", peak=0.2),
        epochs=20,
        batch_size=128,
        eval=Eval(every_epochs=5, monitor="last"),
    )


def transfer_pictures_scratch() -> Recipe:
    """What fine-tuning is measured by: horses, ships and trucks, 25 pictures each, from random weights."""
    return Recipe(
        task=component("image_classification"),
        model=_NETWORK,
        data=component("cifar10_subset", classes=_NEW, limit=25, augment=_AUGMENT),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.05),
        schedule=component("cosine", warmup_share=0.1),
        max_steps=400,
        batch_size=25,
        eval=Eval(every_epochs=None, monitor="last"),
    )


def transfer_pictures() -> Recipe:
    """The same from `layerwise train transfer_pictures_source --run runs/transfer_pictures_source`."""
    return replace(transfer_pictures_scratch(), init="runs/transfer_pictures_source", layer_decay=0.8)
