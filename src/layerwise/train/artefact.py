"""A trained model on disk: `config.json` and `model.safetensors`, all that prediction needs and nothing else."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from layerwise.core import discovery
from layerwise.core.config import Component, parse_component, to_tree
from layerwise.core.errors import CheckpointError, ConfigError, UnsupportedError
from layerwise.tasks.base import Task
from layerwise.track import files

FORMAT = 1


def save_model(
    folder: Path,
    network: nn.Module,
    model: Component,
    *,
    task: tuple[Component, Task] | None = None,
    weights: dict[str, Tensor] | None = None,
    origin: dict[str, Any],
) -> None:
    """Write the weights and what they mean.

    Args:
        folder: made if missing; files are replaced atomically.
        network: gives the state where `weights` is None.
        model: resolved component, derived values filled in.
        task: the resolved component and the task bound to its data; None for a bare network.
        weights: state dict to write in place of the network's own (best weights).
        origin: what selected the weights, recipe, step; kept as JSON.

    Raises:
        StorageError: disk full or not writable; the files before stay whole.
    """
    state = dict(network.state_dict()) if weights is None else weights
    folder.mkdir(parents=True, exist_ok=True)
    stored, tied = _without_ties(state)
    files.write_bytes(folder / "model.safetensors", save(stored, metadata={"format": "pt"}))
    tree: dict[str, Any] = {"format": FORMAT, "model": to_tree(model), "tied": tied, "origin": origin}
    if task is not None:
        tree |= {"task": to_tree(task[0]), "task_state": task[1].state()}
    files.write_json(folder / "config.json", tree)


def _without_ties(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Contiguous tensors without second names for one storage, and the table second name -> first name."""
    seen: dict[tuple[int, int, tuple[int, ...], tuple[int, ...]], str] = {}
    stored: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, value in state.items():
        key = (
            value.untyped_storage().data_ptr(),
            int(value.storage_offset()),
            tuple(value.shape),
            tuple(value.stride()),
        )
        if value.numel() and key in seen:
            tied[name] = seen[key]
        else:
            seen[key] = name
            stored[name] = value.detach().cpu().contiguous()
    return stored, tied


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder.

    Raises:
        CheckpointError: missing, damaged or of a newer format.
    """
    path = folder / "config.json"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not a model directory: it has no config.json.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    if not isinstance(tree, dict) or not {"model", "tied"} <= tree.keys():
        raise CheckpointError(f"{path} is not a model of this package.")
    if tree.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {tree.get('format')}; this version reads format {FORMAT}.")
    return tree


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file, or of a `.pth`/`.pt`/`.bin` file that holds nothing but tensors.

    Raises:
        CheckpointError: missing or damaged, or a pickle with more than tensors in it.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or cut short: {str(error).splitlines()[0]}.") from error
    except Exception as error:  # pickle.UnpicklingError, without importing pickle
        if type(error).__name__ != "UnpicklingError":
            raise
        raise CheckpointError(
            f"{path} holds more than tensors and is not loaded: it could run code. Save it as .safetensors."
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path} is not a state dict: it should map names to tensors.")
    return loaded


def component_of(network: nn.Module) -> Component:
    """The resolved component that would build a network of this package again.

    Raises:
        UnsupportedError: it is none of the package's models.
    """
    config, module = getattr(network, "config", None), type(network).__module__
    for name, (where, config_class) in discovery.catalogue("model").items():
        if where == module and config is not None and type(config).__name__ == config_class:
            return parse_component("model", {"name": name, **to_tree(config)}, "model")
    raise UnsupportedError(f"{type(network).__name__} is none of this package's models.")


def load_network(folder: Path, *, trust: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """Network in eval mode and the whole `config.json` of a model folder."""
    tree = read_config(folder)
    network = parse_component("model", tree["model"], "model", trust=trust).build()
    state = read_weights(folder / "model.safetensors")
    state |= {name: state[first] for name, first in tree["tied"].items()}
    missing, unexpected = _fit(network, state)
    if missing or unexpected:
        raise CheckpointError(
            f"{folder / 'model.safetensors'} does not fit its config.json: missing {missing[:4]}, unexpected "
            f"{unexpected[:4]}."
        )
    network.load_state_dict(state)
    return network.eval(), tree


def load_model(folder: Path, *, trust: bool = False) -> tuple[nn.Module, Task, dict[str, Any]]:
    """Network in eval mode, bound task and the whole `config.json` of a model folder.

    Raises:
        CheckpointError: damaged files, or a bare network without a task.
    """
    network, tree = load_network(folder, trust=trust)
    if "task" not in tree:
        raise CheckpointError(f"{folder} holds a bare network: it does not say what its inputs and outputs mean.")
    task: Task = parse_component("task", tree["task"], "task", trust=trust).build()
    task.load(tree["task_state"])
    return network, task, tree


def _fit(network: nn.Module, state: dict[str, Tensor]) -> tuple[list[str], list[str]]:
    own = network.state_dict()
    return sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())


def load_into(network: nn.Module, state: dict[str, Tensor], source: str) -> list[str]:
    """Start a network from weights of the same architecture; a tensor of another shape (a head of other classes) stays
    as it is and is named.

    Returns:
        Lines of the load report.

    Raises:
        CheckpointError: a tensor is missing, or nothing fits.
    """
    own = network.state_dict()
    missing, unexpected = _fit(network, state)
    reshaped = [name for name in own if name in state and own[name].shape != state[name].shape]
    if missing:
        raise CheckpointError(
            f"init={source}: {len(missing)} tensors are missing: {', '.join(missing[:6])}. Is it another architecture?"
        )
    if len(reshaped) == len(own):
        raise CheckpointError(f"init={source}: no tensor has this network's shape.")
    with torch.no_grad():
        for name, value in own.items():
            if name not in reshaped:
                value.copy_(state[name])
    lines = [f"init={source}: {len(own) - len(reshaped)} of {len(own)} tensors loaded."]
    if reshaped:
        lines.append(
            "Left as initialised, other shape: "
            + ", ".join(f"{n} {list(state[n].shape)} -> {list(own[n].shape)}" for n in reshaped)
            + "."
        )
    if unexpected:
        lines.append(f"Not used: {', '.join(unexpected[:8])}{' ...' if len(unexpected) > 8 else ''}.")
    return lines


def fill_derived(wanted: Component, facts: dict[str, Any], where: str) -> Component:
    """A component whose None options are filled from the data's facts of the same name.

    Raises:
        ConfigError: an explicit number conflicts with the data.
    """
    changes: dict[str, Any] = {}
    for entry in fields(wanted.config):
        name, value = entry.name, getattr(wanted.config, entry.name)
        preset = getattr(discovery.spec(wanted.kind, wanted.name).defaults, name, None)
        if isinstance(value, Component):
            changes[name] = fill_derived(value, facts, f"{where}.{name}")
        elif name in facts and facts[name] is not None:
            if value is None or value == preset:  # a preset's own size gives way to the data's
                changes[name] = facts[name]
            elif isinstance(value, int) and value != facts[name]:
                raise ConfigError(
                    f"{where}.{name}={value} conflicts with the data, which has {facts[name]}. Leave it out to take "
                    "the data's."
                )
    return replace(wanted, config=replace(wanted.config, **changes)) if changes else wanted
