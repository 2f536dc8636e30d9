"""timm's EfficientNet: the same layers as ours under other names. Imports no torch.

Its norms have eps 1e-5, in the `tf_` networks 1e-3, at every size; torchvision's, which our presets have, differ from
b5 on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.core import discovery
from layerwise.interop.layouts import Layout, check_sayable, component_tree
from layerwise.interop.rules import Rule, rule
from layerwise.interop.timm import architecture, read_preprocessing, read_timm, write_preprocessing, write_timm

Tree = dict[str, Any]
MODULE = "layerwise.models.vision.efficientnet"
PRESETS = [n for n, (m, _) in discovery.catalogue("model").items() if m == MODULE and not n.endswith("-tiny")]
REQUIRED = {"global_pool": ("avg",)}
# Position of a layer in a block -> timm's names of its convolution and norm; the first stage does not expand.
EXPANDED = (("conv_pw", "bn1"), ("conv_dw", "bn2"), None, ("conv_pwl", "bn3"))
PLAIN = (("conv_dw", "bn1"), None, ("conv_pw", "bn2"))


def rules(config: Any) -> tuple[Rule, ...]:
    """Their names, ours."""
    last = len(config.stages) + 1
    found = [
        rule("conv_stem.*", "features.0.0.*"),
        rule("bn1.*", "features.0.1.*"),
        rule("conv_head.*", f"features.{last}.0.*"),
        rule("bn2.*", f"features.{last}.1.*"),
        rule("classifier.*", "classifier.1.*"),
    ]
    for index, stage in enumerate(config.stages):
        for block in range(math.ceil(stage.depth * config.depth)):
            theirs, ours = f"blocks.{index}.{block}", f"features.{index + 1}.{block}.block"
            for i, names in enumerate(EXPANDED if stage.expansion > 1 else PLAIN):
                if names is None:
                    found += [
                        rule(f"{theirs}.se.conv_reduce.*", f"{ours}.{i}.fc1.*"),
                        rule(f"{theirs}.se.conv_expand.*", f"{ours}.{i}.fc2.*"),
                    ]
                else:
                    found += [
                        rule(f"{theirs}.{names[0]}.*", f"{ours}.{i}.0.*"),
                        rule(f"{theirs}.{names[1]}.*", f"{ours}.{i}.1.*"),
                    ]
    return tuple(found)


def fixed(config: Any) -> Mapping[str, Any]:
    """The eps of timm's norms."""
    return {"eps": 1e-3 if config.padding == "same" else 1e-5}


def read(config: Tree, where: str) -> Tree:
    """Our component."""
    name = architecture(config)
    tree = read_timm(config, where, preset=name, pairs=(), required=REQUIRED)
    return {**tree, **fixed(discovery.spec("model", name).defaults)}


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """timm's `config.json`."""
    said = ("width", "depth", "padding")
    name = component_tree(MODULE, {key: getattr(config, key) for key in said}, PRESETS)["name"]
    check_sayable(LAYOUTS[0], config, ["num_classes", "in_channels", *_as_in(name, config, said)])
    features = 4 * config.channels(config.stages[-1].channels)
    return write_timm(config, class_names, name=name, pairs=(), num_features=features, pool="avg")


def _as_in(name: str, config: Any, options: Sequence[str]) -> list[str]:
    """Options that have the preset's value."""
    defaults = discovery.spec("model", name).defaults
    return [key for key in options if getattr(config, key) == getattr(defaults, key)]


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
        fixed=fixed,
    ),
)
