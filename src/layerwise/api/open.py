"""A trained model ready to be used, whichever library's directory it lies in."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.core.config import component, parse_component
from layerwise.core.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import nn

    from layerwise.interop.layouts import Checkpoint
    from layerwise.tasks.base import Task


def open_model(source: str | Path, *, trust: bool = False) -> "tuple[nn.Module, Task, dict[str, Any]]":
    """Network in eval mode, its task, and what `config.json` says of both.

    Args:
        source: a run, a model directory of this package, or a picture classifier in a directory of timm, torchvision
            or transformers, or on the hub, with the preprocessing and the class names that lie beside it.
        trust: build a model whose code is a person's own.

    Raises:
        ConfigError: there is no such model.
        CheckpointError: it is damaged or cannot be loaded here.
        UnsupportedError: it is none that a task here can use.
    """
    from layerwise.api.models import load_pretrained
    from layerwise.interop.layouts import recognise
    from layerwise.train.artefact import load_model

    checkpoint = recognise(source)
    if checkpoint.library == "layerwise":
        return load_model(checkpoint.files[0].parent, trust=trust)
    network, report = load_pretrained(source)
    report.check(extra=False)
    chosen = parse_component("task", component("image_classification"), "task")
    task: Task = chosen.build()
    task.load(_task_state(checkpoint, network))
    return network, task, {"model": checkpoint.model, "task": {"name": chosen.name}}


def _task_state(checkpoint: "Checkpoint", network: "nn.Module") -> dict[str, Any]:
    """What an image classifier of this package would have kept.

    Raises:
        UnsupportedError: it is no picture classifier, or nothing is known of how its pictures are prepared.
    """
    from layerwise.interop.layouts import assumed_preprocessing
    from layerwise.interop.preprocessing import to_tree

    config: Any = network.config
    if not (hasattr(config, "num_classes") and hasattr(config, "in_channels")):
        raise UnsupportedError(f"{checkpoint.source} is no picture classifier: what its inputs mean is not known here.")
    preprocessing = checkpoint.preprocessing or assumed_preprocessing(checkpoint.model or {})
    if preprocessing is None:
        raise UnsupportedError(f"{checkpoint.source} does not say how its pictures are prepared.")
    tree = to_tree(preprocessing)
    return {
        "class_names": list(checkpoint.class_names) or [str(k) for k in range(config.num_classes)],
        "image_size": tree["size"],
        "channels": len(tree["mean"]),
        "fit": {key: tree[key] for key in ("size", "resize", "interpolation", "mode")},
        "preprocessing": {"type": "normalise", "mean": tree.pop("mean"), "std": tree.pop("std")},
    }
