"""Pictures with a CSV file beside them: a column of file names, and one or several columns to predict.

    photos/labels.csv      file,diameter_mm            file,cat,dog,indoors       file,tags
    photos/a.jpg           a.jpg,12.5                  a.jpg,1,0,1                a.jpg,cat|indoors

Numbers serve image regression; several columns of 0 and 1, or a column of names in a list, serve multi-label
classification; a column of single names serves image classification.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.core.suggest import did_you_mean
from layerwise.data.examples import Batch, Examples, Splits, TensorExamples
from layerwise.data.files import FileTree, open_tree
from layerwise.data.image_folder import ImageFolder, ImageFolderConfig, Part
from layerwise.data.picture_names import PictureNames
from layerwise.data.table import MISSING, Table, read_table, short, to_numbers, wrong_cell

_MOST_CLASSES = 20  # whole numbers with at most so many values may be meant as classes
_LIST_MARKS = ("|", ";")  # found out; a comma or blank may be part of a name and must be said
_YES, _NO = {"1", "1.0", "true", "yes", "y"}, {"0", "0.0", "false", "no", "n"}
_STRATA = 10
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ImageTableConfig(ImageFolderConfig):
    """Pictures in a folder or zip with a CSV file of their targets.

    Args:
        test, val: a share of train, or a path to another CSV file of the same columns for pictures in the same root.
        labels: the CSV file, in the root or by a path of its own.
        file: the column of file names: paths below the root, base names, or names without their suffix; None takes the
            column that names pictures.
        target: columns to predict; none takes the only other column, or all others where they hold 0 and 1.
        target_kind: "number", "class" (one column), "labels" (columns of 0 and 1, or one column of lists); "auto" finds
            out.
        separator: between the names of a list; None finds | and ;.
        group: a column whose equal values stay in one part (patient, user).
    """

    labels: str = "labels.csv"
    file: str | None = None
    target: tuple[str, ...] = ()
    target_kind: Literal["auto", "number", "class", "labels"] = "auto"
    separator: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Targets:
    """What the target columns mean, found out on the training file."""

    columns: tuple[str, ...]
    kind: Literal["number", "class", "labels"]
    names: tuple[str, ...]  # of targets, classes or labels
    separator: str | None = None  # of a column of lists


class PicturesWithTargets(Examples):
    """Pictures that are decoded for every batch, and columns of targets that lie in memory.

    Args:
        pictures: examples with `image`.
        columns: name -> tensor [N, ...].
    """

    def __init__(self, pictures: Examples, columns: dict[str, Tensor]) -> None:
        self.pictures, self.columns, self.decodes = pictures, TensorExamples(columns), pictures.decodes

    def __len__(self) -> int:
        return len(self.pictures)

    def labels(self) -> Tensor | None:
        return self.columns.labels()

    def targets(self) -> Tensor:
        return self.columns.columns["target"]

    def collate(self, indices: Tensor) -> Batch:
        batch = self.pictures.collate(indices)
        return {"image": batch["image"], **self.columns.collate(indices)}

    def fingerprint(self) -> str:
        return TensorExamples({"pictures": _bytes(self.pictures), "targets": _bytes(self.columns)}).fingerprint()


def _bytes(examples: Examples) -> Tensor:
    return torch.tensor(list(examples.fingerprint().encode()))


class ImageTable(ImageFolder):
    """`image` uint8 [C, H, W], and `target` float64 [T] (numbers), `labels` int64 (classes) or `multi_labels` int8 [L]
    (1 yes, 0 no, -1 not known).
    """

    def __init__(self, config: ImageTableConfig) -> None:
        super().__init__(config)
        self.table_config = config

    def splits(self) -> Splits:
        """Read the CSV files, find and decode the pictures.

        Raises:
            DataError: no such file or column, rows without a picture, pictures with two rows, targets of another kind;
                file, line and column are named.
        """
        config = self.table_config
        tree = self.tree = open_tree(config.root, "a folder or zip of pictures with a CSV file of their targets")
        tables = {"train": self._table(tree, config.labels)}
        for part in ("val", "test"):
            if isinstance(asked := getattr(config, part), str):
                tables[part] = self._table(tree, asked)
        train = tables["train"]
        files = PictureNames(tree)
        column = self._file_column(train, files)
        targets = self._targets(train, column)
        kept: dict[str, tuple[Table, list[str]]] = {}
        for part, table in tables.items():
            for name in (column, *targets.columns):
                if name not in table.columns:
                    raise DataError(f"{table.name} has no column {name!r}.{did_you_mean(name, table.columns)}")
            kept[part] = self._matched(self._with_targets(table, targets), column, targets, files)
        parts = {part: Part(tree, names, [""] * len(names)) for part, (_, names) in kept.items()}
        splits = self.made(parts, [""])
        made = {part: self._joined(splits, part, table, names, targets) for part, (table, names) in kept.items()}
        classes = [] if targets.kind == "number" else list(targets.names)
        table = self._readable(splits, "train", *kept["train"])
        extras = {**splits.extras, "targets": list(targets.names), **self._grouping(table, made["train"], targets)}
        facts = {key: value for key, value in splits.facts.items() if key != "num_classes"}
        facts |= {"num_classes": len(classes)} if classes else {}
        return replace(
            splits,
            train=made["train"],
            val=made.get("val"),
            test=made.get("test"),
            facts=facts,
            class_names=classes or None,
            extras=extras,
            warnings=self.warnings,
        )

    # ------------------------------------------------------------------------------------------------------- reading

    def _table(self, tree: FileTree, name: str) -> Table:
        path = Path(name).expanduser()
        if name in tree.files:
            data, shown = tree.read(name), tree.path(name)
        elif path.is_file():
            data, shown = path.read_bytes(), str(path)
        else:
            files = [file for file in tree.files if file.lower().endswith((".csv", ".tsv"))]
            hint = f" Its CSV files: {', '.join(files[:_SHOWN])}." if files else " It holds no CSV file."
            raise DataError(f"{tree.where} has no file {name!r}: name the CSV file with data.labels=FILE.{hint}")
        table = read_table(data, shown, fixed=True)
        for asked in filter(None, (self.table_config.file, self.table_config.group, *self.table_config.target)):
            if asked not in table.columns:
                raise DataError(f"{shown} has no column {asked!r}.{did_you_mean(asked, table.columns)}")
        return table

    def _file_column(self, table: Table, files: PictureNames) -> str:
        if self.table_config.file is not None:
            return self.table_config.file
        found = {name: sum(files.find(cell) is not None for cell in cells) for name, cells in table.columns.items()}
        best = max(found, key=lambda name: found[name])
        if not found[best]:
            raise DataError(
                f"{table.name}: no column names pictures in {files.tree.where} (columns: {', '.join(table.columns)}). "
                f"Name it with data.file=COLUMN."
            )
        return best

    def _matched(self, table: Table, column: str, targets: _Targets, files: PictureNames) -> tuple[Table, list[str]]:
        """The rows whose picture is there, each once, and the pictures' names."""
        rows: list[int] = []
        names: list[str] = []
        lost: list[str] = []
        first: dict[str, int] = {}
        twice = 0
        for row, cell in enumerate(table.columns[column]):
            where = f"line {table.lines[row]}: {column}={short(cell)}"
            if (name := files.find(cell)) is None:
                lost.append(where)
            elif name in first:
                if any(table.columns[t][row] != table.columns[t][first[name]] for t in targets.columns):
                    raise DataError(
                        f"{table.name}, {where} has a row in line {table.lines[first[name]]} already, with other "
                        f"targets. Keep one of them."
                    )
                twice += 1
            else:
                first[name] = row
                rows.append(row)
                names.append(name)
        if lost:
            more = f" (and {len(lost) - _SHOWN} more)" if len(lost) > _SHOWN else ""
            message = f"{table.name}: {len(lost)} rows name no picture in {files.tree.where}: " + "; ".join(
                lost[:_SHOWN]
            )
            if self.config.on_error == "error" or not names:
                raise DataError(f"{message}{more}. Mend them, or leave the rows out with data.on_error=skip.")
            self.warnings.append(f"{message}{more}. The rows are left out.")
        if twice:
            self.warnings.append(f"{table.name}: {twice} rows repeat a picture with the same targets and are left out.")
        return _rows(table, rows), names

    # ------------------------------------------------------------------------------------------------------- targets

    def _targets(self, table: Table, file: str) -> _Targets:
        config = self.table_config
        others = [name for name in table.columns if name not in (file, config.group)]
        columns = config.target or (tuple(others) if len(others) == 1 else ())
        if not columns and others and all(_is_yes_no(table.columns[name]) for name in others):
            columns = tuple(others)
        if not columns:
            raise DataError(
                f"data.target is needed: which columns of {table.name} shall be predicted? {', '.join(others)}."
            )
        cells = [table.columns[name] for name in columns]
        separator = config.separator or next((mark for mark in _LIST_MARKS if any(mark in c for c in cells[0])), None)
        kind = self._find_kind(columns, cells, separator) if config.target_kind == "auto" else config.target_kind
        if kind == "number":
            return _Targets(columns=columns, kind=kind, names=columns)
        if kind == "class":
            if len(columns) > 1:
                raise DataError(f"data.target_kind=class: one column holds the class, got {', '.join(columns)}.")
            return _Targets(columns=columns, kind=kind, names=tuple(sorted(set(cells[0]) - set(MISSING))))
        if len(columns) > 1 or _is_yes_no(cells[0]):
            return _Targets(columns=columns, kind=kind, names=columns)
        names = sorted({name for cell in cells[0] for name in _listed(cell, separator)})
        return _Targets(columns=columns, kind=kind, names=tuple(names), separator=separator or "|")

    def _find_kind(
        self, columns: Sequence[str], cells: Sequence[Sequence[str]], separator: str | None
    ) -> Literal["number", "class", "labels"]:
        if len(columns) > 1:
            return "labels" if all(_is_yes_no(column) for column in cells) else "number"
        if to_numbers(cells[0], MISSING) is not None:
            self._warn_classes(columns[0], cells[0])
            return "number"
        return "labels" if separator is not None else "class"

    def _warn_classes(self, name: str, cells: Sequence[str]) -> None:
        numbers = to_numbers(cells, MISSING)
        if numbers is None or bool((numbers != np.round(numbers)).any()):  # NaN, a missing one, differs from itself
            return
        if (count := len(np.unique(numbers))) <= _MOST_CLASSES:
            self.warnings.append(
                f"{name!r} has {count} different whole numbers and is read as a number; data.target_kind=class reads "
                f"classes."
            )

    def _with_targets(self, table: Table, targets: _Targets) -> Table:
        """The table without rows that lack a number or class."""
        if targets.kind == "labels":
            return table
        kept = [i for i in range(len(table)) if all(table.columns[name][i] not in MISSING for name in targets.columns)]
        if len(kept) < len(table):
            gone = f"{len(table) - len(kept)} of {len(table)} rows lack a value of {', '.join(targets.columns)}"
            if not kept:
                raise DataError(f"{table.name}: {gone}.")
            self.warnings.append(f"{table.name}: {gone} and are left out.")
        return _rows(table, kept)

    def _joined(self, splits: Splits, part: str, table: Table, names: list[str], targets: _Targets) -> Examples:
        """The decoded pictures with their targets; rows of pictures that could not be read are gone."""
        pictures: Examples | None = getattr(splits, part)
        assert pictures is not None
        columns = _encode(self._readable(splits, part, table, names), targets)
        if isinstance(pictures, TensorExamples):
            return TensorExamples({"image": pictures.columns["image"], **columns})
        return PicturesWithTargets(pictures, columns)

    def _readable(self, splits: Splits, part: str, table: Table, names: list[str]) -> Table:
        """The rows whose pictures were read, in order."""
        shown = set(splits.extras["files"][part])
        kept = [row for row, name in enumerate(names) if self.tree.path(name) in shown]
        return _rows(table, kept)

    def _grouping(self, table: Table, train: Examples, targets: _Targets) -> dict[str, Tensor]:
        """What parts are cut by: groups that stay together, or strata of which each part gets its share."""
        if (group := self.table_config.group) is not None:
            position = {name: index for index, name in enumerate(dict.fromkeys(table.columns[group]))}
            return {"groups": torch.tensor([position[name] for name in table.columns[group]])}
        held = train.columns if isinstance(train, PicturesWithTargets) else train
        assert isinstance(held, TensorExamples)
        if targets.kind == "number":
            return {"strata": _tenths(held.columns["target"][:, 0])}
        if targets.kind == "labels":
            return {"strata": _rarest(held.columns["multi_labels"])}
        return {}


