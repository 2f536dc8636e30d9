"""A person's own labelled texts: a column of texts and a column of labels in a CSV, JSON Lines or Parquet file."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import torch

from layerwise.core.config import Fraction
from layerwise.core.errors import DataError, MissingExtraError
from layerwise.data.examples import Splits
from layerwise.data.plain_text import read_lines, read_pieces, unpack
from layerwise.data.rows import cell_text, json_rows, no_column
from layerwise.data.source import DataConfig
from layerwise.data.table import Table, read_table
from layerwise.data.table_parts import Kinds, read_parts
from layerwise.data.texts import TextExamples

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_KINDS = Kinds(
    suffixes=SUFFIXES,
    names="CSV, JSON Lines or Parquet",
    wanted="a CSV, JSON Lines or Parquet file with texts and labels",
    needed="one file, or one named train,",
)
_FEW_CLASSES, _FREE_TEXT = (
    50,
    0.5,
)  # more different labels than both, as a number and as a share of rows, are no classes


@dataclass(frozen=True, kw_only=True)
class TextTableConfig(DataConfig):
    """A file with a text and a label in every row: CSV with a header, JSON Lines (`.jsonl`) or Parquet; or a folder or
    zip with such files named train, val, test. CSV and JSON Lines may be gzipped.

    Args:
        text: the column with the texts.
        label: the column with the classes.
        pair: the column with the second text of each row, where classes are of pairs of texts.
        test: test data: a share of train (0: none), or a path to a file of the same columns; None takes the file named
            test, else a tenth of train.
        columns: names of the columns, for CSV files without a header line.
        delimiter: between cells of CSV files; None finds out.
        encoding: of the text in CSV and JSON Lines.
    """

    text: str = "text"
    label: str = "label"
    pair: str | None = None
    test: Fraction | str | None = None
    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8-sig"


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """How a person's files of texts are read. Plain values: it travels with the weights, see `TextTableConfig`."""

    text: str = "text"
    label: str = "label"
    pair: str | None = None
    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8-sig"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "columns": list(self.columns)}

    @staticmethod
    def from_json(tree: dict[str, Any]) -> "TextFile":
        return TextFile(**{**tree, "columns": tuple(tree["columns"])})


class TextTable:
    """`text` and `labels`; classes are the distinct labels, in order (of number where all are numbers)."""

    def __init__(self, config: TextTableConfig) -> None:
        self.config = config
        self.file = TextFile(
            text=config.text,
            label=config.label,
            pair=config.pair,
            columns=config.columns,
            delimiter=config.delimiter,
            encoding=config.encoding,
        )
        self.warnings: list[str] = []

    def splits(self) -> Splits:
        """Read the files.

        Raises:
            DataError: no such file or column, damaged lines, no texts, labels that are no classes.
        """
        rows = {part: self._filled(table) for part, table in self._read().items()}
        classes = self._classes([label for part in rows.values() for label in part.columns[self.config.label]])
        position = {name: label for label, name in enumerate(classes)}
        made: dict[str, TextExamples] = {}
        for part, table in rows.items():
            labels = torch.tensor([position[cell] for cell in table.columns[self.config.label]], dtype=torch.int64)
            try:
                seconds = None if self.config.pair is None else table.columns[self.config.pair]
                made[part] = TextExamples(table.columns[self.config.text], {"labels": labels}, seconds)
            except DataError as error:
                raise DataError(f"{table.name}: {error}") from error
        return Splits(
            train=made["train"],
            val=made.get("val"),
            test=made.get("test"),
            facts={"num_classes": len(classes)},
            class_names=classes,
            extras={"text_file": self.file.to_json()},
            warnings=self.warnings,
        )

    def _read(self) -> dict[str, Table]:
        asked = {"val": self.config.val, "test": self.config.test}
        return read_parts(self.config.root, asked, _KINDS, self._table)

    def _table(self, data: bytes, name: str) -> Table:
        table = read_rows(data, name, self.file)
        for option, column in self._wanted().items():
            if column not in table.columns:
                raise no_column(name, table.columns, column, option)
        return table

    def _wanted(self) -> dict[str, str]:
        """Option -> column, of those that every file must have."""
        named = {"text": self.config.text, "label": self.config.label, "pair": self.config.pair}
        return {option: column for option, column in named.items() if column is not None}

    def _filled(self, table: Table) -> Table:
        """The rows that have a text (or both of a pair) and a label."""
        wanted = {column: table.columns[column] for column in self._wanted().values()}
        kept = [i for i in range(len(table)) if all(cells[i] for cells in wanted.values())]
        for column, cells in wanted.items():
            if absent := [line for line, cell in zip(table.lines, cells, strict=True) if not cell]:
                if len(absent) == len(table):
                    raise DataError(f"{table.name}: the column {column!r} is empty.")
                self.warnings.append(
                    f"{table.name}: {len(absent)} of {len(table)} rows have no {column!r} and are left out (the first "
                    f"is line {absent[0]})."
                )
        if not kept:
            raise DataError(f"{table.name}: no row has {' and '.join(map(repr, wanted))}.")
        return Table(
            table.name,
            {column: [cells[i] for i in kept] for column, cells in wanted.items()},
            [table.lines[i] for i in kept],
        )

    def _classes(self, labels: list[str]) -> list[str]:
        distinct = set(labels)
        if len(distinct) > max(_FEW_CLASSES, _FREE_TEXT * len(labels)):
            raise DataError(
                f"The column {self.config.label!r} has {len(distinct)} different values in {len(labels)} rows: no "
                f"classes. Name the one with the labels: data.label=NAME."
            )
        try:
            return sorted(distinct, key=float)
        except ValueError:
            return sorted(distinct)


