"""Documents of a person's corpus, read as a stream: a piece of a text, or a row of a table, is held at a time.

Formats: text files (a document each), and the rows of JSON Lines, CSV, TSV and Parquet files and of data sets that
Hugging Face's `datasets` saved to disk.
"""

import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from layerwise.core.errors import DataError, MissingExtraError
from layerwise.data.plain_text import open_bytes, read_lines, read_pieces
from layerwise.data.rows import CSVRows, cell_text, json_rows, no_column

TEXT_SUFFIXES = (".txt",)
ROW_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_ROWS_AT_ONCE = 1000

Document = str | Iterable[str]  # or its pieces, in order


@dataclass(kw_only=True)
class Reader:
    """How files become documents, and what was noticed on the way.

    Args:
        text: the column with the texts.
        delimiter: between cells of CSV files; None finds out.
        encoding: of text, CSV and JSON Lines.
        warnings: rows and files that were left out.
    """

    text: str = "text"
    delimiter: str | None = None
    encoding: str = "utf-8"
    warnings: list[str] = field(default_factory=list)

    def documents(self, paths: Iterable[Path]) -> Iterator[Document]:
        """The documents of files, in their order; those without text are left out and told of.

        The pieces of one document must be taken before the next is asked for.

        Raises:
            DataError: a file is damaged, in another encoding or without the column; file and line are named. Or no
                file has a document.
        """
        empty: list[Path] = []
        count = left_out = 0
        for count, path in enumerate(paths, 1):  # noqa: B007 - counted for the message
            try:
                found = self._rows(path) if is_rows(path) else self._text(path)
                first = next(found, None)
                if first is None:
                    empty.append(path)
                    left_out += 1
                    continue
                yield from itertools.chain((first,), found)
            except (EOFError, OSError, zlib.error) as error:
                raise DataError(f"{path} is damaged or cannot be read: {error}.") from error
        if left_out == count:
            first_name = empty[0] if empty else "the corpus"
            raise DataError(
                f"{first_name}: the file is empty."
                if count == 1
                else f"All {count} files are empty ({first_name}, ...)."
            )
        if empty:
            self.warnings.append(f"{len(empty)} of {count} files are empty and are left out (the first is {empty[0]}).")

    # ------------------------------------------------------------------------------------------------------ text files

    def _text(self, path: Path) -> Iterator[Document]:
        """One document, or none where there is nothing but blanks."""
        with open_bytes(path) as handle:
            pieces = read_pieces(handle, str(path), self.encoding)
            blank: list[str] = []
            for piece in pieces:
                blank.append(piece)
                if not piece.isspace():
                    yield itertools.chain(blank, pieces)
                    break

    # ------------------------------------------------------------------------------------------------------------ rows

    def _rows(self, path: Path) -> Iterator[Document]:
        """Texts of the rows that have one; a warning where some have none."""
        rows = {".parquet": self._parquet, "": self._arrow}.get(kind := _ending(path))
        numbered = rows(path) if rows else self._lines_of(path, kind)
        absent: list[int] = []
        count = 0
        for count, (line, text) in enumerate(numbered, 1):  # noqa: B007 - counted for the message
            if text.strip():
                if "\0" in text:
                    raise DataError(f"{path}, line {line} has a NUL character: it is not plain text, or damaged.")
                yield text
            else:
                absent.append(line)
        if count and len(absent) == count:
            raise DataError(f"{path}: the column {self.text!r} is empty.")
        if absent:
            self.warnings.append(
                f"{path}: {len(absent)} of {count} rows have no {self.text!r} and are left out (the first is line "
                f"{absent[0]})."
            )

    def _lines_of(self, path: Path, kind: str) -> Iterator[tuple[int, str]]:
        with open_bytes(path) as handle:
            lines = read_lines(read_pieces(handle, str(path), self.encoding))
            yield from self._csv(lines, path, kind) if kind in (".csv", ".tsv") else self._json(lines, path)

    def _json(self, lines: Iterator[str], path: Path) -> Iterator[tuple[int, str]]:
        seen: dict[str, None] = {}
        met = False
        for number, row in json_rows(lines, str(path)):
            if not met:
                met = self.text in row
                seen |= dict.fromkeys(row)
            yield number, self._cell(row.get(self.text), f"{path}, line {number}")
        if seen and not met:
            raise no_column(str(path), seen, self.text, "text")

    def _csv(self, lines: Iterator[str], path: Path, kind: str) -> Iterator[tuple[int, str]]:
        rows = CSVRows(lines, str(path), delimiter=self.delimiter or ("\t" if kind == ".tsv" else None))
        if rows.header and self.text not in rows.header:
            raise no_column(str(path), rows.header, self.text, "text")
        for line, row in rows:
            yield line, row[rows.header.index(self.text)]

    def _parquet(self, path: Path) -> Iterator[tuple[int, str]]:
        arrow, parquet = _arrow_library("Reading Parquet files"), _arrow_library("Reading Parquet files", "parquet")
        try:
            file = parquet.ParquetFile(path)
            if self.text not in file.schema_arrow.names:
                raise no_column(str(path), file.schema_arrow.names, self.text, "text")
            batches = file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[self.text])
            yield from self._cells((batch.column(0).to_pylist() for batch in batches), path)
        except arrow.ArrowException as error:
            raise DataError(f"{path} is not a readable Parquet file: {error}.") from error

    def _arrow(self, folder: Path) -> Iterator[tuple[int, str]]:
        """Rows of a data set that `datasets` saved: files of Arrow's streaming format, named in state.json."""
        arrow, ipc = _arrow_library("Reading data sets on disk"), _arrow_library("Reading data sets on disk", "ipc")
        for path in saved_files(folder):
            try:
                with arrow.memory_map(str(path)) as source, ipc.open_stream(source) as reader:
                    if self.text not in reader.schema.names:
                        raise no_column(str(folder), reader.schema.names, self.text, "text")
                    at = reader.schema.get_field_index(self.text)
                    yield from self._cells((batch.column(at).to_pylist() for batch in reader), path)
            except arrow.ArrowException as error:
                raise DataError(f"{path} is not a readable Arrow file: {error}.") from error

    def _cells(self, batches: Iterable[list[Any]], path: Path) -> Iterator[tuple[int, str]]:
        number = 0
        for batch in batches:
            for value in batch:
                number += 1
                yield number, self._cell(value, f"{path}, row {number}")

    def _cell(self, value: Any, where: str) -> str:
        if isinstance(value, dict | list):
            raise DataError(f"{where}: {self.text!r} is a {type(value).__name__}, expected text.")
        return cell_text(value, f"{where}: {self.text}", strip=False)


def is_rows(path: Path) -> bool:
    """Whether each row of it is a document, by its name, or as `datasets` saves data sets."""
    return _ending(path) in ROW_SUFFIXES or is_saved(path)


def is_saved(folder: Path) -> bool:
    """Whether it is a data set that `datasets` saved to disk."""
    return (folder / "state.json").is_file()


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of a data set that `datasets` saved to disk.

    Raises:
        DataError: its state.json names none, or one that is not there.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        paths = [folder / entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / 'state.json'} is not what datasets saves: {error}.") from error
    if absent := [path for path in paths if not path.is_file()]:
        raise DataError(f"{absent[0]} is not there, though {folder / 'state.json'} names it.")
    return paths


def _ending(path: Path) -> str:
    return PurePosixPath(path.name.lower().removesuffix(".gz")).suffix if not path.is_dir() else ""


def _arrow_library(purpose: str, part: str | None = None) -> Any:
    import importlib

    try:
        return importlib.import_module("pyarrow" if part is None else f"pyarrow.{part}")
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data", purpose) from error
