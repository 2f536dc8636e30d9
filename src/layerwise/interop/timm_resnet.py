"""timm's ResNet: names are ours; depths and widths in `model_args` where they differ. Imports no torch."""

from collections.abc import Sequence
from typing import Any

from layerwise.core import discovery
from layerwise.core.errors import UnsupportedError
from layerwise.interop.config_pairs import Pair
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.timm import architecture, read_preprocessing, read_timm, write_preprocessing, write_timm

Tree = dict[str, Any]
MODULE = "layerwise.models.vision.resnet"
PRESETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
PAIRS = (
    Pair("layers", "depths", (2, 2, 2, 2), tuple, list),
    Pair("channels", "widths", (64, 128, 256, 512), tuple, list),
)
REQUIRED = {
    "global_pool": ("avg",), "output_stride": (32,), "cardinality": (1,), "base_width": (64,), "stem_width": (64,),
    "stem_type": ("",), "replace_stem_pool": (False,), "block_reduce_first": (1,), "down_kernel_size": (1,),
    "avg_down": (False,), "act_layer": (None, "relu"), "norm_layer": (None, "batchnorm2d"), "aa_layer": (None,),
    "block_args": (None,),
}  # fmt: skip


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    return read_timm(config, where, preset=architecture(config), pairs=PAIRS, required=REQUIRED)


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """timm's `config.json`.

    Raises:
        UnsupportedError: another stem than 64 maps wide, or no preset there has these blocks.
    """
    said = [*(pair.ours for pair in PAIRS), "block", "num_classes", "in_channels", "zero_init_residual", "num_groups"]
    check_sayable(LAYOUTS[0], config, said)
    names = [name for name in PRESETS if discovery.spec("model", name).defaults.block == config.block]
    if not names or config.widths[0] != 64:
        raise UnsupportedError(
            f"format=timm: block={config.block} with widths={config.widths} cannot be said there: the stem has 64 "
            "maps and blocks are basic or bottleneck. Save with format=layerwise."
        )
    options = {pair.ours: getattr(config, pair.ours) for pair in PAIRS}
    name = component_tree(MODULE, options, names)["name"]
    features = config.widths[-1] * (4 if config.block == "bottleneck" else 1)
    return write_timm(config, class_names, name=name, pairs=PAIRS, num_features=features, pool="avg")


LAYOUTS = (
    Layout(
        library="timm",
        module=MODULE,
        claims=lambda config: architecture(config) in PRESETS,
        read=read,
        write=write,
        preprocessing=read_preprocessing,
        write_preprocessing=write_preprocessing,
    ),
)