def read_rows(data: bytes, name: str, file: TextFile, *, fixed: bool = False) -> Table:
    """Columns of a CSV, JSON Lines or Parquet file as text; blanks at the ends are removed, missing values are ''.

    Args:
        data: the file's bytes.
        name: of the file; its ending tells the format.
        file: which columns are texts and labels, and how CSV files are written. Labels may be absent.
        fixed: whether no option changes how it is read, for messages.

    Raises:
        DataError: damaged or empty; the line is named.
        MissingExtraError: Parquet without pyarrow.
    """
    ending = PurePosixPath(name.lower().removesuffix(".gz")).suffix
    if ending == ".parquet":
        return _read_parquet(data, name, [c for c in (file.text, file.label, file.pair) if c is not None])
    if ending in (".jsonl", ".ndjson"):
        return _read_json_lines(data, name, file.encoding, fixed)
    return read_table(
        data,
        name,
        columns=file.columns,
        optional=file.label,
        delimiter=file.delimiter or ("\t" if ending == ".tsv" else None),
        encoding=file.encoding,
        fixed=fixed,
    )


def _read_json_lines(data: bytes, name: str, encoding: str, fixed: bool) -> Table:
    lines = read_lines(read_pieces(unpack(data), name, encoding, option=None if fixed else "data.encoding"))
    numbered = [
        (number, {key: cell_text(value, f"{name}, line {number}: {key}") for key, value in row.items()})
        for number, row in json_rows(lines, name)
    ]
    if not numbered:
        raise DataError(f"{name} is empty.")
    names = dict.fromkeys(key for _, row in numbered for key in row)
    columns = {key: [row.get(key, "") for _, row in numbered] for key in names}
    return Table(name, columns, [number for number, _ in numbered])


def _read_parquet(data: bytes, name: str, wanted: Sequence[str]) -> Table:
    try:
        import pyarrow as arrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data", "Reading Parquet files") from error
    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        held = file.read(columns=[column for column in wanted if column in names]).to_pydict()
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a readable Parquet file: {error}.") from error
    count = file.metadata.num_rows
    if not count:
        raise DataError(f"{name} is empty.")
    cells = {
        column: [cell_text(value, f"{name}, row {row}: {column}") for row, value in enumerate(held[column], 1)]
        if column in held
        else [""] * count
        for column in names
    }
    return Table(name, cells, list(range(1, count + 1)))


DATASETS = {"text_table": TextTableConfig()}
