"""A small anchor-free detector on synthetic shapes."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def detector_shapes() -> Recipe:
    """A small CenterNet on 2,000 pictures of circles, squares and triangles: test mAP at 0.5 of at least 0.93.

    About a minute and a half on one core.
    """
    return Recipe(
        task=component("detection"),
        model=component("center-net-small"),
        data=component("shapes"),
        objective=component("detection_loss"),
        optimizer=component("AdamW", lr=3e-3, weight_decay=1e-4),
        schedule=component("one_cycle"),
        epochs=12,
        batch_size=32,
        eval=Eval(every_epochs=3),
    )
