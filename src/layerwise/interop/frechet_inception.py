"""The weights of the Frechet Inception distance: TensorFlow's graph of 5 December 2015 under torchvision's names, as
pytorch-fid keeps them (`pt_inception-2015-12-05-6726825d.pth`). Imports no torch.

The file has no configuration. What tells it is its classifier, whose 1,008 classes no other network of these names has,
and that there is no auxiliary head; the pools that differ from torchvision's are known from that.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.core.config import to_tree as plain
from layerwise.core.errors import CheckpointError, UnsupportedError
from layerwise.data.fit import Fit
from layerwise.interop.layouts import TRAINING_ONLY, Layout, component_tree
from layerwise.interop.preprocessing import Preprocessing

Tree = dict[str, Any]
LIBRARY = "pytorch-fid"
MODULE = "layerwise.models.vision.inception_v3"
PRESET = "inception_v3-fid"
_TOLD_BY = {
    "Conv2d_1a_3x3.conv.weight": [32, 3, 3, 3],
    "Mixed_7c.branch_pool.conv.weight": [192, 2048, 1, 1],
    "fc.weight": [1008, 2048],
}


def told(shapes: Mapping[str, Sequence[int]]) -> Tree | None:
    """Our component, if these tensors are those of the file."""
    here = all(list(shapes.get(name, ())) == shape for name, shape in _TOLD_BY.items())
    return {"name": PRESET} if here and not any(name.startswith("AuxLogits.") for name in shapes) else None


def read(config: Tree, where: str) -> Tree:
    """Our component.

    Raises:
        CheckpointError: another one than the network of the distance.
    """
    if config.get("architecture") != PRESET:
        raise CheckpointError(f"{where}: architecture={config.get('architecture')!r} should be {PRESET!r}.")
    return {"name": PRESET}


def write(config: Any, class_names: Sequence[str]) -> Tree:
    """`config.json`.

    Raises:
        UnsupportedError: any other network.
    """
    options = {key: value for key, value in plain(config).items() if key not in TRAINING_ONLY}
    _, *strange = component_tree(MODULE, options, [PRESET])
    if strange:
        raise UnsupportedError(
            f"format={LIBRARY}: {strange[0]}={options[strange[0]]!r} is not that of {PRESET}, the one network that is "
            "kept so. Save with format=layerwise."
        )
    tree: Tree = {"library": LIBRARY, "architecture": PRESET}
    return {**tree, "label_names": list(class_names)} if class_names else tree


def prepared(height: int, width: int) -> Preprocessing:
    """How its pictures are prepared, whatever the size asked for: 299 x 299 pixels in [-1, 1]."""
    return Preprocessing(fit=Fit(size=(299, 299), mode="squash"), mean=(0.5,) * 3, std=(0.5,) * 3)


LAYOUTS = (
    Layout(
        library=LIBRARY,
        module=MODULE,
        claims=lambda config: config.get("library") == LIBRARY,
        read=read,
        write=write,
        preprocessing=lambda files, where: prepared(0, 0),
        weights="model.pth",
        told=told,
        assumed=prepared,
    ),
)
