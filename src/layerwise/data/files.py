"""A person's files under one view, whether they lie in a folder, inside a zip, or are a single file."""

import os
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from layerwise.core.errors import DataError

_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}


def is_litter(name: str) -> bool:
    """Whether a path has a part that an operating system left there: hidden files, Thumbs.db, __MACOSX."""
    return any(part.startswith(".") or part.lower() in _LITTER for part in PurePosixPath(name).parts)


class FileTree(ABC):
    """Files and folders by their path below a root, with forward slashes, sorted; hidden files and other litter are
    left out.

    Args:
        where: what messages call it.
    """

    where: str
    files: list[str]
    folders: list[str]

    @abstractmethod
    def read(self, name: str, most: int = -1) -> bytes:
        """The bytes of a file, or its first `most` bytes."""

    @abstractmethod
    def size(self, name: str) -> int:
        """How many bytes a file has."""

    def path(self, name: str) -> str:
        """What messages call one of its files."""
        return f"{self.where}/{name}"


class FolderTree(FileTree):
    """A folder on disk; links are followed, but for those to a folder they are in."""

    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)
        self.files, self.folders = [], []
        seen: set[str] = set()
        for folder, names, files in os.walk(root, followlinks=True):
            if (real := os.path.realpath(folder)) in seen:  # a link back to where we were
                names.clear()
                continue
            seen.add(real)
            names[:] = sorted(name for name in names if not is_litter(name) and not _leads_up(folder, name, real))
            below = Path(folder).relative_to(root)
            self.folders += [(below / name).as_posix() for name in names]
            self.files += [(below / name).as_posix() for name in files if not is_litter(name)]
        self.files.sort()
        self.folders.sort()

    def read(self, name: str, most: int = -1) -> bytes:
        with open(self.root / name, "rb") as handle:
            return handle.read(most)

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size


def _leads_up(folder: str, name: str, real: str) -> bool:
    """Whether a folder in `folder` (really at `real`) is a link to it or to one above it."""
    path = os.path.join(folder, name)
    return os.path.islink(path) and os.path.commonpath([real, target := os.path.realpath(path)]) == target


class ZipTree(FileTree):
    """What is inside a zip; read there, never unpacked. Reading is safe from several threads."""

    def __init__(self, root: Path) -> None:
        self.where = str(root)
        try:
            self.archive = zipfile.ZipFile(root)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{root} is not a readable zip: {error}.") from error
        names = [name for name in self.archive.namelist() if not is_litter(name)]
        self.files = sorted(name for name in names if not name.endswith("/"))
        folders = {name.rstrip("/") for name in names if name.endswith("/")}
        folders.update(str(parent) for name in self.files for parent in PurePosixPath(name).parents)
        self.folders = sorted(folders - {"."})

    def read(self, name: str, most: int = -1) -> bytes:
        try:
            with self.archive.open(name) as handle:
                return handle.read(most)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # checksum, password, method
            raise OSError(f"{name} in {self.where}: {error}") from error

    def size(self, name: str) -> int:
        return self.archive.getinfo(name).file_size


class TarTree(FileTree):
    """What is inside uncompressed tar files, named SHARD/MEMBER; read at its place, never unpacked. Reading is safe
    from several threads.

    Args:
        root: the folder of the archives, for messages.
        shards: the archives; the position of one is its number.

    Raises:
        DataError: an archive is damaged, cut off or compressed.
    """

    def __init__(self, root: Path, shards: Sequence[Path]) -> None:
        self.where, self.shards = str(root), list(shards)
        self._places: dict[str, tuple[int, int, int]] = {}  # name -> number of the shard, first byte, bytes
        for number, shard in enumerate(self.shards):
            try:
                with tarfile.open(shard, "r:") as archive:
                    for member in archive:
                        if member.isfile() and not is_litter(member.name):
                            place = (number, member.offset_data, member.size)
                            self._places[f"{shard.name}/{PurePosixPath(member.name)}"] = place
            except (tarfile.TarError, OSError) as error:
                raise DataError(f"{shard} is not a readable tar file (uncompressed): {error}.") from error
        self.files = sorted(self._places)
        self.folders = []

    def read(self, name: str, most: int = -1) -> bytes:
        number, first, size = self._places[name]
        with open(self.shards[number], "rb") as handle:
            handle.seek(first)
            content = handle.read(size if most < 0 else min(most, size))
        if len(content) < (size if most < 0 else min(most, size)):
            raise OSError(f"{self.path(name)} is cut off")
        return content

    def size(self, name: str) -> int:
        return self._places[name][2]

    def shard(self, name: str) -> int:
        """The number of the archive that a file lies in."""
        return self._places[name][0]


def open_tree(root: str | None, what: str) -> FileTree:
    """The folder or zip at `root`.

    Args:
        root: a path; `~` stands for the home folder.
        what: what should be there, for messages.

    Raises:
        DataError: no root, no such path, or neither folder nor zip.
    """
    if root is None:
        raise DataError(f"data.root is needed: {what}.")
    path = Path(root).expanduser()
    if path.is_dir():
        return FolderTree(path)
    if not path.exists():
        raise DataError(f"data.root={root}: there is no such file or folder.")
    if zipfile.is_zipfile(path):
        return ZipTree(path)
    raise DataError(f"data.root={root} is neither a folder nor a zip; it should be {what}.")
