"""Files that are the old or the new one, never half: written beside, synchronised, renamed. Imports no torch."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from layerwise.core.errors import CheckpointError, StorageError

# Names that begin so belong to a write under way, or to one that was killed.
TEMPORARY = ".tmp-"

_CHUNK_BYTES = 4 << 20
_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EROFS: ("the file system is read-only", "choose another directory"),
    errno.EACCES: ("permission denied", "choose a directory that you may write to"),
    errno.EPERM: ("permission denied", "choose a directory that you may write to"),
}


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike[str], action: str = "write") -> Iterator[None]:
    """Turn an `OSError` inside into a `StorageError` that names `path`, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        known = (error.strerror or str(error), "check the directory")
        reason, remedy = _REASONS.get(error.errno or 0, known)
        if action == "read" and error.errno in (errno.EACCES, errno.EPERM):
            remedy = "allow yourself to read it"
        raise StorageError(f"Cannot {action} {os.fspath(path)}: {reason}. To go on, {remedy}.") from error


def temporary_name(path: Path) -> Path:
    """A free name in the folder of `path`, so that a rename to `path` stays on one file system."""
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}-{os.urandom(4).hex()}")


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut. File systems that cannot (EINVAL) are taken as they are."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes | memoryview) -> None:
    """`os.write` until all bytes are out."""
    view = memoryview(data).cast("B")
    while len(view):
        view = view[os.write(handle, view) :]


def write_new(path: Path, chunks: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Write a file that must not exist yet and fsync it. The name is only durable after `sync_folder`.

    Returns:
        `{"bytes": size, "sha256": hexadecimal digest}`, computed on the way out.
    """
    digest, size = hashlib.sha256(), 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            for start in range(0, len(view), _CHUNK_BYTES):
                piece = view[start : start + _CHUNK_BYTES]
                digest.update(piece)
                write_all(handle, piece)
            size += len(view)
        os.fsync(handle)
    finally:
        os.close(handle)
    return {"bytes": size, "sha256": digest.hexdigest()}


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace `path` by `data`, or leave it as it was.

    Raises:
        StorageError: full disk, read-only or forbidden directory; the previous file is whole, nothing lies beside.
    """
    path = Path(path)
    temporary = temporary_name(path)
    with storage_errors(path):
        try:
            write_new(temporary, [data])
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], tree: Any) -> None:
    """`write_text` of indented, strict JSON (no NaN, no infinity)."""
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_content(path: str | os.PathLike[str], content: Any) -> None:
    """`write_bytes` of bytes, `write_json` of a tree."""
    if isinstance(content, bytes):
        write_bytes(path, content)
    else:
        write_json(path, content)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The tree in a JSON file.

    Raises:
        CheckpointError: it is missing or not JSON.
        StorageError: it cannot be read.
    """
    try:
        with storage_errors(path, "read"):
            return json.loads(Path(path).read_bytes())
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CheckpointError(f"{os.fspath(path)} is missing.") from error
        raise
    except ValueError as error:
        raise CheckpointError(f"{os.fspath(path)} is damaged: not JSON ({error}).") from error


def sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(folder: Path) -> None:
    """Remove a folder so that no half of it is ever seen under its own name."""
    with storage_errors(folder, "remove"):
        hidden = temporary_name(folder)
        os.rename(folder, hidden)
        shutil.rmtree(hidden)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes left in `folder`. For the one process that may write there."""
    with storage_errors(folder, "clean"):
        for path in folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
