"""Training state on disk: a tree of tensors and plain values, checksummed, free of pickle, written behind the loop.

A state is a folder `step-000000123` of three files: `tensors.safetensors`, `tree.json` (everything else, a placeholder
for each tensor) and `manifest.json` (sizes and SHA-256 of the two). The folder gets its name only after all of it is on
disk.

The safetensors file is written here, not by the library: straight from the buffers (no second copy of the state in
memory), hashed on the way, with a full disk reported by the system call. It is read by the library.
"""

import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.core.errors import CheckpointError, StorageError
from layerwise.track import files

if TYPE_CHECKING:
    from torch import Tensor

# A tree: dict with string keys, list, tensor, int, float, str, bool or None.
Tree = Any

_TENSORS, _TREE, _MANIFEST = "tensors.safetensors", "tree.json", "manifest.json"
_FORMAT = 1
_MARK = "$"  # a dict of this one key is a placeholder; a real dict with such a key is wrapped in one.
_OLD = ".old"  # a state that is being replaced by one of the same step.
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
}


# ---------------------------------------------------------------------------------------------------- tree <-> JSON


@dataclass
class _Encoded:
    """A tree as JSON, and its tensors by name, each distinct one once."""

    json: Any = None
    tensors: "dict[str, Tensor]" = field(default_factory=dict)


def _encode(tree: Tree) -> _Encoded:
    """Split a tree.

    Raises:
        TypeError: a leaf or key that a state cannot hold; the message names its path.
    """
    import torch

    found = _Encoded()
    names: dict[Any, str] = {}

    def tensor(value: "Tensor", path: str) -> Any:
        value = value.detach()
        if value.layout != torch.strided or value.is_quantized or value.is_meta or str(value.dtype)[6:] not in _DTYPES:
            raise TypeError(f"{path}: a state cannot hold a {value.layout} tensor of {value.dtype} on {value.device}.")
        # The same window on the same memory is one tensor (tied weights); empty ones have no memory.
        identity = (
            (value.device, value.data_ptr(), value.dtype, value.shape, value.stride()) if value.numel() else object()
        )
        if identity not in names:
            name = path.encode(errors="backslashreplace").decode()
            while name in found.tensors or name == "__metadata__":
                name += "'"
            names[identity] = name
            found.tensors[name] = value
        return {_MARK: ["tensor", names[identity]]}

    def visit(value: Tree, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            return tensor(value, path)
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if value.bit_length() <= 63 else {_MARK: ["int", hex(value)]}
        if kind is float:
            return value if math.isfinite(value) else {_MARK: ["float", repr(value)]}
        if kind is list:
            return [visit(item, f"{path}/{i}" if path else str(i)) for i, item in enumerate(value)]
        if isinstance(value, dict):
            for key in value:
                if type(key) is not str:
                    raise TypeError(
                        f"{path or 'the state'}: the key {key!r} is a {type(key).__name__}; a state's keys are strings."
                    )
            items = {key: visit(item, f"{path}/{key}" if path else key) for key, item in value.items()}
            return {_MARK: ["dict", items]} if _MARK in items else items
        raise TypeError(f"{path or 'the state'}: a state cannot hold a {kind.__module__}.{kind.__name__}.")

    found.json = visit(tree, "")
    return found


def _decode(node: Any, tensors: "dict[str, Tensor]") -> Tree:
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    if _MARK not in node:
        return {key: _decode(item, tensors) for key, item in node.items()}
    kind, value = node[_MARK]
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in value.items()}
    return int(value, 16) if kind == "int" else float(value)


