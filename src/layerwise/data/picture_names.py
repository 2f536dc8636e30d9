"""Pictures of a folder by what people call them in a table."""

from pathlib import PurePosixPath

from layerwise.core.errors import DataError
from layerwise.data.files import FileTree
from layerwise.data.pictures import SUFFIXES


class PictureNames:
    """Pictures of a tree by what people call them: the path, the base name, or that without its suffix."""

    def __init__(self, tree: FileTree) -> None:
        self.tree = tree
        pictures = [name for name in tree.files if PurePosixPath(name).suffix.lower() in SUFFIXES]
        if not pictures:
            raise DataError(f"{tree.where} has no pictures ({', '.join(SUFFIXES[:2])}, ...).")
        self._names: dict[str, str | None] = {}
        for short_form in (
            lambda path: path.stem,
            lambda path: path.name,
            lambda path: path.with_suffix("").as_posix(),
        ):
            for name in pictures:
                key = short_form(PurePosixPath(name))
                self._names[key] = None if self._names.get(key, name) != name else name  # None: two pictures have it
        self._names |= {name: name for name in pictures}

    def find(self, cell: str) -> str | None:
        """The picture that a cell names; None if there is none, or more than one."""
        return self._names.get(cell.replace("\\", "/").removeprefix("./"))
