"""transformers' ResNet (`ResNetForImageClassification`, `ResNetModel`). Imports no torch."""

from collections.abc import Sequence
from typing import Any

from layerwise.core.errors import CheckpointError, UnsupportedError
from layerwise.interop.config_pairs import Pair, read_pairs
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.rules import Rule, rule
from layerwise.interop.transformers import (
    SHARED_IGNORED,
    read_classes,
    read_preprocessing,
    write_classes,
    write_preprocessing,
)

Tree = dict[str, Any]
MODULE = "layerwise.models.vision.resnet"
PAIRS = (
    Pair("depths", "depths", (3, 4, 6, 3), tuple, list),
    Pair("hidden_sizes", "widths", (256, 512, 1024, 2048), tuple, list),
    Pair("num_channels", "in_channels", 3),
)
REQUIRED = {"hidden_act": ("relu",), "downsample_in_first_stage": (False,), "model_type": ("resnet",)}
IGNORED = (*SHARED_IGNORED, "out_features", "out_indices", "stage_names")
SAID_BY_BLOCK = ("embedding_size", "layer_type", "downsample_in_bottleneck")
CONVOLUTIONS = {"basic": 2, "bottleneck": 3, "bottleneck_2015": 3}


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours."""
    found = [
        rule("resnet.embedder.embedder.convolution.*", "conv1.*"),
        rule("resnet.embedder.embedder.normalization.*", "bn1.*"),
        rule("classifier.1.*", "fc.*"),
    ]
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            theirs, ours = f"resnet.encoder.stages.{stage}.layers.{block}", f"layer{stage + 1}.{block}"
            found += [
                rule(f"{theirs}.shortcut.convolution.*", f"{ours}.downsample.0.*"),
                rule(f"{theirs}.shortcut.normalization.*", f"{ours}.downsample.1.*"),
            ]
            for i in range(CONVOLUTIONS.get(config.block, 0)):
                found += [
                    rule(f"{theirs}.layer.{i}.convolution.*", f"{ours}.conv{i + 1}.*"),
                    rule(f"{theirs}.layer.{i}.normalization.*", f"{ours}.bn{i + 1}.*"),
                ]
    return tuple(found)


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    options = read_pairs(config, where, PAIRS, REQUIRED, (*IGNORED, *SAID_BY_BLOCK))
    kind = config.get("layer_type", "bottleneck")
    if kind not in ("basic", "bottleneck"):
        raise CheckpointError(f"{where}: layer_type={kind!r} is not implemented; 'basic' and 'bottleneck' are.")
    if kind == "bottleneck":
        options["block"] = "bottleneck_2015" if config.get("downsample_in_bottleneck") else "bottleneck"
        options["widths"] = tuple(size // 4 for size in options["widths"])
    else:
        options["block"] = "basic"
    if config.get("embedding_size", 64) != options["widths"][0]:
        raise CheckpointError(
            f"{where}: embedding_size={config.get('embedding_size', 64)} is not implemented; with these hidden_sizes "
            f"{options['widths'][0]} is."
        )
    classes = read_classes(config, "ResNetForImageClassification", where)
    return component_tree(MODULE, {**options, "num_classes": classes})


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """transformers' `config.json`.

    Raises:
        UnsupportedError: blocks that are not there.
    """
    said = [*(pair.ours for pair in PAIRS), "block", "num_classes", "zero_init_residual", "num_groups"]
    check_sayable(LAYOUTS[0], config, said)
    if config.block not in CONVOLUTIONS:
        raise UnsupportedError(f"format=transformers: block={config.block!r} is not there. Save with format=layerwise.")
    bottleneck = config.block != "basic"
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "hidden_act": "relu",
        "depths": list(config.depths),
        "embedding_size": config.widths[0],
        "hidden_sizes": [width * (4 if bottleneck else 1) for width in config.widths],
        "layer_type": "bottleneck" if bottleneck else "basic",
        "downsample_in_bottleneck": config.block == "bottleneck_2015",
        "downsample_in_first_stage": False,
        "num_channels": config.in_channels,
        **write_classes(config.num_classes, class_names),
    }


LAYOUTS = (
    Layout(
        library="transformers",
        module=MODULE,
        claims=lambda config: config.get("model_type") == "resnet",
        read=read,
        write=write,
        rules=rules,
        preprocessing=read_preprocessing,
        write_preprocessing=write_preprocessing,
        prefix="resnet.",
    ),
)
