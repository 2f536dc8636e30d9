"""Where a named data set's files are: in the folder given, in $LAYERWISE_DATA, in the cache, or fetched into the cache
and checked.

Asking for a named data set is asking for its download: address and size are printed. `LAYERWISE_OFFLINE=1` and
`HF_HUB_OFFLINE=1` forbid it.
"""

import errno
import fcntl
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from layerwise.core.errors import DataError, StorageError, UnsupportedError

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0
_ATTEMPTS = 3


@dataclass(frozen=True)
class RemoteFile:
    """A file of a named data set.

    Args:
        path: where it lies below $LAYERWISE_DATA and below the cache, with forward slashes.
        url: where it is downloaded from, http or https.
        sha256: hexadecimal SHA-256 of its bytes.
        bytes: its size.
    """

    path: str
    url: str
    sha256: str
    bytes: int


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/layerwise, by default ~/.cache/layerwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layerwise"


def offline() -> str | None:
    """The environment setting that forbids downloads, None if they are allowed."""
    for name in ("LAYERWISE_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").lower() in ("1", "true", "yes", "on"):
            return f"{name}={os.environ[name]}"
    return None


def locate(name: str, files: Sequence[RemoteFile], root: str | None = None) -> dict[str, Path]:
    """The files of a data set on this machine, downloaded if need be.

    Args:
        name: the data set's name, for messages.
        files: what it consists of.
        root: a folder to look in instead (by base name, or by path below it), or the file itself where there is one.

    Returns:
        `RemoteFile.path` -> path on this machine.

    Raises:
        DataError: a file is not in `root`; a download has other bytes than it should.
        UnsupportedError: downloads are forbidden, or the server cannot be reached.
    """
    if root is not None:
        return {file.path: _in_root(name, file, Path(root).expanduser(), single=len(files) == 1) for file in files}
    found: dict[str, Path] = {}
    wanted: list[RemoteFile] = []
    own = os.environ.get("LAYERWISE_DATA")
    for file in files:
        kept = cache_folder() / file.path
        if own and (Path(own).expanduser() / file.path).is_file():
            found[file.path] = Path(own).expanduser() / file.path
        else:
            found[file.path] = kept
            if not _complete(kept, file):
                wanted.append(file)
    if wanted and (setting := offline()):
        raise UnsupportedError(
            f"{name} is not on this machine and {setting} forbids downloads ({_size(sum(f.bytes for f in wanted))}, "
            f"{wanted[0].url}). "
            f"Unset it, or put the files into a folder and give data.root=FOLDER: "
            f"{', '.join(Path(f.path).name for f in wanted)}."
        )
    for file in wanted:
        download(file, cache_folder() / file.path, name)
    return found


def _in_root(name: str, file: RemoteFile, root: Path, single: bool) -> Path:
    base = Path(file.path).name
    if root.is_file():
        if single:
            return root
        raise DataError(f"data.root={root}: {name} has several files; give the folder that holds them.")
    if not root.is_dir():
        raise DataError(f"data.root={root}: there is no such folder.")
    for candidate in (root / base, root / file.path):
        if candidate.is_file():
            return candidate
    raise DataError(f"data.root={root}: {name} needs the file {base!r}, which is not there.")


def _complete(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time is in this context; the others wait. `path` is of a lock file, which stays."""
    with open(path, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def download(file: RemoteFile, target: Path, name: str) -> None:
    """Fetch a file to `target`: into `target.part` first, continued where it was broken off, checked, then renamed.

    Raises:
        DataError: the bytes are not those expected.
        UnsupportedError: the server cannot be reached or refuses.
        StorageError: the disk is full or cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target.with_name(target.name + ".lock")):
            if _complete(target, file):
                return  # another process was faster
            print(f"Downloading {name}: {file.url} ({_size(file.bytes)}) to {target}", file=sys.stderr, flush=True)
            _fetch(file, part, name)
            digest = _sha256(part)
            if digest != file.sha256:
                part.unlink()
                raise DataError(
                    f"{name}: {file.url} has other bytes than expected (SHA-256 {digest[:16]}..., expected "
                    f"{file.sha256[:16]}...). "
                    "Nothing was kept. Try again, or give your own copy with data.root=FOLDER."
                )
            os.replace(part, target)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise StorageError(f"{name}: cannot write {target}: {reason}. Set XDG_CACHE_HOME to another folder.") from error


def _fetch(file: RemoteFile, part: Path, name: str) -> None:
    """Bring `part` to `file.bytes` bytes, with a few attempts that each continue the one before."""
    problem = "the connection broke off"
    for _ in range(_ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        if have == file.bytes:
            return
        if have > file.bytes:
            part.unlink()
            have = 0
        if not file.url.startswith(("https://", "http://")):
            raise ValueError(f"{file.url}: only http and https are fetched")
        headers = {"User-Agent": "layerwise"} | ({"Range": f"bytes={have}-"} if have else {})
        request = urllib.request.Request(file.url, headers=headers)  # noqa: S310 - checked above
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - checked above
                goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
                with part.open("ab" if goes_on else "wb") as out:
                    _copy(answer, out, file.bytes)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                part.unlink()  # what was there before was of another file
                continue
            raise UnsupportedError(
                _unreachable(file, name, f"the server answered {error.code} {error.reason}")
            ) from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, "reason", error))
    if not part.exists() or part.stat().st_size != file.bytes:
        raise UnsupportedError(_unreachable(file, name, problem))


def _copy(answer: http.client.HTTPResponse, out: BinaryIO, limit: int) -> None:
    """Copy an answer's body; stops past `limit` bytes, so that a wrong server cannot fill the disk."""
    while out.tell() <= limit and (chunk := answer.read(_CHUNK)):
        out.write(chunk)


def _unreachable(file: RemoteFile, name: str, problem: str) -> str:
    return (
        f"{name}: cannot download {file.url}: {problem}. Try again (it continues where it stopped), "
        f"or give your own copy with data.root=FOLDER holding {Path(file.path).name}."
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
