"""Tables of text cells, and what makes tensors of them.

A table becomes `numeric` float32 [N, F] (NaN where a value is missing) and `categories` int64 [N, G] (0 missing, 1..
the column's known values). What the columns mean is a `Schema`: plain values that travel with the weights, so that
predict reads new files the same way. How dates are written is in `data/dates.py`.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.core.errors import DataError
from layerwise.core.suggest import did_you_mean
from layerwise.data.dates import DATE_PARTS, TIME_PARTS, date_features, to_days
from layerwise.data.plain_text import read_lines, read_pieces, unpack
from layerwise.data.rows import CSVRows

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "?", "nan", "NaN", "NAN", "NaT", "null", "NULL")
_SHOWN = 5
_LONGEST = 40  # letters of a cell shown in a message
_POINT_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_COMMA_NUMBER = re.compile(r"[+-]?([1-9]\d{0,2}(\.\d{3})+|\d*)(,\d*)?([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a table's columns mean. JSON by `to_json`.

    Args:
        numeric: columns read as numbers, in order.
        date: column read as dates -> how they are written (see `data/dates.py`). Each gives five numbers: days since
            1970, place in the year and in the week as sine and cosine.
        times: date columns with times of day, which give their place in the day as well.
        categories: column -> known values, in order of their index from 1.
        target: the column to predict.
        classes: its values in order of label; empty where it is a number.
        ignored: the training file's other columns, which are no inputs.
        missing, decimal, delimiter, encoding, columns: how files are read, see `CSVConfig`.
    """

    numeric: tuple[str, ...]
    date: dict[str, str] = field(default_factory=dict)
    times: tuple[str, ...] = ()
    categories: dict[str, list[str]] = field(default_factory=dict)
    target: str
    classes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    decimal: str = "."
    delimiter: str | None = None
    encoding: str = "utf-8-sig"
    columns: tuple[str, ...] = ()

    @property
    def inputs(self) -> list[str]:
        """The file's columns that are inputs."""
        return [*self.numeric, *self.date, *self.categories]

    @property
    def numeric_sources(self) -> list[str]:
        """The file's column behind each column of `numeric`."""
        return [*self.numeric, *(name for name in self.date for _ in self._parts(name))]

    @property
    def numeric_names(self) -> list[str]:
        """One name a column of `numeric`."""
        return [*self.numeric, *(f"{name} ({part})" for name in self.date for part in self._parts(name))]

    def _parts(self, name: str) -> tuple[str, ...]:
        return (*DATE_PARTS, *TIME_PARTS) if name in self.times else DATE_PARTS

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(tree: dict[str, Any]) -> "Schema":
        held: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()}
        return Schema(**held)


# ------------------------------------------------------------------------------------------------------ reading files


@dataclass
class Table:
    """Cells of a file as text, by column; `lines` are the file's line numbers."""

    name: str
    columns: dict[str, list[str]]
    lines: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)


def read_table(
    data: bytes,
    name: str,
    *,
    columns: Sequence[str] = (),
    optional: str = "",
    delimiter: str | None = None,
    encoding: str = "utf-8-sig",
    fixed: bool = False,
) -> Table:
    """A CSV file's cells, blanks around them removed; blank lines are left out.

    Args:
        data: the file's bytes, gzipped or not.
        name: of the file, for messages.
        columns, optional, delimiter: how it is written, see `rows.CSVRows`.
        encoding: of the text.
        fixed: whether no option changes how it is read, for messages.

    Raises:
        DataError: another encoding, uneven lines, no or doubtful column names.
    """
    pieces = read_pieces(unpack(data), name, encoding, option=None if fixed else "data.encoding")
    rows = CSVRows(read_lines(pieces), name, columns=columns, optional=optional, delimiter=delimiter, fixed=fixed)
    numbered = [(line, [cell.strip() for cell in row]) for line, row in rows]
    if not numbered:
        raise DataError(f"{name} has a header and no rows." if rows.header else f"{name} is empty.")
    cells = (list(column) for column in zip(*(row for _, row in numbered), strict=True))
    return Table(name, dict(zip(rows.header, cells, strict=True)), [line for line, _ in numbered])


# ------------------------------------------------------------------------------------------------- cells to tensors


def to_numbers(cells: Sequence[str], missing: Collection[str], decimal: str = ".") -> NDArray[np.float64] | None:
    """Numbers with NaN for missing cells; None if a cell is no finite number. Thousands may be marked (1,234.5, or
    1.234,5 with decimal commas).
    """
    absent = set(missing)
    read = float if decimal == "." else _comma_float
    values = np.empty(len(cells), dtype=np.float64)
    for i, cell in enumerate(cells):
        if cell in absent:
            values[i] = np.nan
            continue
        try:
            values[i] = read(cell)
        except ValueError:
            if decimal != "." or not _POINT_THOUSANDS.fullmatch(cell):
                return None
            values[i] = float(cell.replace(",", ""))
        if not np.isfinite(values[i]):
            return None
    return values


