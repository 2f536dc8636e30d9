"""CSV files with a target column: what each column is gets found out, and said where it is doubtful."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.core.config import Fraction
from layerwise.core.errors import DataError
from layerwise.core.suggest import did_you_mean
from layerwise.data.dates import has_times, kinds_of, like_dates, number_kind, to_days
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.source import DataConfig
from layerwise.data.table import (
    MISSING,
    Schema,
    Table,
    decimal_marks,
    encode,
    read_table,
    remarks,
    short,
    to_numbers,
    wrong_cell,
)
from layerwise.data.table_parts import Kinds, read_parts

_MOST_CLASSES = 20  # whole numbers with at most so many values are classes unless `target_kind` says otherwise
_FREE_TEXT = 0.5  # a text column with more distinct values than this share of the rows is no category
_FEW = 50  # ... but so many distinct values always are
_MOSTLY = 0.9  # of a column's cells being numbers, the others are mistakes and no categories
_LEAK = 0.999
_KINDS = Kinds(suffixes=(".csv", ".tsv", ".data"), names="CSV", wanted="a CSV file", needed="one CSV file or train.csv")


@dataclass(frozen=True, kw_only=True)
class CSVConfig(DataConfig):
    """A CSV file with a header, a folder or zip with train.csv (and val.csv, test.csv), any of them gzipped or not.

    Args:
        test: test data: a share of train (0: none), or a path to a file of the same columns; None takes test.csv, else
            a tenth of train.
        target: the column to predict.
        group: a column whose equal values stay in one part (patient, user); it is no input.
        drop: columns that are no inputs.
        numeric, category, date: columns that are read as such whatever they look like.
        date_order: how dates like 03/04/2024 are read; "auto" finds out, and asks where no day is over 12.
        target_kind: "class" or "number"; "auto" takes words and whole numbers of few values as classes.
        columns: names of the columns, for files without a header line.
        delimiter: between cells; None finds out.
        decimal: decimal mark of numbers; "auto" finds out, and asks where 1,234 could be either.
        encoding: of the file's text.
        missing: cells that mean "no value", beside empty ones.
    """

    test: Fraction | str | None = None
    target: str | None = None
    group: str | None = None
    drop: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    date: tuple[str, ...] = ()
    date_order: Literal["auto", "day_first", "month_first"] = "auto"
    target_kind: Literal["auto", "class", "number"] = "auto"
    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    decimal: Literal["auto", ".", ","] = "auto"
    encoding: str = "utf-8-sig"
    missing: tuple[str, ...] = MISSING


class CSV:
    """`numeric`, `categories`, and `labels` int64 (classes) and/or `target` float64 (numbers)."""

    def __init__(self, config: CSVConfig) -> None:
        self.config = config
        self.missing = tuple(dict.fromkeys(("", *config.missing)))
        self.decimal = "." if config.decimal == "auto" else config.decimal
        self.warnings: list[str] = []

    def splits(self) -> Splits:
        """Read the files, find out what the columns are.

        Raises:
            DataError: no such file or column, uneven lines, a target without values.
        """
        config = self.config
        tables = self._read()
        train = tables["train"]
        if config.target is None:
            raise DataError(
                f"data.target is needed: which column shall be predicted? Columns: {', '.join(train.columns)}."
            )
        named = (
            config.target,
            *filter(None, [config.group]),
            *config.drop,
            *config.numeric,
            *config.category,
            *config.date,
        )
        for name in named:
            if name not in train.columns:
                raise DataError(f"{train.name} has no column {name!r}.{did_you_mean(name, train.columns)}")
        for part, table in tables.items():
            tables[part] = self._with_target(table)
        if config.decimal == "auto":
            self.decimal = self._find_decimal(tables["train"])
        schema = self._schema(tables["train"], tables)
        made: dict[str, TensorExamples] = {}
        for part, table in tables.items():
            columns = encode(table, schema)
            columns |= self._target(table, schema)
            if part != "train":
                self.warnings += remarks(table, schema)
            made[part] = TensorExamples(columns)
        groups = None
        if config.group is not None:
            names = tables["train"].columns[config.group]
            position = {name: index for index, name in enumerate(dict.fromkeys(names))}
            groups = torch.tensor([position[name] for name in names])
        self._warn_leaks(made["train"], schema)
        facts = {"num_classes": len(schema.classes)} if schema.classes else {}
        return Splits(
            train=made["train"],
            val=made.get("val"),
            test=made.get("test"),
            facts=facts,
            class_names=list(schema.classes) or None,
            extras={"table": schema.to_json()} | ({} if groups is None else {"groups": groups}),
            warnings=self.warnings,
        )

    # ------------------------------------------------------------------------------------------------- reading

    def _read(self) -> dict[str, Table]:
        asked = {"val": self.config.val, "test": self.config.test}
        tables = read_parts(self.config.root, asked, _KINDS, self._table)
        for table in tables.values():
            if absent := [name for name in tables["train"].columns if name not in table.columns]:
                raise DataError(f"{table.name} lacks the column {absent[0]!r} of {tables['train'].name}.")
        return tables

    def _table(self, data: bytes, name: str) -> Table:
        config = self.config
        return read_table(data, name, columns=config.columns, delimiter=config.delimiter, encoding=config.encoding)

    # ------------------------------------------------------------------------------------------------- meaning

    def _with_target(self, table: Table) -> Table:
        """The table without the rows that have no target."""
        target, absent = self.config.target or "", set(self.missing)
        if target not in table.columns:
            raise DataError(f"{table.name} has no column {target!r}.{did_you_mean(target, table.columns)}")
        kept = [i for i, cell in enumerate(table.columns[target]) if cell not in absent]
        if not kept:
            raise DataError(f"{table.name}: the target {target!r} has no values.")
        if len(kept) == len(table):
            return table
        gone = len(table) - len(kept)
        self.warnings.append(f"{table.name}: {gone} of {len(table)} rows have no {target!r} and are left out.")
        columns = {name: [cells[i] for i in kept] for name, cells in table.columns.items()}
        return Table(table.name, columns, [table.lines[i] for i in kept])

    def _find_decimal(self, table: Table) -> str:
        """The decimal mark of a file's numbers.

        Raises:
            DataError: both would do.
        """
        doubtful: list[str] = []
        for name, cells in table.columns.items():
            if name in (self.config.group, *self.config.drop, *self.config.category):
                continue
            marks = decimal_marks(cells, self.missing)
            if marks == {","}:
                cell = next(cell for cell in cells if "," in cell)
                self.warnings.append(
                    f"Numbers are read with decimal commas, as {name}={short(cell)}; data.decimal=. reads points."
                )
                return ","
            if marks == {".", ","}:
                doubtful.append(name)
        if doubtful:
            cell = next(cell for cell in table.columns[doubtful[0]] if "," in cell)
            raise DataError(
                f"{table.name}: does the comma of {doubtful[0]}={short(cell)} part thousands or decimals? Set "
                f"data.decimal=. for thousands, data.decimal=, for decimals."
            )
        return "."

    def _schema(self, table: Table, tables: dict[str, Table]) -> Schema:
        config = self.config
        numeric: list[str] = []
        dates: dict[str, str] = {}
        categories: dict[str, list[str]] = {}
        ignored: list[str] = []
        for name, cells in table.columns.items():
            if name == config.target:
                continue
            kind = None if name in (config.group, *config.drop) else self._kind(table, name)
            if kind is None:
                ignored.append(name)
            elif kind == "number":
                numeric.append(name)
            elif kind == "category":
                categories[name] = sorted(set(cells) - set(self.missing))
            else:
                dates[name] = kind
        if not (numeric or dates or categories):
            raise DataError(f"{table.name} has no column to predict {config.target!r} from.")
        days = {name: to_days(table.columns[name], self.missing, kind) for name, kind in dates.items()}
        classes = self._classes([cell for part in tables.values() for cell in part.columns[config.target or ""]])
        return Schema(
            numeric=tuple(numeric),
            date=dates,
            times=tuple(name for name, values in days.items() if values is not None and has_times(values)),
            categories=categories,
            target=config.target or "",
            classes=classes,
            ignored=tuple(ignored),
            missing=self.missing,
            decimal=self.decimal,
            delimiter=config.delimiter,
            encoding=config.encoding,
            columns=config.columns,
        )

    def _kind(self, table: Table, name: str) -> str | None:
        """ "number", "category", a way to write dates, or None for columns that are left out, with a warning."""
        config, cells = self.config, table.columns[name]
        present = [cell for cell in cells if cell not in set(self.missing)]
        if name in config.date:
            return self._date_kind(table, name) or self._number_kind(table, name)
        for kind, named in (("number", config.numeric), ("category", config.category)):
            if name in named:
                return kind
        distinct = len(set(present))
        if distinct <= 1:
            value = f"always {short(present[0])}" if present else "always missing"
            self.warnings.append(f"Column {name!r} is {value} and is left out.")
            return None
        numbers = to_numbers(cells, self.missing, self.decimal)
        if numbers is not None:
            return self._number(name, numbers, distinct)
        if kind := self._date_kind(table, name):
            return kind
        self._warn_mixed_dates(name, present)
        if distinct > _FEW:
            self._check_mistakes(table, name, present)
        if distinct > max(_FEW, _FREE_TEXT * len(present)):
            self.warnings.append(
                f"Column {name!r} has {distinct} different texts in {len(present)} rows: it is left out as free text "
                f"or identifier; data.category={name} keeps it."
            )
            return None
        return "category"

    def _number(self, name: str, numbers: NDArray[np.float64], distinct: int) -> str | None:
        """ "number", or None where a column counts the rows; warnings for numbers that are no quantities."""
        if len(numbers) > 2 and not np.isnan(numbers).any() and bool((np.diff(numbers) == 1).all()):
            self.warnings.append(f"Column {name!r} counts the rows and is left out; data.numeric={name} keeps it.")
            return None
        whole = bool((numbers == np.round(numbers)).all())  # false with missing values: identifiers have none
        if distinct > 2 and like_dates(numbers):
            self.warnings.append(
                f"Column {name!r} looks like dates written as numbers; data.date={name} reads them as dates."
            )
        elif whole and distinct == len(numbers) > _FEW:
            self.warnings.append(
                f"Column {name!r} has another whole number in every row: if it is an identifier, data.drop={name}."
            )
        return "number"

    def _date_kind(self, table: Table, name: str) -> str | None:
        """How a column's dates are written; None where it has no dates.

        Raises:
            DataError: days and months cannot be told apart.
        """
        kinds = kinds_of(table.columns[name], self.missing)
        if len(kinds) < 2:
            return kinds[0] if kinds else None
        if self.config.date_order in kinds:
            return self.config.date_order
        cell = next(cell for cell in table.columns[name] if cell not in self.missing)
        raise DataError(
            f"{table.name}: {name}={short(cell)} can be read day first or month first, and no date of the column "
            f"decides it. Set data.date_order=day_first or data.date_order=month_first."
        )

    def _warn_mixed_dates(self, name: str, present: list[str]) -> None:
        """A column of nothing but dates, which no one way of writing reads."""
        if not kinds_of(present[:1], ()):
            return
        ways = {cell: kinds_of([cell], ()) for cell in dict.fromkeys(present)}
        if all(ways.values()):
            other = next((cell for cell, kinds in ways.items() if not set(kinds) & set(ways[present[0]])), present[-1])
            self.warnings.append(
                f"Column {name!r} has dates in several ways of writing, such as {short(present[0])} and "
                f"{short(other)}: they are read as text. Write all in one way."
            )

    def _number_kind(self, table: Table, name: str) -> str:
        """Seconds or milliseconds, of a column that was said to hold dates.

        Raises:
            DataError: its cells are neither dates nor numbers.
        """
        numbers = to_numbers(table.columns[name], self.missing)
        if numbers is not None and not np.isnan(numbers).all():
            return number_kind(numbers)
        raise wrong_cell(
            table,
            name,
            "a date; known are 2024-01-31, 31/01/2024, 01/31/2024 (one order a column), 31 Jan 2024, seconds or "
            "milliseconds since 1970",
            lambda cell: cell not in self.missing and not kinds_of([cell], ()),
        )

    def _check_mistakes(self, table: Table, name: str, present: list[str]) -> None:
        """A column of many different cells that are nearly all numbers has mistakes in it.

        Raises:
            DataError: names the first one.
        """
        wrong = [cell for cell in present if to_numbers([cell], (), self.decimal) is None]
        if len(wrong) <= (1 - _MOSTLY) * len(present):
            error = wrong_cell(table, name, "a number", lambda cell: cell == wrong[0])
            raise DataError(
                f"{error} {len(present) - len(wrong)} of the column's {len(present)} cells are. Mend it, add it to "
                f"data.missing if it means no value, or set data.category={name} or data.drop={name}."
            )

    def _classes(self, cells: list[str]) -> tuple[str, ...]:
        """Values of the target in order of label; () where it is a number."""
        numbers = to_numbers(cells, (), self.decimal)
        kind = self.config.target_kind
        if kind == "number":
            if numbers is None:
                wrong = next(cell for cell in cells if to_numbers([cell], (), self.decimal) is None)
                raise DataError(f"data.target_kind=number: {self.config.target}={wrong!r} is not a number.")
            return ()
        if numbers is None:
            if len(names := set(cells)) > max(_FEW, _FREE_TEXT * len(cells)):
                raise DataError(
                    f"The target {self.config.target!r} has {len(names)} different texts in {len(cells)} rows: no "
                    f"classes."
                )
            return tuple(sorted(names))
        whole = bool((numbers == np.round(numbers)).all()) and len(np.unique(numbers)) <= _MOST_CLASSES
        if kind != "class" and not whole:
            return ()
        written: dict[float, str] = {}
        for value, cell in sorted(zip(numbers.tolist(), cells, strict=True)):
            written.setdefault(value, cell)  # 1 and 1.0, as another program wrote it, are one class
        return tuple(written.values())

    def _target(self, table: Table, schema: Schema) -> dict[str, torch.Tensor]:
        cells = table.columns[schema.target]
        found: dict[str, torch.Tensor] = {}
        numbers = to_numbers(cells, (), schema.decimal)
        if schema.classes and numbers is not None:
            values = to_numbers(schema.classes, (), schema.decimal)
            assert values is not None
            found["labels"] = torch.from_numpy(np.searchsorted(values, numbers).astype(np.int64))
        elif schema.classes:
            position = {name: label for label, name in enumerate(schema.classes)}
            found["labels"] = torch.tensor([position[cell] for cell in cells])
        if numbers is not None:
            found["target"] = torch.from_numpy(numbers)
        return found

    def _warn_leaks(self, train: TensorExamples, schema: Schema) -> None:
        """Columns that give the target away on their own."""
        columns = train.columns
        for index, name in enumerate(schema.numeric_names):
            values = columns["numeric"][:, index].double()
            if "target" in columns and not values.isnan().any() and len(values) > 10:
                together = torch.corrcoef(torch.stack([values, columns["target"]]))[0, 1].abs()
                if together > _LEAK:
                    self._warn_leak(name, f"correlates with it by {float(together):.4f}")
        for index, (name, known) in enumerate(schema.categories.items()):
            if "labels" not in columns or len(known) * 5 > len(train):
                continue
            counts = torch.zeros(len(known) + 2, len(schema.classes))
            places = (columns["categories"][:, index], columns["labels"])
            counts.index_put_(places, torch.ones(len(train)), accumulate=True)
            told = float(counts.amax(1).sum()) / len(train)  # accuracy of each value's commonest class
            if told >= _LEAK > float(counts.sum(0).amax()) / len(train):
                self._warn_leak(name, "tells it in nearly every row")

    def _warn_leak(self, name: str, why: str) -> None:
        self.warnings.append(
            f"Column {name!r} may give the target {self.config.target!r} away: it {why}. If it is not known "
            f"beforehand: data.drop={name}."
        )


DATASETS = {"csv": CSVConfig()}
