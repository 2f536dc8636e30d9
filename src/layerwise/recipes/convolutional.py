"""The classifiers of 2012 to 2020 on a folder of pictures of your own, and their published settings.

A recipe named like a model's file is its family's: `layerwise train resnet50 data.root=./photos` trains with `resnet`.
"""

from dataclasses import replace

from layerwise.core.config import component
from layerwise.train.recipe import EMA, Eval, Recipe


def _on_a_folder(model: str, *, lr: float, warmup_share: float = 0.05, clip: float | None = None) -> Recipe:
    return Recipe(
        task=component("image_classification"),
        model=component(model),
        data=component(
            "image_folder", augment=[component("random_resized_crop", scale=[0.35, 1.0]), component("flip")]
        ),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("AdamW", lr=lr, weight_decay=0.05),
        schedule=component("cosine", warmup_share=warmup_share),
        epochs=30,
        batch_size=32,
        clip=clip,
    )


def alexnet() -> Recipe:
    """AlexNet on a folder of class folders, `data.root=./photos data.size=64` or larger; weights best on
    validation. A small rate and a long warm-up: it has no norms.
    """
    return _on_a_folder("alexnet", lr=1e-4, warmup_share=0.1, clip=1.0)


def vgg() -> Recipe:
    """VGG-11 with batch norm on a folder of class folders, `data.root=./photos`; weights best on validation."""
    return _on_a_folder("vgg11_bn", lr=2e-4, warmup_share=0.1, clip=1.0)


def googlenet() -> Recipe:
    """GoogLeNet with its auxiliary heads on a folder of class folders, `data.root=./photos`; weights best on
    validation.
    """
    return _on_a_folder("googlenet", lr=1e-3)


def inception_v3() -> Recipe:
    """Inception v3 with its auxiliary head on a folder of class folders, `data.root=./photos data.size=96` or larger;
    weights best on validation.
    """
    return _on_a_folder("inception_v3", lr=1e-3)


def resnet() -> Recipe:
    """ResNet-18 on a folder of class folders, `data.root=./photos`; weights best on validation."""
    return _on_a_folder("resnet18", lr=1e-3)


def efficientnet() -> Recipe:
    """EfficientNet-B0 on a folder of class folders, `data.root=./photos`; weights best on validation."""
    return _on_a_folder("efficientnet_b0", lr=1e-3)


# ------------------------------------------------------------------------------------- as published: ImageNet's folder


def _on_imagenet(model: str, **sgd: float) -> Recipe:
    return Recipe(
        task=component("image_classification"),
        model=component(model),
        data=component(
            "image_folder",
            size=[224, 224],
            augment=[component("random_resized_crop", source="file"), component("flip")],
        ),
        objective=component("cross_entropy"),
        optimizer=component("SGD", momentum=0.9, **sgd),
        schedule=component("step", milestones=[30.0, 60.0, 80.0]),
        epochs=90,
        batch_size=256,
        eval=Eval(monitor="last"),
    )


def alexnet_paper() -> Recipe:
    """The published setting: 90 passes over ImageNet, rate 0.01 divided by ten three times, batches of 128."""
    return replace(_on_imagenet("alexnet-2012", lr=0.01, weight_decay=5e-4), batch_size=128)


def vgg_paper() -> Recipe:
    """The published setting of VGG-16: 74 passes over ImageNet, rate 0.01 divided by ten three times."""
    recipe = _on_imagenet("vgg16", lr=0.01, weight_decay=5e-4)
    return replace(recipe, schedule=component("step", milestones=[25.0, 45.0, 60.0]), epochs=74)


def googlenet_paper() -> Recipe:
    """The published setting, on one machine: the rate falls by 4 % every eight passes; the weights are averaged."""
    recipe = _on_imagenet("googlenet-2014", lr=0.01, weight_decay=2e-4)
    falls = [8.0 * i for i in range(1, 31)]
    return replace(recipe, schedule=component("step", milestones=falls, gamma=0.96), epochs=250, ema=EMA(decay=0.9999))


def resnet_paper() -> Recipe:
    """The published setting of ResNet-50: 120 passes over ImageNet, rate 0.1 divided by ten where the error stalls."""
    recipe = _on_imagenet("resnet50-2015", lr=0.1, weight_decay=1e-4)
    return replace(recipe, schedule=component("step", milestones=[30.0, 60.0, 90.0]), epochs=120)


def efficientnet_paper() -> Recipe:
    """The published setting of B0: RMSprop, rate 0.256 for batches of 4,096 falling by 3 % every 2.4 passes, averaged
    weights, 350 passes over ImageNet.
    """
    falls = [2.4 * i for i in range(1, 146)]
    return replace(
        _on_imagenet("tf_efficientnet_b0", lr=0.1),
        objective=component("cross_entropy", label_smoothing=0.1),
        optimizer=component("RMSprop", lr=0.256, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=1e-5),
        schedule=component("step", milestones=falls, gamma=0.97, warmup_epochs=5.0),
        ema=EMA(decay=0.9999),
        epochs=350,
        batch_size=4096,
    )


def vit_paper() -> Recipe:
    """The published setting of ViT-B/16 on ImageNet's folder alone: Adam with decoupled decay of 0.3, 300 passes of
    4,096 pictures, a rate of 0.003 after 10,000 steps of warm-up.
    """
    return replace(
        _on_imagenet("vit_base_patch16_224", lr=0.1),
        model=component("vit_base_patch16_224", dropout=0.1),
        optimizer=component("AdamW", lr=3e-3, weight_decay=0.3),
        schedule=component("cosine", warmup_steps=10_000),
        epochs=300,
        batch_size=4096,
        clip=1.0,
    )
