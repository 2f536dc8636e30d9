"""From a recognised checkpoint to a network: reading files, mapping names, fitting tensors, reporting what happened."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from layerwise.core import discovery
from layerwise.core.config import Component, parse_component, to_tree
from layerwise.core.errors import CheckpointError, ConfigError
from layerwise.interop.layouts import (
    Checkpoint,
    Layout,
    assumed_preprocessing,
    layouts,
    layouts_of,
    recognise,
    resolved,
)
from layerwise.interop.rules import to_ours

_WRAPPERS = ("module.", "_orig_mod.")  # data parallel, compiled
_INSIDE = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")  # of training scripts' files
# Sizes that weights have and that a person need not name: read from the shapes.
SIZES = ("num_classes", "in_channels", "vocab_size")
_SHOWN = 6


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
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short: {(str(error) or 'unreadable').splitlines()[0]}."
        ) from error
    except Exception as error:  # pickle.UnpicklingError, without importing pickle
        if type(error).__name__ != "UnpicklingError":
            raise
        raise CheckpointError(
            f"{path} is not loaded: it is damaged, or holds more than tensors and could run code. Save its tensors as "
            ".safetensors."
        ) from error
    for name in _INSIDE:
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
            break
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path} is not a state dict: it should map names to tensors.")
    return {str(name): value for name, value in loaded.items()}


@dataclass(kw_only=True)
class LoadReport:
    """What became of each tensor; names are ours.

    Args:
        source: what was loaded.
        kind: library and architecture.
        total: tensors of the network.
        loaded: taken over as they were.
        reshaped: brought to this network's input size, name -> (shape there, shape here).
        replaced: of a head for other classes, left as initialised; the shape there is None where there was no head.
        missing: of the network and not in the checkpoint.
        misfit: of another shape than the network's.
        unexpected: of the checkpoint and without a place here, under its own names.
        unused: of another head than the network's.
    """

    source: str
    kind: str
    total: int = 0
    loaded: list[str] = field(default_factory=list)
    reshaped: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    replaced: dict[str, tuple[list[int] | None, list[int]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    misfit: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For a person."""
        taken = len(self.loaded) + len(self.reshaped)
        found = [f"{self.source} ({self.kind}): {taken} of {self.total} tensors loaded."]
        if self.reshaped:
            found.append(f"Brought to this input size: {_changes(self.reshaped)}.")
        if self.replaced:
            found.append(f"New head, not from the checkpoint: {_changes(self.replaced)}.")
        if self.misfit:
            found.append(f"Left as initialised, other shape: {_changes(self.misfit)}.")
        if self.missing:
            found.append(f"Left as initialised, missing: {_some(self.missing)}.")
        if self.unexpected:
            found.append(f"Not used: {_some(self.unexpected)}.")
        if self.unused:
            found.append(f"Not used, of another head: {_some(self.unused)}.")
        return found

    def check(self, *, extra: bool) -> None:
        """Refuse a checkpoint that does not fit.

        Args:
            extra: whether tensors without a place here are allowed.

        Raises:
            CheckpointError: something is missing, of another shape, or has no place.
        """
        wrong = [f"missing {_some(self.missing)}"] if self.missing else []
        wrong += [f"other shapes {_changes(self.misfit)}"] if self.misfit else []
        wrong += [f"without a place here {_some(self.unexpected)}"] if self.unexpected and not extra else []
        if wrong:
            raise CheckpointError(
                f"{self.source} does not fit {self.kind}: {'; '.join(wrong)}. Is it another architecture?"
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _changes(shapes: Mapping[str, tuple[list[int] | None, list[int]]]) -> str:
    return _some([f"{name} {'none' if old is None else old} -> {new}" for name, (old, new) in shapes.items()])


@dataclass(kw_only=True)
class Loaded:
    """A checkpoint's weights under our names.

    Args:
        model: the component that they belong to, sizes filled in.
        state: tensors.
        unexpected: their names without a place in ours.
        headless: whether the checkpoint has no classifier.
        head: what the checkpoint itself says is read off its network, where its architecture has a choice.
    """

    checkpoint: Checkpoint
    model: Component
    state: dict[str, Tensor]
    unexpected: list[str]
    headless: bool
    head: str | None = None


def load(
    source: str | Path, model: str | Component | None = None, overrides: Mapping[str, Any] | None = None
) -> Loaded:
    """Recognise, read and rename.

    Args:
        source: see `recognise`.
        model: the architecture of a bare weights file by name, or the component of the network that waits for the
            weights.
        overrides: fields of our configuration, in place of what the checkpoint says.

    Raises:
        ConfigError: a bare file without `model`, or an unknown option.
        CheckpointError: damaged or not to be loaded here.
    """
    checkpoint = recognise(source, model if isinstance(model, str) else None)
    head = (checkpoint.model or {}).get("head")
    if checkpoint.layout is None and isinstance(model, Component):
        checkpoint = replace(checkpoint, model=to_tree(model))
    changes: dict[str, Any] = to_tree(dict(overrides or {}))
    if checkpoint.library == "file" and checkpoint.model is not None:  # what is said is all that is known
        checkpoint = replace(checkpoint, model={**checkpoint.model, **changes})
    checkpoint = identified(checkpoint)
    if checkpoint.model is None:
        raise ConfigError(f"{source} is a bare weights file: name its architecture with model=...")
    if checkpoint.parts:
        return _of_parts(checkpoint, changes)
    state: dict[str, Tensor] = {}
    for path in checkpoint.files:
        state |= read_weights(path)
    state |= {name: state[first] for name, first in (checkpoint.tied or {}).items() if first in state}
    state = _unwrapped(state)
    layout = checkpoint.layout
    config = None if layout is None and ":" in str(checkpoint.model["name"]) else resolved(checkpoint.model)
    if checkpoint.library == "file" and config is not None:
        layout = _layout_of(checkpoint.model, config, state)
        if layout is not None:
            checkpoint = replace(
                checkpoint,
                layout=layout,
                library=f"{layout.library} weights file",
                model={**checkpoint.model, **layout.fixed(config)},
            )
    mapped, unexpected = _under_our_names(layout, config, state)
    tree: dict[str, Any] = {**(checkpoint.model or {}), **changes}
    headless = not _has_head(tree, mapped)
    trust = isinstance(model, Component)  # of a recipe, which was trusted when it was read
    tree = _with_sizes(tree, mapped) if ":" not in str(tree["name"]) else tree
    return Loaded(
        checkpoint=checkpoint,
        model=parse_component("model", tree, "model", trust=trust),
        state=mapped,
        unexpected=unexpected,
        headless=headless,
        head=head,
    )


def identified(checkpoint: Checkpoint) -> Checkpoint:
    """A bare file of an architecture that nobody named, with the one that its tensors alone tell; any other checkpoint,
    and a file that could be of several, as it is.

    Raises:
        CheckpointError: the file is damaged.
    """
    if checkpoint.library != "file" or checkpoint.model is not None:
        return checkpoint
    state = _unwrapped({name: value for path in checkpoint.files for name, value in read_weights(path).items()})
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for layout in layouts():
        if (tree := layout.told(shapes)) is not None:
            return replace(
                checkpoint,
                library=f"{layout.library} weights file",
                model=tree,
                layout=layout,
                preprocessing=assumed_preprocessing(tree, layout.library),
            )
    return checkpoint


def _of_parts(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> Loaded:
    """Several networks as one, each under the name of its field."""
    state: dict[str, Tensor] = {}
    unexpected: list[str] = []
    for name, part in checkpoint.parts.items():
        assert part.layout is not None
        assert part.model is not None
        own: dict[str, Tensor] = {}
        for path in part.files:
            own |= read_weights(path)
        mapped, unknown = _under_our_names(part.layout, resolved(part.model), _unwrapped(own))
        state |= {f"{name}.{key}": value for key, value in mapped.items()}
        unexpected += [f"{name}/{key}" for key in unknown]
    model = parse_component("model", {**(checkpoint.model or {}), **changes}, "model")
    return Loaded(checkpoint=checkpoint, model=model, state=state, unexpected=unexpected, headless=False)


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _under_our_names(
    layout: Layout | None, config: Any, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Mapped tensors, and names that nothing knows."""
    if layout is None:
        return dict(state), []
    for old, new in layout.older.items():
        state = {name.removesuffix(old) + new if name.endswith(old) else name: v for name, v in state.items()}
    if layout.prefix and not any(name.startswith(layout.prefix) for name in state):
        state = {layout.prefix + name: value for name, value in state.items()}
    state = {n: v for n, v in state.items() if not any(fnmatch.fnmatchcase(n, p) for p in layout.ignored)}
    rules = layout.rules(config)
    if not rules:
        return dict(state), []
    mapped = to_ours(rules, state)
    return mapped.state, mapped.unknown


def _layout_of(tree: Mapping[str, Any], config: Any, state: Mapping[str, Tensor]) -> Layout | None:
    """The library whose names a bare file has: the one under which most of our names are found; ours before others."""
    own = set(_shapes(tree, {}))
    module = discovery.spec("model", str(tree["name"])).module
    best, most = None, len(own & state.keys())
    for layout in layouts_of(module):
        found = len(own & _under_our_names(layout, config, state)[0].keys())
        if found > most:
            best, most = layout, found
    if most == 0:
        raise CheckpointError(
            f"The names of its tensors ({_some(sorted(state))}) are not those of {tree['name']} in any library."
        )
    return best


# ----------------------------------------------------------------------------------------------------- sizes and heads


def _shapes(tree: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, list[int]]:
    """Shape of every tensor of a component, built without memory; sizes that nobody knows are 2, which no pooling or
    patch minds.
    """
    defaults = to_tree(parse_component("model", dict(tree), "model"))
    known = {name: defaults[name] or 2 for name in SIZES if name in defaults}
    if "image_size" in defaults and defaults["image_size"] is None:
        known["image_size"] = [16 * int(defaults.get("patch_size") or 16)] * 2
    full = {**tree, **known, **{name: size for name, size in sizes.items() if name in defaults}}
    with torch.device("meta"):
        network = parse_component("model", full, "model").build()
    return {name: list(value.shape) for name, value in network.state_dict().items()}


@dataclass(frozen=True)
class _Axis:
    """Where a tensor's shape tells a size: `shape[dim] = base + step * (size - 2)`."""

    dim: int
    base: int
    step: int


def _axes(tree: Mapping[str, Any], size: str) -> dict[str, _Axis]:
    """Tensors whose shape depends on this size of the configuration; none of a network that is code of the person's
    own, which may not be buildable without memory.
    """
    if ":" in str(tree["name"]) or not hasattr(resolved(dict(tree)), size):
        return {}
    small, large = _shapes(tree, {size: 2}), _shapes(tree, {size: 3})
    found: dict[str, _Axis] = {}
    for name, shape in small.items():
        for dim, (a, b) in enumerate(zip(shape, large[name], strict=True)):
            if a != b:
                found[name] = _Axis(dim, a, b - a)
                break
    return found


def head_names(tree: Mapping[str, Any]) -> set[str]:
    """Tensors that depend on the number of classes."""
    return set(_axes(tree, "num_classes"))


def _has_head(tree: Mapping[str, Any], state: Mapping[str, Tensor]) -> bool:
    names = head_names(tree)
    return not names or any(name in state for name in names)


def _with_sizes(tree: dict[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The component with the sizes that nobody named, read from the weights' shapes."""
    defaults = to_tree(parse_component("model", tree, "model"))
    for size in SIZES:
        if size in defaults and defaults[size] is None:
            found = {
                (state[name].shape[axis.dim] - axis.base) // axis.step + 2
                for name, axis in _axes(tree, size).items()
                if name in state and state[name].dim() > axis.dim
            }
            if len(found) == 1:
                tree = {**tree, size: found.pop()}
    return tree


# -------------------------------------------------------------------------------------------------------------- fitting


def fit(network: nn.Module, loaded: Loaded) -> LoadReport:
    """Copy what fits into the network.

    Returns:
        What became of each tensor; `check` it.
    """
    own, state = network.state_dict(), loaded.state
    heads, others = head_names(to_tree(loaded.model)), _other_heads(network, loaded)
    report = LoadReport(
        source=loaded.checkpoint.source,
        kind=f"{loaded.checkpoint.library} {loaded.model.name}",
        total=len(own),
        unexpected=[*loaded.unexpected, *(n for n in state if n not in own and not n.startswith(others))],
        unused=[name for name in state if name not in own and name.startswith(others)],
    )
    resample = getattr(network, "resample", None)
    with torch.no_grad():
        for name, value in own.items():
            given = state.get(name)
            if given is None:
                if (name in heads and loaded.headless) or name.startswith(others):
                    report.replaced[name] = (None, list(value.shape))
                elif name.endswith("num_batches_tracked"):  # older files lack it, and nothing computed depends on it
                    report.loaded.append(name)
                else:
                    report.missing.append(name)
                continue
            if given.shape == value.shape:
                value.copy_(given)
                report.loaded.append(name)
                continue
            shapes = (list(given.shape), list(value.shape))
            changed = resample(name, given) if resample is not None else None
            if changed is not None and changed.shape == value.shape:
                value.copy_(changed)
                report.reshaped[name] = shapes
            elif name in heads:
                report.replaced[name] = shapes
            else:
                report.misfit[name] = shapes
    return report


def _other_heads(network: nn.Module, loaded: Loaded) -> tuple[str, ...]:
    """What names of heads begin with, where the network's head is another one than the checkpoint's: tensors of such
    names may be in one and not in the other. Where it is the same head, nothing of it may be missing.
    """
    prefixes: tuple[str, ...] = tuple(getattr(network, "head_prefixes", ()))
    if not prefixes or getattr(network, "head", None) == (loaded.head or "encoder"):
        return ()
    return prefixes
