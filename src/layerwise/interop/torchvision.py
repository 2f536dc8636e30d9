"""torchvision's picture classifiers: a bare state dict (`.pth`) whose names are ours. Imports no torch.

torchvision has no configuration file: what is written has one beside `model.pth`, so that the directory says what it
is. Its own checkpoints are files, loaded with the architecture named.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from layerwise.core import discovery
from layerwise.core.config import to_tree as plain
from layerwise.core.errors import CheckpointError, UnsupportedError
from layerwise.interop.layouts import TRAINING_ONLY, Layout, component_tree, no_rules
from layerwise.interop.preprocessing import Preprocessing, from_tree, imagenet, to_tree
from layerwise.interop.rules import Rule

Tree = dict[str, Any]
# Options that a network of torchvision's can have, beside the architecture's name: its weights tell them.
SAYABLE = ("num_classes", "in_channels", "image_size", "auxiliary", "num_groups")


def torchvision_layout(
    module: str,
    names: Mapping[str, str],
    *,
    rules: Callable[[Any], tuple[Rule, ...]] = no_rules,
    assumed: Callable[[int, int], Preprocessing] = imagenet,
) -> Layout:
    """The layout of an architecture.

    Args:
        names: our presets -> torchvision's names of them.
        assumed: preprocessing of its published weights for a height and width.
    """

    ours = {theirs: preset for preset, theirs in names.items()}

    def read(config: Tree, where: str) -> Tree:
        options = config.get("options")
        if not isinstance(options, dict) or set(options) - set(SAYABLE):
            known = ", ".join(SAYABLE)
            raise CheckpointError(f"{where}: options={options!r} should be an object with no keys but {known}.")
        return {"name": ours[config["architecture"]], **options}

    def write(config: Any, class_names: Sequence[str]) -> Tree:
        options = {key: value for key, value in plain(config).items() if key not in TRAINING_ONLY}
        tree = component_tree(module, options, list(names))
        if strange := {key: value for key, value in tree.items() if key not in ("name", *SAYABLE)}:
            key, value = next(iter(strange.items()))
            name = names[tree["name"]]
            raise UnsupportedError(
                f"format=torchvision: its {name} has not {key}={value!r}. Save with format=layerwise."
            )
        found: Tree = {"library": "torchvision", "architecture": names[tree.pop("name")], "options": tree}
        return {**found, "label_names": list(class_names)} if class_names else found

    def read_preprocessing(files: Mapping[str, Tree], where: str) -> Preprocessing | None:
        tree = files["config.json"].get("preprocessing")
        return from_tree(tree, where) if isinstance(tree, dict) else None

    return Layout(
        library="torchvision",
        module=module,
        claims=lambda config: config.get("library") == "torchvision" and config.get("architecture") in ours,
        read=read,
        write=write,
        rules=rules,
        preprocessing=read_preprocessing,
        write_preprocessing=lambda preprocessing: {"config.json": {"preprocessing": to_tree(preprocessing)}},
        weights="model.pth",
        assumed=assumed,
    )


def _half(height: int, width: int) -> Preprocessing:
    """torchvision's GoogLeNet and Inception v3 bring ImageNet's normalisation to this one inside the network
    (`transform_input`).
    """
    return replace(imagenet(height, width), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _half_of_299(height: int, width: int) -> Preprocessing:
    """That, at the size of Inception v3."""
    return _half(299, 299)


def _presets(module: str) -> dict[str, str]:
    """Our presets of a module that torchvision has under the same name."""
    names = [name for name, (where, _) in discovery.catalogue("model").items() if where == module]
    return {name: name for name in names if "-" not in name and "_cifar" not in name and not name.startswith("tf_")}


_FAMILY = "layerwise.models.vision"
LAYOUTS = tuple(
    torchvision_layout(f"{_FAMILY}.{name}", _presets(f"{_FAMILY}.{name}"), assumed=assumed)
    for name, assumed in {
        "alexnet": imagenet,
        "vgg": imagenet,
        "googlenet": _half,
        "inception_v3": _half_of_299,
        "resnet": imagenet,
        "efficientnet": imagenet,
    }.items()
)
