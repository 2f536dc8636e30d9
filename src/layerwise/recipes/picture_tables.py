"""A person's own pictures with a CSV file beside them: numbers, or several labels a picture."""

from layerwise.core.config import component
from layerwise.train.recipe import Recipe


def image_regression() -> Recipe:
    """A small convolutional network on pictures with numbers to predict in labels.csv: `data.root=./photos
    data.target=diameter_mm`; weights best on validation.
    """
    return Recipe(
        task=component("image_regression"),
        model=component("convnet"),
        data=component("image_table"),
        objective=component("squared_error"),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.05),
        schedule=component("cosine", warmup_share=0.05),
        epochs=30,
        batch_size=32,
    )


def image_multi_label() -> Recipe:
    """A small convolutional network on pictures with several labels each in labels.csv: `data.root=./photos`; weights
    best on validation.
    """
    return Recipe(
        task=component("image_multi_label"),
        model=component("convnet"),
        data=component("image_table", augment=[component("flip"), component("affine")]),
        objective=component("binary_cross_entropy"),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.05),
        schedule=component("cosine", warmup_share=0.05),
        epochs=30,
        batch_size=32,
    )
