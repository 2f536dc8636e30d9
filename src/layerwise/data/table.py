"""Tables of text cells, and what makes tensors of them.

A table becomes `numeric` float32 [N, F] (NaN where a value is missing) and `categories` int64 [N, G] (0 missing, 1..
the column's known values). What the columns mean is a `Schema`: plain values that travel with the weights, so that
predict reads new files the same way.
"""

import csv
import gzip
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.core.errors import ConfigError, DataError
from layerwise.core.suggest import did_you_mean

MISSING = ("", "NA", "N/A", "n/a", "?", "nan", "NaN", "NAN", "null", "NULL")
_DELIMITERS = (",", ";", "\t", "|")
_DATE_PARTS = ("days", "year_sin", "year_cos", "week_sin", "week_cos")
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a table's columns mean. JSON by `to_json`.

    Args:
        numeric: columns read as numbers, in order.
        date: columns read as dates, each giving five numbers: days since 1970, place in the year and in the week as
            sine and cosine.
        categories: column -> known values, in order of their index from 1.
        target: the column to predict.
        classes: its values in order of label; empty where it is a number.
        missing, decimal, delimiter, encoding, columns: how files are read, see `CSVConfig`.
    """

    numeric: tuple[str, ...]
    date: tuple[str, ...] = ()
    categories: dict[str, list[str]] = field(default_factory=dict)
    target: str
    classes: tuple[str, ...] = ()
    missing: tuple[str, ...] = MISSING
    decimal: str = "."
    delimiter: str | None = None
    encoding: str = "utf-8-sig"
    columns: tuple[str, ...] = ()

    @property
    def numeric_names(self) -> list[str]:
        """One name a column of `numeric`."""
        return [*self.numeric, *(f"{name} ({part})" for name in self.date for part in _DATE_PARTS)]

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
) -> Table:
    """A CSV file's cells, blanks around them removed; blank lines are left out.

    Args:
        data: the file's bytes, gzipped or not.
        name: of the file, for messages.
        columns: names of the columns where the file has no header line.
        optional: one of `columns` that the file may lack (the target, in files to predict on).
        delimiter: between cells; None finds out.
        encoding: of the text.

    Raises:
        DataError: another encoding, uneven lines, no or doubtful column names.
    """
    try:
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode(encoding)
    except (EOFError, OSError) as error:
        raise DataError(f"{name} is damaged: {error}.") from error
    except (UnicodeDecodeError, LookupError) as error:
        raise DataError(f"{name} is not text in {encoding} ({error}). Set data.encoding, e.g. latin-1.") from error
    delimiter = delimiter or find_delimiter(text)
    if len(delimiter) != 1:
        raise ConfigError(f"data.delimiter={delimiter!r}: must be one character.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num}: {error}.") from error
    if not rows:
        raise DataError(f"{name} is empty.")
    header = list(columns)
    if optional in header and len(rows[0]) == len(header) - 1:
        header.remove(optional)
    if not header:
        header, rows, lines = rows[0], rows[1:], lines[1:]
        _check_header(header, name)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise DataError(
                f"{name}, line {line}: {len(row)} cells, the header has {len(header)} (delimiter {delimiter!r})."
            )
    if not rows:
        raise DataError(f"{name} has a header and no rows.")
    return Table(name, dict(zip(header, (list(column) for column in zip(*rows, strict=True)), strict=True)), lines)


def _check_header(header: list[str], name: str) -> None:
    if numbers := [cell for cell in header if _is_number(cell)]:
        raise DataError(
            f"{name}: the first line looks like data, not column names ({numbers[0]!r}). Name the columns with "
            f"data.columns=a,b,c."
        )
    doubles = sorted({cell for cell in header if header.count(cell) > 1})
    if doubles or "" in header:
        problem = f"the column {doubles[0]!r} is named twice" if doubles and doubles[0] else "a column has no name"
        raise DataError(
            f"{name}: {problem}. Mend the header, or remove it and name the columns with data.columns=a,b,c."
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def find_delimiter(text: str, lines: int = 50) -> str:
    """The delimiter that cuts the first lines into equally many cells, most of them; a comma where none does."""
    best, most = ",", 1
    sample = text.splitlines(keepends=True)[:lines]
    for delimiter in _DELIMITERS:
        try:
            counts = {len(row) for row in csv.reader(sample, delimiter=delimiter, skipinitialspace=True) if row}
        except csv.Error:
            continue
        if len(counts) == 1 and (count := counts.pop()) > most:
            best, most = delimiter, count
    return best


# ------------------------------------------------------------------------------------------------- cells to tensors


def to_numbers(cells: Sequence[str], missing: Sequence[str], decimal: str = ".") -> NDArray[np.float64] | None:
    """Numbers with NaN for missing cells; None if a cell is no finite number."""
    absent = set(missing)
    plain = ["nan" if cell in absent else cell for cell in cells]
    if decimal == ",":
        plain = [cell.replace(".", "").replace(",", ".") for cell in plain]
    try:
        values = np.array([float(cell) for cell in plain], dtype=np.float64)
    except ValueError:
        return None
    gaps = np.array([cell in absent for cell in cells])
    return values if bool(np.isfinite(values[~gaps]).all()) else None


def to_dates(cells: Sequence[str], missing: Sequence[str]) -> NDArray[np.float64] | None:
    """Days since 1970 of ISO 8601 dates and times (also with / for -), NaN for missing cells; None if a cell is no
    such date.
    """
    absent = set(missing)
    days = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if cell in absent:
            continue
        try:
            moment = datetime.fromisoformat(cell.replace("/", "-"))
        except ValueError:
            return None
        days[i] = (moment.replace(tzinfo=None) - _EPOCH).total_seconds() / 86400
    return days


def date_features(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N] days since 1970 -> [N, 5], see `Schema`."""
    year, week = 2 * math.pi * days / 365.2425, 2 * math.pi * (days + 3) / 7  # 1970 began on a Thursday
    return np.stack([days, np.sin(year), np.cos(year), np.sin(week), np.cos(week)], axis=1)


