"""A network of ours in another library's layout."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from layerwise.core import discovery
from layerwise.core.config import Component
from layerwise.core.errors import UnsupportedError
from layerwise.interop.layouts import Layout, layouts, layouts_of
from layerwise.interop.preprocessing import Preprocessing
from layerwise.interop.rules import to_theirs
from layerwise.track import files

Tree = dict[str, Any]


def save(
    network: nn.Module,
    model: Component,
    folder: Path,
    library: str,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    tokenizer: Mapping[str, Tree | bytes] | None = None,
) -> list[Path]:
    """Write weights, configuration, preprocessing, class names and tokeniser as the library keeps them.

    Args:
        model: the resolved component of the network.
        folder: made if missing; files are replaced atomically.
        library: "timm", "torchvision", "transformers" ...
        tokenizer: files of the tokeniser by name; of a file that the layout writes, entries in place of its own.

    Returns:
        The files.

    Raises:
        UnsupportedError: the library has no such architecture, or no word for one of its options.
    """
    module = discovery.spec("model", model.name).module
    found = layouts_of(module, library)
    if not found:
        known = sorted({"layerwise", *(layout.library for layout in layouts_of(module))})
        every = sorted({layout.library for layout in layouts()})
        reason = f"it is none of {', '.join(every)}"
        if library in every:
            reason = f"{library} has no map for {model.name}"
        raise UnsupportedError(f"format={library}: {reason}. {model.name} can be saved as {', '.join(known)}.")
    layout = found[0]
    if layout.parts:
        return _save_parts(network, model, folder, layout)
    trees: dict[str, Tree] = {"config.json": layout.write(model.config, class_names)}
    if preprocessing is not None:
        for name, entries in layout.write_preprocessing(preprocessing).items():
            trees[name] = _merged(trees.get(name, {}), entries)
    raw: dict[str, bytes] = {}
    for name, content in (tokenizer or {}).items():
        if isinstance(content, bytes):
            raw[name] = content
        else:
            trees[name] = _merged(trees.get(name, {}), content)
    state: dict[str, Tensor] = {n: v.detach().cpu() for n, v in network.state_dict().items()}
    if rules := layout.rules(model.config):
        mapped = to_theirs(rules, state)
        if mapped.unknown or mapped.incomplete:
            left = ", ".join((mapped.unknown + mapped.incomplete)[:4])
            raise UnsupportedError(f"format={library} has no place for {left} of {model.name}.")
        state = mapped.state
    state = {name: value.contiguous() for name, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    files.write_bytes(folder / layout.weights, _weights_bytes(state, layout.weights))
    for name, content in {**trees, **raw}.items():
        files.write_content(folder / name, content)
    return [folder / layout.weights, *(folder / name for name in (*trees, *raw))]


def _save_parts(network: nn.Module, model: Component, folder: Path, layout: Layout) -> list[Path]:
    """Each network in a folder of its own, and the file that names them."""
    written: list[Path] = []
    for name, library in layout.parts.items():
        part: Component = getattr(model.config, name)
        written += save(network.get_submodule(name), part, folder / name, library)
    files.write_json(folder / layout.index, layout.write(model.config, ()))
    return [*written, folder / layout.index]


def _weights_bytes(state: dict[str, Tensor], name: str) -> bytes:
    if name.endswith(".safetensors"):  # which has one name a tensor: libraries tie the others again
        places = {value.data_ptr(): first for first, value in reversed(state.items()) if value.numel()}
        once = {n: value for n, value in state.items() if places.get(value.data_ptr(), n) == n}
        return safetensors_bytes(once, metadata={"format": "pt"})
    buffer = io.BytesIO()
    torch.save(state, buffer)  # the library's own form; tensors only, so that it loads with weights_only
    return buffer.getvalue()


def _merged(base: Tree, entries: Tree) -> Tree:
    merged = dict(base)
    for key, value in entries.items():
        merged[key] = _merged(merged[key], value) if isinstance(merged.get(key), dict) else value
    return merged
