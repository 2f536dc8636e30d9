"""A trained model on disk: `config.json` and `model.safetensors`, all that prediction needs and nothing else."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from layerwise.core import discovery
from layerwise.core.config import Component, parse_component, to_tree
from layerwise.core.errors import CheckpointError, ConfigError, UnsupportedError
from layerwise.data.tokenizer_files import join_state, split_state
from layerwise.interop.layouts import component_tree
from layerwise.interop.weights import read_weights
from layerwise.tasks.base import Task
from layerwise.track import files

FORMAT = 1


def save_model(
    folder: Path,
    network: nn.Module,
    model: Component,
    *,
    task: tuple[Component, Task] | None = None,
    origin: dict[str, Any],
) -> None:
    """Write the weights and what they mean.

    Args:
        folder: made if missing; files are replaced atomically.
        network: its state is written.
        model: resolved component, derived values filled in.
        task: the resolved component and the task bound to its data; None for a bare network.
        origin: what selected the weights, recipe, step; kept as JSON.

    Raises:
        StorageError: disk full or not writable; the files before stay whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored, tied = _without_ties(dict(network.state_dict()))
    files.write_bytes(folder / "model.safetensors", save(stored, metadata={"format": "pt"}))
    tree: dict[str, Any] = {"format": FORMAT, "model": to_tree(model), "tied": tied, "origin": origin}
    if task is not None:
        state = task[1].state()
        if isinstance(state.get("tokenizer"), dict):
            state["tokenizer"], own = split_state(state["tokenizer"])
            for name, content in own.items():
                files.write_content(folder / name, content)
        tree |= {"task": to_tree(task[0]), "task_state": state}
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


def component_of(network: nn.Module) -> Component:
    """The resolved component that would build a network of this package again.

    Raises:
        UnsupportedError: it is none of the package's models.
    """
    config, module = getattr(network, "config", None), type(network).__module__
    names = [n for n, found in discovery.catalogue("model").items() if found == (module, type(config).__name__)]
    if names:
        return parse_component("model", component_tree(module, to_tree(config), names), "model")
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
    state = dict(tree["task_state"])
    if isinstance(state.get("tokenizer"), dict):
        state["tokenizer"] = join_state(state["tokenizer"], folder)
    task.load(state)
    return network, task, tree


def _fit(network: nn.Module, state: dict[str, Tensor]) -> tuple[list[str], list[str]]:
    own = network.state_dict()
    return sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())


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
            elif isinstance(value, int | str) and value != facts[name] and not _roomy(name, value, facts[name]):
                raise ConfigError(
                    f"{where}.{name}={value} conflicts with the data, which has {facts[name]}. Leave it out to take "
                    "the data's."
                )
    return replace(wanted, config=replace(wanted.config, **changes)) if changes else wanted


def _roomy(name: str, value: Any, needed: Any) -> bool:
    """Whether more than the data needs does no harm: rows of an embedding for tokens that never come."""
    return name == "vocab_size" and isinstance(value, int) and value > needed
