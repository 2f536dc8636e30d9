"""Each family of picture classifiers once on real data: small forms on 4,000 pictures of CIFAR-10, a few minutes each.

They show that every family learns from scratch here. Networks made for 50,000 or a million pictures do not do
their best on 4,000: `convnet_cifar` reaches more.
"""

from typing import Any

from layerwise.core.config import Component, component
from layerwise.train.recipe import Eval, Recipe

_MUON = component("Muon", lr=0.02, weight_decay=0.05, adamw_lr=2e-3)  # where AdamW gets nowhere in so few steps


def _adamw(lr: float) -> Component:
    return component("AdamW", lr=lr, weight_decay=0.05)


def _on_cifar(
    model: str,
    *,
    epochs: float,
    optimizer: Component,
    size: int | None = None,
    clip: float | None = None,
    **options: Any,
) -> Recipe:
    return Recipe(
        task=component("image_classification", test_time=["flip"]),
        model=component(model, **options),
        data=component("cifar10_subset", size=size, augment=[component("flip"), component("crop", padding=4)]),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=optimizer,
        schedule=component("one_cycle"),
        epochs=epochs,
        batch_size=64,
        clip=clip,
        eval=Eval(every_epochs=2, monitor="last"),
    )


def alexnet_cifar() -> Recipe:
    """AlexNet with 512 hidden units on pictures enlarged to 64 x 64."""
    return _on_cifar("alexnet", epochs=16, optimizer=_adamw(5e-4), size=64, clip=1.0, hidden=512)


def vgg_cifar() -> Recipe:
    """VGG-11 with batch norm, half as wide, with 256 hidden units."""
    return _on_cifar("vgg11_bn", epochs=12, optimizer=_MUON, clip=1.0, widths=[32, 64, 128, 256, 256], hidden=256)


def googlenet_cifar() -> Recipe:
    """GoogLeNet with its auxiliary heads on pictures enlarged to 64 x 64."""
    return _on_cifar("googlenet", epochs=8, optimizer=_adamw(2e-3), size=64)


def efficientnet_cifar() -> Recipe:
    """EfficientNet-B0, half as wide and deep, on pictures enlarged to 64 x 64."""
    return _on_cifar("efficientnet_b0", epochs=30, optimizer=_adamw(3e-3), size=64, width=0.5, depth=0.5, drop_path=0.0)


def vit_cifar() -> Recipe:
    """A ViT of six blocks, 192 wide, on patches of 4 x 4 pixels."""
    return _on_cifar(
        "vit_tiny_patch16_224", epochs=24, optimizer=_adamw(4e-4), clip=1.0, image_size=None, patch_size=4, num_layers=6
    )
