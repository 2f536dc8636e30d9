"""timm's VGG: its two hidden layers are convolutions, which equal our linear ones on 7 x 7 maps. Imports no torch.

Pictures of up to 255 pixels a side give maps of at most 7 x 7, which both sides average up to that size. Of larger
ones timm averages what the hidden layers give at every place; ours, as torchvision's, averages the maps first.
"""

from collections.abc import Sequence
from typing import Any

from layerwise.core import discovery
from layerwise.core.errors import UnsupportedError
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.rules import CoveringConvolution, Rule, rule
from layerwise.interop.timm import architecture, read_preprocessing, read_timm, write_preprocessing, write_timm

Tree = dict[str, Any]
MODULE = "layerwise.models.vision.vgg"
PRESETS = [n for n, (m, _) in discovery.catalogue("model").items() if m == MODULE and not n.endswith("-tiny")]
REQUIRED = {
    "global_pool": ("avg",), "output_stride": (32,), "mlp_ratio": (1.0,), "act_layer": (None, "relu"),
    "norm_layer": (None, "batchnorm2d"),
}  # fmt: skip
_HIDDEN = 4096  # timm has no argument for it
_RULES = (
    rule("features.*", "features.*"),
    rule("pre_logits.fc1.weight", "classifier.0.weight", CoveringConvolution((7, 7))),
    rule("pre_logits.fc1.bias", "classifier.0.bias"),
    rule("pre_logits.fc2.weight", "classifier.3.weight", CoveringConvolution((1, 1))),
    rule("pre_logits.fc2.bias", "classifier.3.bias"),
    rule("head.fc.*", "classifier.6.*"),
)


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours."""
    return _RULES


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    return read_timm(config, where, preset=architecture(config), pairs=(), required=REQUIRED)


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """timm's `config.json`.

    Raises:
        UnsupportedError: no network there has these stages or hidden layers.
    """
    tree = component_tree(MODULE, {key: getattr(config, key) for key in ("depths", "norm")}, PRESETS)
    name = tree.pop("name")
    check_sayable(LAYOUTS[0], config, ["num_classes", "in_channels", "num_groups", "depths", "norm"])
    if tree:
        key, value = next(iter(tree.items()))
        raise UnsupportedError(f"format=timm: its {name} has not {key}={value!r}. Save with format=layerwise.")
    return write_timm(config, class_names, name=name, pairs=(), num_features=_HIDDEN, pool="avg")


LAYOUTS = (
    Layout(
        library="timm",
        module=MODULE,
        claims=lambda config: architecture(config) in PRESETS,
        read=read,
        write=write,
        rules=rules,
        preprocessing=read_preprocessing,
        write_preprocessing=write_preprocessing,
    ),
)
