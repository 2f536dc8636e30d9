"""Documents of a person's corpus, read as a stream: a piece of a text, or a row of a table, is held at a time.

Formats: text files (a document each), and the rows of JSON Lines, CSV, TSV and Parquet files and of data sets that
Hugging Face's `datasets` saved to disk.
"""

import codecs
import csv
import gzip
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from layerwise.core.errors import ConfigError, DataError, MissingExtraError
from layerwise.core.suggest import did_you_mean
from layerwise.data.table import check_header, find_delimiter
from layerwise.data.text_table import cell_text

TEXT_SUFFIXES = (".txt",)
ROW_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_CHUNK = 1 << 20
_LONGEST_CELL = 1 << 30  # characters of a CSV file's cell
_HEAD = 50  # lines of a CSV file that its delimiter is found in
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
        with _opened(path) as handle:
            pieces = self._decoded(handle, path)
            blank: list[str] = []
            for piece in pieces:
                blank.append(piece)
                if not piece.isspace():
                    yield itertools.chain(blank, pieces)
                    break

    def _decoded(self, handle: IO[bytes], path: Path) -> Iterator[str]:
        """A file's characters, without a byte-order mark at its beginning."""
        encoding = self.encoding.lower().replace("_", "-").removesuffix("-sig")
        try:
            decoder = codecs.getincrementaldecoder(encoding)()
        except LookupError as error:
            raise ConfigError(f"data.encoding={self.encoding}: there is no such encoding.") from error
        taken = lines = 0  # bytes and line ends before what the decoder holds back
        first = True
        while True:
            raw = handle.read(_CHUNK)
            held = len(cast(tuple[bytes, Any], decoder.getstate())[0])
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                at = taken - held + error.start
                line = lines + error.object[: error.start].count(b"\n") + 1
                raise DataError(
                    f"{path}: not {self.encoding.upper()}: byte 0x{error.object[error.start]:02x} at offset {at} (line "
                    f"{line}). Set data.encoding, e.g. latin-1, or convert it, for example with: iconv -f latin1 -t "
                    "utf-8."
                ) from error
            taken, lines = taken + len(raw), lines + text.count("\n")
            if "\0" in text:
                raise DataError(f"{path} has a NUL character: it is not plain text, or damaged.")
            if text:
                yield text.removeprefix("\ufeff") if first else text
                first = False
            if not raw:
                return

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
        with _opened(path) as handle:
            lines = _lines(self._decoded(handle, path))
            yield from self._csv(lines, path, kind) if kind in (".csv", ".tsv") else self._json(lines, path)

    def _json(self, lines: Iterator[str], path: Path) -> Iterator[tuple[int, str]]:
        seen: dict[str, None] = {}
        met = False
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error.msg} at character {error.pos}).") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected an object {{...}}, got {type(row).__name__}.")
            if not met:
                met = self.text in row
                seen |= dict.fromkeys(row)
            yield number, self._cell(row.get(self.text), f"{path}, line {number}")
        if seen and not met:
            raise self._no_column(path, list(seen))

    def _csv(self, lines: Iterator[str], path: Path, kind: str) -> Iterator[tuple[int, str]]:
        head = list(itertools.islice(lines, _HEAD))
        delimiter = self.delimiter or ("\t" if kind == ".tsv" else find_delimiter("\n".join(head)))
        if len(delimiter) != 1:
            raise ConfigError(f"data.delimiter={delimiter!r}: must be one character.")
        limit = csv.field_size_limit(_LONGEST_CELL)
        ended = (f"{line}\n" for line in itertools.chain(head, lines))
        reader = csv.reader(ended, delimiter=delimiter, skipinitialspace=True)
        header: list[str] | None = None
        try:
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if header is None:
                    header = [cell.strip() for cell in row]
                    check_header(header, str(path))
                    if self.text not in header:
                        raise self._no_column(path, header)
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(row)} cells, the header has {len(header)} (delimiter "
                        f"{delimiter!r})."
                    )
                yield reader.line_num, row[header.index(self.text)]
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}.") from error
        finally:
            csv.field_size_limit(limit)

    def _parquet(self, path: Path) -> Iterator[tuple[int, str]]:
        arrow, parquet = _arrow_library("Reading Parquet files"), _arrow_library("Reading Parquet files", "parquet")
        try:
            file = parquet.ParquetFile(path)
            if self.text not in file.schema_arrow.names:
                raise self._no_column(path, file.schema_arrow.names)
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
                        raise self._no_column(folder, reader.schema.names)
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

    def _no_column(self, path: Path, columns: list[str]) -> DataError:
        return DataError(
            f"{path} has no column {self.text!r}; columns: {', '.join(columns)}. Name the one with the texts: "
            f"data.text=NAME.{did_you_mean(self.text, columns)}"
        )


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


def _opened(path: Path) -> IO[bytes]:
    with open(path, "rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if packed else open(path, "rb")


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Lines without their ends; only line feeds end a line."""
    held: list[str] = []
    for chunk in chunks:
        first, *others = chunk.split("\n")
        held.append(first)
        for other in others:
            yield "".join(held)
            held = [other]
    if any(held):
        yield "".join(held)


def _arrow_library(purpose: str, part: str | None = None) -> Any:
    import importlib

    try:
        return importlib.import_module("pyarrow" if part is None else f"pyarrow.{part}")
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data", purpose) from error
