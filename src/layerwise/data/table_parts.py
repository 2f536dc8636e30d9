"""The files that a table's train, val and test parts are in."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from layerwise.core.config import Fraction
from layerwise.core.errors import DataError
from layerwise.data.files import FileTree, open_tree
from layerwise.data.table import Table

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """Which files serve, and how a person is told.

    Args:
        suffixes: of their names, in small letters, without ".gz".
        names: "it has no {names} files".
        wanted: what `data.root` should be.
        needed: what a folder must hold.
    """

    suffixes: tuple[str, ...]
    names: str
    wanted: str
    needed: str


def read_parts(
    root: str | None,
    parts: dict[str, Fraction | str | None],
    kinds: Kinds,
    read: Callable[[bytes, str], Table],
) -> dict[str, Table]:
    """Tables of the parts: `root` is one file, or a folder or zip of which each file is named after its part.

    Args:
        parts: what `data.val` and `data.test` ask; text is a path to that part's file.
        read: (bytes, name for messages) -> table.

    Raises:
        DataError: a file is missing, or none can be the training part.
    """
    path = None if root is None else Path(root).expanduser()
    if path is not None and path.is_file() and not zipfile.is_zipfile(path):
        tables = {"train": read(path.read_bytes(), str(path))}
    else:
        tree = open_tree(root, kinds.wanted)
        tables = {part: read(tree.read(name), tree.path(name)) for part, name in _roles(tree, kinds).items()}
    for part, asked in parts.items():
        if isinstance(asked, str):
            path = Path(asked).expanduser()
            if not path.is_file():
                raise DataError(f"data.{part}={asked}: there is no such file.")
            tables[part] = read(path.read_bytes(), str(path))
    return tables


def _roles(tree: FileTree, kinds: Kinds) -> dict[str, str]:
    """Part -> name of its file."""
    files = [name for name in tree.files if name.lower().removesuffix(".gz").endswith(kinds.suffixes)]
    roles: dict[str, str] = {}
    for name in files:
        stem = PurePosixPath(name).name.split(".")[0].lower()
        if len(files) == 1 or stem in PARTS:
            roles.setdefault("train" if len(files) == 1 else PARTS[stem], name)
    if "train" not in roles:
        found = f"it has {', '.join(files[:5])}" if files else f"it has no {kinds.names} files"
        raise DataError(f"data.root={tree.where}: {found}; {kinds.needed} is needed.")
    return roles
