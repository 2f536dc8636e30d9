"""Results of long work over a person's files, kept on disk: made once, whole or not at all, found again by a key."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from layerwise.core.errors import StorageError
from layerwise.data.download import cache_folder

_MANIFEST = "manifest.json"


def cache_key(*parts: object) -> str:
    """A name for what was made out of `parts`: 32 hexadecimal digits of their hash, in order.

    Args:
        parts: JSON values.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def file_stamps(paths: Iterable[Path]) -> list[list[Any]]:
    """What tells, unread, that files are the same as before: path, size and time of the last change (ns)."""
    return [[str(path.resolve()), (found := path.stat()).st_size, found.st_mtime_ns] for path in paths]


def kept(root: str | None, kind: str, key: str, make: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The folder of a result and what is known of it; made if it is not there or not whole.

    Of several processes one makes it and the others wait. A process that dies leaves nothing that looks like a result.

    Args:
        root: folder of the cache; None takes the package's own.
        kind: "texts", "tokens" ...; results of a kind lie in one folder.
        key: of the result, see `cache_key`.
        make: writes files into the empty folder it is given, and returns JSON values that are kept beside them.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    folder = (cache_folder() if root is None else Path(root).expanduser()) / kind
    target = folder / key
    if (known := _whole(target)) is not None:
        return target, known
    with _storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{key}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (known := _whole(target)) is not None:
                return target, known  # another process was faster
            part = folder / f"{key}.part"
            for leftover in (part, target):
                shutil.rmtree(leftover, ignore_errors=True)
            part.mkdir()
            try:
                known = make(part)
                sizes = {path.name: path.stat().st_size for path in part.iterdir()}
                (part / _MANIFEST).write_text(json.dumps({"files": sizes, "known": known}), encoding="utf-8")
                for path in part.iterdir():
                    _synchronise(path)
                os.rename(part, target)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
    return target, known


def _whole(folder: Path) -> dict[str, Any] | None:
    """What is known of a result whose files all have the size they were made with; None for any other."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if all((folder / name).stat().st_size == size for name, size in manifest["files"].items()):
            return manifest["known"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: it is made anew
    return None


def _synchronise(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _storage_errors(folder: Path):
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"Cannot keep what was read in {folder}: {error.strerror or error}. Name another folder with "
            "data.cache=FOLDER or XDG_CACHE_HOME, or free some space."
        ) from error
