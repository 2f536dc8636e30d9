"""What pictures show, in words: a text file beside each picture, or a column of a CSV file.

photos/a.jpg       photos/captions.csv     file,caption
photos/a.txt                               a.jpg,a red kite over the sea
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.core.suggest import did_you_mean
from layerwise.data.examples import Batch, Examples, TensorExamples, Windows
from layerwise.data.files import FileTree
from layerwise.data.picture_names import PictureNames
from layerwise.data.plain_text import read_text
from layerwise.data.table import MISSING, Table, read_table, short
from layerwise.data.texts import TextExamples

CSV_NAME, SIDECAR = "captions.csv", ".txt"
_USUAL = ("caption", "captions", "text", "description")
_SHOWN = 5


class CaptionedPictures(Examples):
    """`image` uint8 [C, H, W], `text` (see `data.texts`), and what other columns the texts have.

    Args:
        pictures: examples with `image`.
        texts: the caption of each, in the same order.
    """

    def __init__(self, pictures: Examples, texts: TextExamples) -> None:
        if len(pictures) != len(texts):
            raise ValueError(f"{len(pictures)} pictures and {len(texts)} captions")
        self.pictures, self._texts, self.decodes = pictures, texts, pictures.decodes

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def texts(self) -> Sequence[str]:
        return self._texts.texts

    def labels(self) -> Tensor | None:
        return self._texts.labels()

    def shards(self) -> Tensor | None:
        return self.pictures.shards()

    def collate(self, indices: Tensor) -> Batch:
        return {"image": self.pictures.collate(indices)["image"], **self._texts.collate(indices)}

    def collate_windows(self, indices: Tensor, windows: Windows, size: tuple[int, int] | None) -> Batch:
        image = self.pictures.collate_windows(indices, windows, size)["image"]
        return {"image": image, **self._texts.collate(indices)}

    def fingerprint(self) -> str:
        parts = {
            name: torch.tensor(list(held.fingerprint().encode()))
            for name, held in (("pictures", self.pictures), ("texts", self._texts))
        }
        return TensorExamples(parts).fingerprint()


@dataclass(kw_only=True)
class FoundCaptions:
    """Captions of a folder.

    Args:
        texts: picture -> caption, of those that have one.
        files: where they were read, which are no pictures.
        lost: rows that name no picture, for messages.
        repeated: rows that name a picture once more; the first one's caption is taken.
    """

    texts: dict[str, str]
    files: set[str]
    lost: list[str]
    repeated: list[str]


def find_captions(
    tree: FileTree, pictures: Sequence[str], source: str, *, file: str | None = None, text: str | None = None
) -> FoundCaptions | None:
    """Captions of pictures in a folder or zip; None where there are none and none were asked for.

    Args:
        pictures: names in the tree.
        source: "auto" takes text files beside the pictures where there are any, else `captions.csv` in the root where
            there is one; "none" looks for none; anything else is a CSV file, in the root or by a path of its own.
        file: the column of file names; None takes the one that names pictures.
        text: the column of captions; None takes the only other one, or one with a usual name.

    Raises:
        DataError: no such file or column, or bytes that are no text.
    """
    if source == "none":
        return None
    if source == "auto":
        beside = {name: PurePosixPath(name).with_suffix(SIDECAR).as_posix() for name in pictures}
        there = set(tree.files)
        if there := {name: note for name, note in beside.items() if note in there}:
            texts = {name: _sidecar(tree, note) for name, note in there.items()}
            kept = {name: caption for name, caption in texts.items() if caption}
            return FoundCaptions(texts=kept, files=set(there.values()), lost=[], repeated=[])
        if CSV_NAME not in tree.files:
            return None
        source = CSV_NAME
    return _from_table(tree, _read(tree, source), source, file, text)


def _sidecar(tree: FileTree, name: str) -> str:
    return " ".join(read_text(tree.read(name), tree.path(name), option=None).split())


def _read(tree: FileTree, source: str) -> Table:
    path = Path(source).expanduser()
    if source in tree.files:
        return read_table(tree.read(source), tree.path(source), fixed=True)
    if path.is_file():
        return read_table(path.read_bytes(), str(path), fixed=True)
    near = did_you_mean(source, [name for name in tree.files if name.lower().endswith((".csv", ".tsv"))])
    raise DataError(
        f"data.captions={source}: {tree.where} has no such file, and there is none at that path.{near} It is a CSV "
        f"file, auto (text files beside the pictures, or {CSV_NAME}) or none."
    )


def _from_table(tree: FileTree, table: Table, source: str, file: str | None, text: str | None) -> FoundCaptions:
    for option, asked in (("file", file), ("text", text)):
        if asked is not None and asked not in table.columns:
            near = did_you_mean(asked, table.columns)
            raise DataError(f"data.{option}={asked}: {table.name} has no such column.{near}")
    names = PictureNames(tree)
    if file is None:
        found = {name: sum(names.find(cell) is not None for cell in cells) for name, cells in table.columns.items()}
        file = max(found, key=lambda name: found[name])
        if not found[file]:
            shown = ", ".join(table.columns)
            raise DataError(f"{table.name}: no column names pictures in {tree.where} (columns: {shown}).")
    if text is None:
        others = [name for name in table.columns if name != file]
        usual = [name for name in others if name.lower() in _USUAL]
        if len(others) != 1 and len(usual) != 1:
            raise DataError(f"{table.name}: which column has the captions? data.text=COLUMN of {', '.join(others)}.")
        text = (others if len(others) == 1 else usual)[0]
    kept = FoundCaptions(texts={}, files={source}, lost=[], repeated=[])
    seen: set[str] = set()
    for line, cell, caption in zip(table.lines, table.columns[file], table.columns[text], strict=True):
        where = f"line {line}: {file}={short(cell)}"
        if (name := names.find(cell)) is None:
            kept.lost.append(where)
        elif name in seen:
            kept.repeated.append(where)
        else:
            seen.add(name)
            if caption not in MISSING:
                kept.texts[name] = " ".join(caption.split())
    return kept


def some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" (and {len(names) - _SHOWN} more)" if len(names) > _SHOWN else "")
