"""A person's own pictures: a folder of class folders."""

from layerwise.core.config import component
from layerwise.train.recipe import Recipe


def image_classification() -> Recipe:
    """A small convolutional network on a folder of class folders: `data.root=./photos`; weights best on validation."""
    return Recipe(
        task=component("image_classification"),
        model=component("convnet"),
        data=component("image_folder", augment=[component("flip"), component("affine")]),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.05),
        schedule=component("cosine", warmup_share=0.05),
        epochs=30,
        batch_size=32,
    )


def image_fine_tuning() -> Recipe:
    """A checkpoint of timm, torchvision, transformers or a run on a folder of class folders: `data.root=./photos
    init=./checkpoint`. The checkpoint says the model, the size of pictures and how they are prepared; learning rates
    fall from the head to the first block. `train MODEL init=...` and `train image_classification init=...` take these
    settings too.
    """
    return Recipe(
        task=component("image_classification"),
        model=component("convnet"),
        data=component("image_folder", augment=[component("flip"), component("affine")]),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("AdamW", lr=1e-3, weight_decay=0.05),
        schedule=component("cosine", warmup_share=0.1),
        epochs=20,
        batch_size=32,
        clip=1.0,
        layer_decay=0.8,
    )