def _safetensors(tensors: "dict[str, Tensor]") -> Iterator[bytes | memoryview]:
    """Pieces of a safetensors file. Widest types first, so that every tensor is aligned."""
    import torch

    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    header: dict[str, Any] = {}
    offset = 0
    for name in order:
        value = tensors[name]
        end = offset + value.numel() * value.element_size()
        header[name] = {
            "dtype": _DTYPES[str(value.dtype)[6:]],
            "shape": list(value.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in order:
        if tensors[name].numel():
            plain = tensors[name].cpu().resolve_conj().resolve_neg().contiguous()
            yield plain.view(-1).view(torch.uint8).numpy().data


# ------------------------------------------------------------------------------------------------------ save and load


def save_tree(folder: str | os.PathLike[str], tree: Tree) -> None:
    """Write a tree as the folder `folder`, whole or not at all; one that is there is replaced.

    Raises:
        TypeError: a leaf that a state cannot hold, named by its path.
        StorageError: full disk, read-only or forbidden directory.
    """
    _write(Path(folder), _encode(tree))


def _write(folder: Path, encoded: _Encoded) -> None:
    temporary = files.temporary_name(folder)
    with files.storage_errors(folder):
        try:
            temporary.mkdir(parents=True)
            text = json.dumps(encoded.json, allow_nan=False).encode()
            parts = {
                _TENSORS: files.write_new(temporary / _TENSORS, _safetensors(encoded.tensors)),
                _TREE: files.write_new(temporary / _TREE, [text]),
            }
            manifest = json.dumps({"format": _FORMAT, "files": parts}, indent=2)
            files.write_new(temporary / _MANIFEST, [manifest.encode()])
            files.sync_folder(temporary)
            _rename(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _rename(temporary: Path, folder: Path) -> None:
    """Give the new state its name.

    One of the same name steps aside first; `_recover` brings it back if we are killed in between.
    """
    old = folder.with_name(folder.name + _OLD)
    replaced = folder.exists()
    if replaced:
        os.rename(folder, old)
    try:
        os.rename(temporary, folder)
    except OSError:
        if replaced:
            os.rename(old, folder)
        raise
    files.sync_folder(folder.parent)
    if replaced:
        files.remove_folder(old)


def _recover(folder: Path) -> None:
    """Finish or undo replacements that were killed half way."""
    with files.storage_errors(folder, "clean"):
        for old in folder.glob(f"step-*{_OLD}"):
            state = old.with_name(old.name.removesuffix(_OLD))
            if state.exists():
                files.remove_folder(old)
            else:
                os.rename(old, state)
    files.remove_leftovers(folder)


def load_tree(folder: str | os.PathLike[str]) -> Tree:
    """Read a tree that `save_tree` wrote.

    Tensors are on the CPU, contiguous, in memory of their own; tied ones are one tensor again.

    Raises:
        CheckpointError: a file is missing or differs from its checksum; the message names it.
        StorageError: a file cannot be read.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    manifest = files.read_json(folder / _MANIFEST)
    try:
        if manifest["format"] != _FORMAT:
            raise CheckpointError(
                f"{folder / _MANIFEST}: format {manifest['format']}; this version reads format {_FORMAT}."
            )
        expected = {
            name: (manifest["files"][name]["bytes"], manifest["files"][name]["sha256"]) for name in (_TENSORS, _TREE)
        }
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / _MANIFEST} is damaged: not a manifest.") from error
    for name, (size, digest) in expected.items():
        _verify(folder / name, size, digest)
    # A clone is aligned as torch aligns (results of vector code may depend on it) and lets go of the file.
    tensors = {name: value.clone() for name, value in load_file(folder / _TENSORS).items()}
    return _decode(files.read_json(folder / _TREE), tensors)


def _verify(path: Path, size: int, digest: str) -> None:
    try:
        with files.storage_errors(path, "read"):
            found = path.stat().st_size
            if found != size:
                raise CheckpointError(f"{path} is damaged: {found} bytes, expected {size}.")
            if files.sha256(path) != digest:
                raise CheckpointError(f"{path} is damaged: its SHA-256 differs from the manifest's.")
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CheckpointError(f"{path} is missing.") from error
        raise


def state_name(step: int) -> str:
    """Folder name of the state after `step` steps."""
    return f"step-{step:09d}"


def list_states(folder: str | os.PathLike[str]) -> list[tuple[int, Path]]:
    """(step, folder) of all states, oldest first; not checked."""
    found = [(path.name.removeprefix("step-"), path) for path in Path(folder).glob("step-*")]
    return sorted((int(step), path) for step, path in found if step.isdecimal())


def newest_state(folder: str | os.PathLike[str], warn: Callable[[str], None]) -> tuple[int, Tree] | None:
    """Step and tree of the newest state that is whole; None where there is no state at all. Writes nothing.

    Args:
        folder: where the states are.
        warn: is told of each damaged state that was passed over.

    Raises:
        CheckpointError: there are states, and all are damaged.
    """
    return _newest(folder, warn)[0]


def _newest(folder: str | os.PathLike[str], warn: Callable[[str], None]) -> tuple[tuple[int, Tree] | None, list[Path]]:
    """`newest_state`, and the damaged states that were passed over."""
    states = list_states(folder)
    damaged: list[Path] = []
    for step, path in reversed(states):
        try:
            return (step, load_tree(path)), damaged
        except CheckpointError as error:
            damaged.append(path)
            before = "the one before it is used" if len(damaged) < len(states) else "there is none before it"
            warn(f"{error} The state of step {step} cannot be used; {before}.")
    if states:
        count = f"All {len(states)} states" if len(states) > 1 else "The only state"
        raise CheckpointError(
            f"{count} in {os.fspath(folder)} cannot be used. Restore one from a copy, or start a new run with --run."
        )
    return None, damaged


class StateKeeper:
    """Saves states behind the loop, keeps the last few, finds the newest whole one.

    `save` copies the tensors into buffers that it keeps (several times faster than clones, which ask for fresh memory)
    and returns; a thread writes the copy. There is one write at a time: a second `save` waits for it before it touches
    the buffers.
    Build one only while holding the run's lock: it removes what killed writes left behind.

    Args:
        folder: where the states are; made if absent.
        keep_last: number of newest states that are kept.
        milestones: steps whose states are kept for good.
        warn: is told of damaged states.

    Raises:
        StorageError: the folder cannot be made or cleaned.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep_last: int = 2,
        milestones: Collection[int] = (),
        *,
        warn: Callable[[str], None],
    ) -> None:
        if keep_last < 1:
            raise ValueError(f"keep_last={keep_last}: must be at least 1.")
        self.folder = Path(folder)
        self.keep_last = keep_last
        self.milestones = frozenset(milestones)
        self._warn = warn
        self._buffers: dict[str, tuple[tuple[int, ...], Tensor]] = {}  # name -> strides of the original, buffer
        self._damaged: set[Path] = set()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        with files.storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        _recover(self.folder)

    def save(self, step: int, tree: Tree) -> None:
        """Save the tree as the state after `step` steps; the tree may change as soon as this returns.

        Raises:
            TypeError: a leaf that a state cannot hold.
            StorageError: the *previous* save failed.
        """
        self.wait()
        encoded = _encode(tree)
        self._snapshot(encoded)
        self._thread = threading.Thread(target=self._run, args=(step, encoded), name="layerwise-save")
        self._thread.start()

    def wait(self) -> None:
        """Return when the write under way is on disk.

        Raises:
            StorageError: it failed; earlier states are whole.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def newest(self) -> tuple[int, Tree] | None:
        """`newest_state` of the folder, after the write under way."""
        self.wait()
        found, damaged = _newest(self.folder, self._warn)
        self._damaged.update(damaged)
        return found

    def clear(self) -> None:
        """Remove all states: for a run that is deliberately started again."""
        self.wait()
        for _, path in list_states(self.folder):
            files.remove_folder(path)

    def _snapshot(self, encoded: _Encoded) -> None:
        """Replace the tensors by copies in kept buffers, which have the originals' strides: a plain copy."""
        import torch

        kept: dict[str, tuple[tuple[int, ...], Tensor]] = {}
        for name, value in encoded.tensors.items():
            strides, buffer = self._buffers.get(name, (None, value))
            if strides != value.stride() or buffer.shape != value.shape or buffer.dtype != value.dtype:
                buffer = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            kept[name] = value.stride(), buffer.copy_(value, non_blocking=value.is_cuda)
        if any(value.is_cuda for value in encoded.tensors.values()):
            torch.cuda.synchronize()
        self._buffers = kept
        encoded.tensors = {name: buffer for name, (_, buffer) in kept.items()}

    def _run(self, step: int, encoded: _Encoded) -> None:
        try:
            _write(self.folder / state_name(step), encoded)
            self._retain(step)
        except BaseException as error:  # handed to the loop's thread by `wait`
            self._error = error

    def _retain(self, step: int) -> None:
        """Remove states known to be damaged, and those up to `step` that are neither among the last nor milestones."""
        self._damaged.discard(self.folder / state_name(step))
        for path in self._damaged:
            if path.exists():
                files.remove_folder(path)
        self._damaged.clear()
        for s, path in [(s, path) for s, path in list_states(self.folder) if s <= step][: -self.keep_last]:
            if s not in self.milestones:
                files.remove_folder(path)