def _rows(table: Table, rows: Sequence[int]) -> Table:
    columns = {name: [cells[i] for i in rows] for name, cells in table.columns.items()}
    return Table(table.name, columns, [table.lines[i] for i in rows])


def _is_yes_no(cells: Sequence[str]) -> bool:
    words = {cell.lower() for cell in cells if cell not in MISSING}
    return bool(words) and words <= _YES | _NO


def _listed(cell: str, separator: str | None) -> list[str]:
    """Names in a cell of a list, each once."""
    if cell in MISSING:
        return []
    parts = (part.strip() for part in (cell.split(separator) if separator else [cell]))
    return list(dict.fromkeys(part for part in parts if part))


def _encode(table: Table, targets: _Targets) -> dict[str, Tensor]:
    """Columns of the targets.

    Raises:
        DataError: a cell is of another kind; line and column are named.
    """
    cells = [table.columns[name] for name in targets.columns]
    if targets.kind == "number":
        numbers = [to_numbers(column, ()) for column in cells]
        for name, found in zip(targets.columns, numbers, strict=True):
            if found is None:
                raise wrong_cell(table, name, "a number", lambda cell: to_numbers([cell], ()) is None)
        return {"target": torch.from_numpy(np.stack([found for found in numbers if found is not None], 1))}
    if targets.kind == "class":
        position = {name: label for label, name in enumerate(targets.names)}
        if any(cell not in position for cell in cells[0]):
            raise wrong_cell(table, targets.columns[0], "a class of the training file", lambda c: c not in position)
        return {"labels": torch.tensor([position[cell] for cell in cells[0]])}
    if targets.separator is None:
        return {"multi_labels": torch.stack([_yes_no(table, name) for name in targets.columns], 1)}
    position = {name: label for label, name in enumerate(targets.names)}
    matrix = torch.zeros(len(table), len(targets.names), dtype=torch.int8)
    for row, cell in enumerate(cells[0]):
        for name in _listed(cell, targets.separator):
            if name not in position:
                raise DataError(
                    f"{table.name}, line {table.lines[row]}: {targets.columns[0]} has the label {short(name)}, which "
                    f"the training file has not.{did_you_mean(name, position)}"
                )
            matrix[row, position[name]] = 1
    return {"multi_labels": matrix}


def _yes_no(table: Table, name: str) -> Tensor:
    """int8 [N]: 1 yes, 0 no, -1 not known."""
    values: list[int] = []
    for cell in table.columns[name]:
        word = cell.lower()
        if word not in _YES | _NO and cell not in MISSING:
            raise wrong_cell(
                table, name, "0 or 1 (or empty: not known)", lambda c: c.lower() not in _YES | _NO and c not in MISSING
            )
        values.append(1 if word in _YES else 0 if word in _NO else -1)
    return torch.tensor(values, dtype=torch.int8)


def _tenths(values: Tensor) -> Tensor:
    """Which tenth of the values each is in: parts of a regression set then have the same spread."""
    ranks = values.argsort(stable=True).argsort(stable=True)
    return ranks * min(_STRATA, max(1, len(values) // _STRATA)) // len(values)


def _rarest(matrix: Tensor) -> Tensor:
    """The rarest label that each example has, 0 for none: rare labels then come into every part."""
    counts = (matrix == 1).sum(0)
    rank = torch.where(matrix == 1, counts, counts.max() + 1)
    return torch.where((matrix == 1).any(1), rank.argmin(1) + 1, 0)


DATASETS = {"image_table": ImageTableConfig()}