def _comma_float(cell: str) -> float:
    """ "1.234,5" -> 1234.5.

    Raises:
        ValueError: no such number; 1.5 is none, since its point would be lost.
    """
    if not _COMMA_NUMBER.fullmatch(cell):
        raise ValueError(cell)
    return float(cell.replace(".", "").replace(",", "."))


def decimal_marks(cells: Sequence[str], missing: Collection[str]) -> set[str]:
    """Decimal marks, of . and , with which all cells are numbers, if any cell has a comma; empty for other columns."""
    present = [cell for cell in cells if cell not in missing]
    if not any("," in cell for cell in present):
        return set()
    return {mark for mark in (".", ",") if to_numbers(present, (), mark) is not None}


def encode(table: Table, schema: Schema, without: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """`numeric` [N, F] and `categories` [N, G] of a table; category values that the schema does not know get the index
    after the last.

    Args:
        table: cells.
        schema: what they mean.
        without: columns that the table may lack; all their values are missing.

    Raises:
        DataError: a column is missing, or has cells of another kind.
    """
    if absent := [name for name in schema.inputs if name not in table.columns and name not in without]:
        near = did_you_mean(absent[0], table.columns)
        many = f"lacks {len(absent)} columns" if len(absent) > 1 else "lacks the column"
        names = ", ".join(map(repr, absent[:10]))
        raise DataError(f"{table.name} {many} {names}, of which training had a value in every row.{near}")
    gone, missing = [""] * len(table), {"", *schema.missing}
    numeric: list[NDArray[np.float64]] = []
    for name in schema.numeric:
        cells = table.columns.get(name, gone)
        values = to_numbers(cells, missing, schema.decimal)
        if values is None:
            raise wrong_cell(table, name, "a number", lambda cell: to_numbers([cell], missing, schema.decimal) is None)
        numeric.append(values[:, None])
    for name, kind in schema.date.items():
        days = to_days(table.columns.get(name, gone), missing, kind)
        if days is None:
            at = next(i for i, cell in enumerate(table.columns[name]) if to_days([cell], missing, kind) is None)
            raise DataError(_not(table, name, at, f"a date ({kind})"))
        numeric.append(date_features(days, name in schema.times))
    categories: list[NDArray[np.int64]] = []
    for name, known in schema.categories.items():
        position = {value: index for index, value in enumerate(known, 1)} | dict.fromkeys(missing, 0)
        cells = table.columns.get(name, gone)
        categories.append(np.array([position.get(cell, len(known) + 1) for cell in cells], dtype=np.int64))
    rows = len(table)
    return {
        "numeric": torch.from_numpy(np.concatenate(numeric, 1) if numeric else np.zeros((rows, 0))).to(torch.float32),
        "categories": torch.from_numpy(np.stack(categories, 1) if categories else np.zeros((rows, 0), np.int64)),
    }


def remarks(table: Table, schema: Schema, without: Collection[str] = ()) -> Iterator[str]:
    """What a person should know of a new file: values that training never saw, columns that are missing or not used."""
    for name in schema.inputs:
        if name not in table.columns and name in without:
            yield f"{table.name} has no column {name!r}: all its values are taken as missing."
    for name, known in schema.categories.items():
        seen = {*known, *schema.missing}
        cells = table.columns.get(name, [])
        if strange := Counter(cell for cell in cells if cell not in seen):
            shown = ", ".join(f"{short(value)} ({count})" for value, count in strange.most_common(_SHOWN))
            first = next(line for cell, line in zip(cells, table.lines, strict=True) if cell not in seen)
            more = ", ..." if len(strange) > _SHOWN else ""
            yield (
                f"{table.name}: {strange.total()} of {len(table)} rows have values of {name!r} that training did not "
                f"see: {shown}{more}, first in line {first}. They count as an unknown value."
            )
    used = {*schema.inputs, *schema.ignored, *schema.columns, schema.target}
    if extra := [name for name in table.columns if name not in used]:
        more = ", ..." if len(extra) > _SHOWN else ""
        yield f"{table.name}: columns that training did not have are not used: {', '.join(extra[:_SHOWN])}{more}."


def short(cell: str) -> str:
    """A cell as messages show it."""
    return repr(cell if len(cell) <= _LONGEST else f"{cell[:_LONGEST]}...")


def wrong_cell(table: Table, name: str, kind: str, wrong: Callable[[str], bool]) -> DataError:
    """The error that names the first cell of a column that is not of its kind."""
    return DataError(_not(table, name, next(i for i, cell in enumerate(table.columns[name]) if wrong(cell)), kind))


def _not(table: Table, name: str, at: int, kind: str) -> str:
    return f"{table.name}, line {table.lines[at]}: {name}={short(table.columns[name][at])} is not {kind}."
