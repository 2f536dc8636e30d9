"""Models from Python: list, create, load, save, train."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api import catalogue
from layerwise.api import train as train_api
from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from torch import nn


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models that match a shell-style pattern."""
    return catalogue.names("models", pattern)


def create_model(name: str, **overrides: Any) -> "nn.Module":
    """A freshly initialised network by name; `overrides` are fields of its configuration (`num_classes=10`).

    Raises:
        ConfigError: unknown name or option, or a value that only data would know is not given.
    """
    return parse_component("model", {"name": name, **overrides}, "model", trust=True).build()


def from_pretrained(source: str | Path, model: str | None = None, strict: bool = True, **overrides: Any) -> "nn.Module":
    """A network with weights from a run, a model directory, or a bare weights file with `model` named; in eval mode.

    Args:
        source: run directory, model directory, `.safetensors`, or a `.pth` with nothing but tensors.
        model: the model's name, for a bare weights file.
        strict: a tensor that is missing or of another shape is an error; else it stays as initialised.
        overrides: fields of the model's configuration, for a bare weights file.

    Raises:
        CheckpointError, ConfigError: each names the file and the remedy.
    """
    from layerwise.api.infer import model_folder
    from layerwise.core.errors import CheckpointError
    from layerwise.train.artefact import load_into, load_network, read_weights

    if model is None and not Path(source).is_file():
        return load_network(model_folder(source))[0]
    if model is None:
        raise ConfigError(f"{source} is a bare weights file: name its architecture with model=...")
    network = create_model(model, **overrides)
    state = read_weights(Path(source))
    own = network.state_dict()
    wrong = [name for name in own if name not in state or own[name].shape != state[name].shape]
    if strict and wrong:
        raise CheckpointError(
            f"{source} does not fit {model}: {', '.join(wrong[:6])} missing or of another shape. strict=False leaves "
            "them as initialised."
        )
    load_into(network, {**{n: own[n] for n in wrong if n not in state}, **state}, str(source))
    return network.eval()


def save_pretrained(model: "nn.Module", directory: str | Path, format: str = "layerwise") -> None:
    """Write a network's weights and configuration to a directory that `from_pretrained` reads.

    Raises:
        UnsupportedError: a layout that is not there yet, or a network that is none of this package's models.
    """
    from layerwise.train.artefact import component_of, save_model

    if format != "layerwise":
        raise UnsupportedError(f"format={format!r}: only 'layerwise' can be written so far.")
    save_model(Path(directory), model, component_of(model), origin={})


def train(
    recipe: str, *, run: str | None = None, resume: str = "auto", nproc: int = 1, quiet: bool = False, **overrides: Any
) -> train_api.Run:
    """Train a recipe, a YAML file or a run directory; overrides are top-level fields, deeper ones as
    `**{"optimizer.lr": 0.01}`.
    """
    from layerwise.core.console import Console

    return train_api.train(
        recipe,
        list(overrides.items()),
        run=run,
        resume=resume,
        nproc=nproc,
        console=Console(quiet=quiet),
        trust_code=True,
    )
