"""Rows of CSV and JSON Lines files, one at a time; what is wrong is named with its line."""

import csv
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from layerwise.core.errors import ConfigError, DataError
from layerwise.core.suggest import nearest

_DELIMITERS = (",", ";", "\t", "|")
_HEAD = 50  # lines that the delimiter is found in
_LONGEST_CELL = 1 << 30  # characters; the csv module's own limit is 131,072


class CSVRows:
    """The header of a CSV file, and its rows: (line number, as many cells as the header has). Blank lines are left out.

    A column without a name (an index that pandas wrote, a delimiter at the end of the lines) is called "column 3".

    Args:
        lines: of the file, without their ends.
        name: of the file, for messages.
        columns: names of the columns where the file has no header line; not used where most cells of the first line are
            such names.
        optional: one of `columns` that the file may lack (the target, in files to predict on).
        delimiter: between cells; None finds out.
        fixed: whether no option changes how it is read, for messages.

    Raises:
        DataError: no or doubtful column names; and on the way, uneven rows.
    """

    def __init__(
        self,
        lines: Iterable[str],
        name: str,
        *,
        columns: Sequence[str] = (),
        optional: str = "",
        delimiter: str | None = None,
        fixed: bool = False,
    ) -> None:
        lines = iter(lines)
        head = list(itertools.islice(lines, _HEAD))
        self.name, self.delimiter = name, delimiter or find_delimiter(head)
        if len(self.delimiter) != 1:
            raise ConfigError(f"data.delimiter={delimiter!r}: must be one character.")
        self._rows = self._read(itertools.chain(head, lines))
        self.header: list[str] = []  # empty for an empty file
        if (first := next(self._rows, None)) is None:
            return
        cells = [cell.strip() for cell in first[1]]
        self.header = list(columns)
        if self.header and 2 * len(set(cells) & set(self.header)) > len(set(cells)):
            self.header = []  # the file has a header line after all
        if optional in self.header and len(cells) == len(self.header) - 1:
            self.header.remove(optional)
        if self.header:
            self._rows = itertools.chain([first], self._rows)
        else:
            _check_header(cells, name, fixed)
            self.header = [cell or f"column {place}" for place, cell in enumerate(cells, 1)]

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for line, row in self._rows:
            if len(row) != len(self.header):
                raise DataError(
                    f"{self.name}, line {line}: {len(row)} cells, the header has {len(self.header)} (delimiter "
                    f"{self.delimiter!r})."
                )
            yield line, row

    def _read(self, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
        limit = csv.field_size_limit(_LONGEST_CELL)
        reader = csv.reader((f"{line}\n" for line in lines), delimiter=self.delimiter, skipinitialspace=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
        except csv.Error as error:
            raise DataError(f"{self.name}, line {reader.line_num}: {error}.") from error
        finally:
            csv.field_size_limit(limit)


def _check_header(header: list[str], name: str, fixed: bool) -> None:
    if numbers := [cell for cell in header if _is_number(cell)]:
        remedy = "Put their names there" if fixed else "Name the columns with data.columns=a,b,c"
        raise DataError(f"{name}: the first line looks like data, not column names ({numbers[0]!r}). {remedy}.")
    if doubles := sorted({cell for cell in header if cell and header.count(cell) > 1}):
        other = "" if fixed else ", or remove it and name the columns with data.columns=a,b,c"
        raise DataError(f"{name}: the column {doubles[0]!r} is named twice. Mend the header{other}.")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def find_delimiter(lines: Sequence[str]) -> str:
    """The delimiter that cuts lines into equally many cells, most of them; a comma where none does."""
    best, most = ",", 1
    for delimiter in _DELIMITERS:
        try:
            rows = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, skipinitialspace=True)
            counts = {len(row) for row in rows if row}
        except csv.Error:
            continue
        if len(counts) == 1 and (count := counts.pop()) > most:
            best, most = delimiter, count
    return best


def json_rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of JSON Lines; blank lines are left out.

    Raises:
        DataError: a line is no JSON, or no object.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, line {number}: not JSON ({error.msg} at character {error.pos}).") from error
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {number}: expected an object {{...}}, got {type(row).__name__}.")
        yield number, row


def cell_text(value: Any, where: str, *, strip: bool = True) -> str:
    """A JSON or Parquet value as text.

    Args:
        where: it stands, for messages.
        strip: take off blanks at the ends.

    Raises:
        DataError: it is no text.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        return json.dumps(value, ensure_ascii=False, default=str)
    text = str(value).strip() if strip else str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} has half of a surrogate pair, which is no character.") from error
    return text


def no_column(name: str, columns: Collection[str], column: str, option: str) -> DataError:
    """The error that a file lacks a column which an option names."""
    close = nearest(column, columns)
    return DataError(
        f"{name} has no column {column!r}; columns: {', '.join(columns)}. Name it: data.{option}="
        f"{close[0] if close else 'NAME'}."
    )
