"""timm's Inception v3: names are ours; the auxiliary head is there where `model_args` says so. Imports no torch.

The weights that timm took from torchvision have that head in the file and not in the network.
"""

from collections.abc import Callable, Sequence
from typing import Any

from layerwise.interop.config_pairs import Pair
from layerwise.interop.layouts import Layout, check_sayable
from layerwise.interop.timm import architecture, read_preprocessing, read_timm, write_preprocessing, write_timm

Tree = dict[str, Any]
MODULE = "layerwise.models.vision.inception_v3"
PRESET = "inception_v3"
REQUIRED = {
    "global_pool": ("avg",), "norm_layer": ("batchnorm2d",), "norm_eps": (1e-3,), "act_layer": ("relu",),
}  # fmt: skip
_SIDE, _FEATURES = 299, 2048
_AUXILIARY = Pair("aux_logits", "auxiliary", False)


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    return {"auxiliary": False, **read_timm(config, where, preset=PRESET, pairs=(_AUXILIARY,), required=REQUIRED)}


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """timm's `config.json`.

    Raises:
        UnsupportedError: other widths or pools.
    """
    check_sayable(LAYOUTS[0], config, ["num_classes", "in_channels", "auxiliary"])
    tree = write_timm(config, class_names, name=PRESET, pairs=(), num_features=_FEATURES, pool="avg")
    tree["pretrained_cfg"]["input_size"] = [config.in_channels, _SIDE, _SIDE]
    if config.auxiliary:
        tree["model_args"] = {**tree.get("model_args", {}), _AUXILIARY.theirs: True}
    return tree


def _claims(auxiliary: bool) -> Callable[[Tree], bool]:
    def claims(config: Tree) -> bool:
        if architecture(config) != PRESET:
            return False
        args = config.get("model_args")
        return bool(isinstance(args, dict) and args.get(_AUXILIARY.theirs)) == auxiliary

    return claims


LAYOUTS = tuple(
    Layout(
        library="timm",
        module=MODULE,
        claims=_claims(auxiliary),
        read=read,
        write=write,
        preprocessing=read_preprocessing,
        write_preprocessing=write_preprocessing,
        ignored=() if auxiliary else ("AuxLogits.*",),
    )
    for auxiliary in (True, False)
)
