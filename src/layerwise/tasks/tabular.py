"""What the tasks on tables share: from a table's raw columns to model inputs, and rows of new files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.config import PositiveInt
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.data.table import Schema, encode, read_table, remarks
from layerwise.tasks.base import Batch, Task
from layerwise.tasks.table_preprocessing import Numbers, Statistics, TablePreprocessing, measure


@dataclass(frozen=True, kw_only=True)
class TableTaskConfig:
    """Options of tasks on tables.

    Args:
        numbers: how numbers are prepared: "standard" (mean 0, deviation 1), "quantile" (to a normal distribution), or
            "piecewise_linear" (one component a bin; see `tasks/table_preprocessing.py`).
        bins: of a number, at most, for `piecewise_linear`.
        min_count: category values with fewer training rows share the index of unseen values.
    """

    numbers: Numbers = "standard"
    bins: PositiveInt = 48
    min_count: PositiveInt = 2


class TableTask(Task):
    """Base of the tasks on tables: raw `numeric` and `categories` to model inputs of the same names."""

    predicts = "rows"
    explains = "columns"

    def __init__(self, options: TableTaskConfig) -> None:
        self.options = options
        self.schema: Schema | None = None
        self._preprocessing: TablePreprocessing | None = None
        self._remarks: list[str] = []

    def bind(self, splits: Splits) -> None:
        if splits.train is None or "table" not in splits.extras:
            raise DataError(f"{type(self).__name__} needs a table to learn from: data=csv or data=npz.")
        first = splits.train.collate(torch.tensor([0]))
        if absent := [name for name in ("numeric", "categories") if name not in first]:
            raise DataError(
                f"{type(self).__name__} needs the columns numeric and categories; the data lacks {absent[0]}."
            )
        self.schema = Schema.from_json(splits.extras["table"])
        self._preprocessing = TablePreprocessing(
            measure(splits.train, self.options.min_count, self.options.numbers, self.options.bins)
        )

    def state(self) -> dict[str, Any]:
        assert self.schema is not None
        return {"table": self.schema.to_json(), "statistics": self.preprocessing().statistics.to_json()}

    def load(self, state: dict[str, Any]) -> None:
        self.schema = Schema.from_json(state["table"])
        self._preprocessing = TablePreprocessing(Statistics(**state["statistics"]))

    def preprocessing(self) -> TablePreprocessing:
        if self._preprocessing is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._preprocessing

    def facts(self) -> dict[str, Any]:
        statistics = self.preprocessing().statistics
        return {
            "num_numeric": len(statistics.origins),
            "category_sizes": statistics.category_sizes,
        }

    def table_inputs(self, batch: Batch) -> Batch:
        """Model inputs and sample ids, without labels and target."""
        numeric, categories = self.preprocessing()(batch["numeric"], batch["categories"])
        made = {"numeric": numeric, "categories": categories}
        return made | ({"sample_ids": batch["sample_ids"]} if "sample_ids" in batch else {})

    def scores(self, network: nn.Module, batch: Batch) -> Tensor:
        return network(batch["numeric"], batch["categories"])

    def input_columns(self) -> tuple[list[str], list[str]]:
        """The file's column behind each value of the model inputs `numeric` and `categories`."""
        assert self.schema is not None
        sources = self.schema.numeric_sources
        return [sources[place] for place in self.preprocessing().statistics.origins], list(self.schema.categories)

    def row_texts(self, raw: Batch) -> list[dict[str, str]]:
        """Column -> value of raw rows, for people; dates are left out."""
        assert self.schema is not None
        found: list[dict[str, str]] = []
        numbers, categories = raw["numeric"].tolist(), raw["categories"].tolist()
        for values, indices in zip(numbers, categories, strict=True):
            row = {
                name: "missing" if value != value else f"{value:.6g}"
                for name, value in zip(self.schema.numeric, values[: len(self.schema.numeric)], strict=True)
            }
            for (name, known), index in zip(self.schema.categories.items(), indices, strict=True):
                row[name] = "missing" if index == 0 else known[index - 1] if index <= len(known) else "unknown"
            found.append(row)
        return found

    def average_row(self) -> Batch:
        """Model inputs of a row with the training rows' mean numbers and missing categories, [1, ...]."""
        raw = {
            "numeric": torch.tensor([self.preprocessing().statistics.mean]),
            "categories": torch.zeros(1, len(self.input_columns()[1]), dtype=torch.int64),
        }
        return self.table_inputs(raw)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Every row of the CSV files named, as `file:line`.

        A column that the file lacks is taken as missing, with a remark, if training rows lacked values of it too: the
        network has learned what that means.

        Raises:
            DataError: no such file, columns are of another kind, or columns are missing that training always had.
        """
        assert self.schema is not None
        without = self.may_lack()
        rows: list[tuple[str, Batch]] = []
        for name in inputs:
            path = Path(name)
            if not path.is_file():
                raise DataError(
                    f"{name}: there is no such file. Predictions on tables take CSV files with the training columns."
                )
            table = read_table(
                path.read_bytes(),
                name,
                columns=self.schema.columns,
                optional=self.schema.target,
                delimiter=self.schema.delimiter,
                encoding=self.schema.encoding,
                fixed=True,
            )
            columns = encode(table, self.schema, without)
            self._remarks += remarks(table, self.schema, without)
            rows += [
                (f"{name}:{line}", {key: value[i : i + 1] for key, value in columns.items()})
                for i, line in enumerate(table.lines)
            ]
        return rows

    def may_lack(self) -> set[str]:
        """Columns that lacked values in training, so that the network knows what a missing one means."""
        assert self.schema is not None
        statistics, sources = self.preprocessing().statistics, self.schema.numeric_sources
        categories = list(self.schema.categories)
        return {sources[place] for place in statistics.indicated} | {categories[place] for place in statistics.gaps}

    def remarks(self) -> list[str]:
        said, self._remarks = self._remarks, []
        return said