def encode(table: Table, schema: Schema) -> dict[str, torch.Tensor]:
    """`numeric` [N, F] and `categories` [N, G] of a table; category values that the schema does not know get the index
    after the last.

    Raises:
        DataError: a column is missing, or has cells of another kind.
    """
    wanted = [*schema.numeric, *schema.date, *schema.categories]
    if absent := [name for name in wanted if name not in table.columns]:
        near = did_you_mean(absent[0], table.columns)
        raise DataError(f"{table.name} lacks {len(absent)} columns: {', '.join(absent[:10])}.{near}")
    numeric: list[NDArray[np.float64]] = []
    for name in schema.numeric:
        values = to_numbers(table.columns[name], schema.missing, schema.decimal)
        if values is None:
            raise DataError(
                _wrong_cell(
                    table, name, "a number", lambda cell: to_numbers([cell], schema.missing, schema.decimal) is None
                )
            )
        numeric.append(values[:, None])
    for name in schema.date:
        days = to_dates(table.columns[name], schema.missing)
        if days is None:
            raise DataError(
                _wrong_cell(
                    table, name, "a date like 2024-01-31", lambda cell: to_dates([cell], schema.missing) is None
                )
            )
        numeric.append(date_features(days))
    categories: list[NDArray[np.int64]] = []
    for name, known in schema.categories.items():
        position = {value: index for index, value in enumerate(known, 1)} | dict.fromkeys(schema.missing, 0)
        categories.append(
            np.array([position.get(cell, len(known) + 1) for cell in table.columns[name]], dtype=np.int64)
        )
    rows = len(table)
    return {
        "numeric": torch.from_numpy(np.concatenate(numeric, 1) if numeric else np.zeros((rows, 0))).to(torch.float32),
        "categories": torch.from_numpy(np.stack(categories, 1) if categories else np.zeros((rows, 0), np.int64)),
    }


def _wrong_cell(table: Table, name: str, kind: str, wrong: Callable[[str], bool]) -> str:
    at = next(i for i, cell in enumerate(table.columns[name]) if wrong(cell))
    return f"{table.name}, line {table.lines[at]}: {name}={table.columns[name][at]!r} is not {kind}."
