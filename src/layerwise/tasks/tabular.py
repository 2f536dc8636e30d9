"""What the two tasks on tables share: from a table's raw columns to model inputs, and rows of new files.

Numbers become `(x - mean) / std` with the training rows' statistics; a missing one becomes 0, the mean, and columns
that lacked values in training have an indicator (1 = missing) beside the numbers. Categories become indices: 0 missing,
1 unseen or rare in training, 2.. the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Examples, Splits
from layerwise.data.table import Schema, encode, read_table
from layerwise.tasks.base import Batch, Task

_MISSING, _UNSEEN, _FIRST_KNOWN = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What the training rows tell. Plain values: it travels with the weights as JSON.

    Args:
        mean, std: one a numeric column; std is 1 where the column is constant.
        indicated: numeric columns that lacked values in training.
        lookup: per category column, raw index -> model's index; the last entry is for values that the schema does not
            know.
    """

    mean: list[float]
    std: list[float]
    indicated: list[int]
    lookup: list[list[int]]

    @property
    def category_sizes(self) -> tuple[int, ...]:
        """Indices a category column has."""
        return tuple(max(1, *table) + 1 for table in self.lookup)


class TablePreprocessing(nn.Module):
    """Raw numbers and categories -> model inputs.

    Args:
        statistics: of the training rows.

    Shape:
        numeric float [B, F], categories int64 [B, G] -> numeric float32 [B, F + indicators], categories int64 [B, G].
    """

    mean: Tensor
    std: Tensor
    indicated: Tensor
    lookup: Tensor
    last: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self.statistics = statistics
        longest = max((len(table) for table in statistics.lookup), default=1)
        padded = [[*table, *[_UNSEEN] * (longest - len(table))] for table in statistics.lookup]
        for name, value in {
            "mean": torch.tensor(statistics.mean, dtype=torch.float32),
            "std": torch.tensor(statistics.std, dtype=torch.float32),
            "indicated": torch.tensor(statistics.indicated, dtype=torch.int64),
            "lookup": torch.tensor(padded, dtype=torch.int64).view(len(padded), longest),
            "last": torch.tensor([len(table) - 1 for table in statistics.lookup], dtype=torch.int64),
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, numeric: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise, mark what is missing, look categories up."""
        missing = numeric.isnan()
        standard = torch.where(missing, 0.0, (numeric.to(torch.float32) - self.mean) / self.std)
        marks = missing.index_select(1, self.indicated).to(torch.float32)
        places = torch.minimum(categories, self.last)
        known = self.lookup.gather(1, places.t()).t() if self.lookup.numel() else categories
        return torch.cat([standard, marks], dim=1), known


def measure(train: Examples, min_count: int, chunk: int = 8192) -> Statistics:
    """Statistics of the training rows, one pass in float64.

    Args:
        train: raw columns `numeric` and `categories`.
        min_count: category values rarer than this count as unseen, so that the index of unseen values is trained too.
    """
    total = squares = count = torch.zeros(0, dtype=torch.float64)
    values: list[Tensor] = []
    shift: Tensor | None = None
    for ids in torch.arange(len(train)).split(chunk):
        batch = train.collate(ids)
        numeric = batch["numeric"].double()
        shift = (
            torch.nan_to_num(numeric[0]) if shift is None else shift
        )  # keeps the sum of squares accurate far from zero
        there = ~numeric.isnan()
        centred = torch.where(there, numeric - shift, 0.0)
        if not len(total):
            total, squares, count = (torch.zeros(numeric.shape[1], dtype=torch.float64) for _ in range(3))
        total, squares, count = total + centred.sum(0), squares + centred.square().sum(0), count + there.sum(0)
        values.append(batch["categories"])
    offset = total / count.clamp(min=1)
    std = (squares / count.clamp(min=1) - offset.square()).clamp(min=0).sqrt()
    mean = offset + (shift if shift is not None else 0.0)
    std = torch.where(std > 1e-7 * mean.abs().clamp(min=1e-30), std, 1.0)
    return Statistics(
        mean=mean.tolist(),
        std=std.tolist(),
        indicated=torch.nonzero(count < len(train)).flatten().tolist(),
        lookup=[_lookup(column, min_count) for column in torch.cat(values).unbind(1)],
    )


def _lookup(column: Tensor, min_count: int) -> list[int]:
    """Raw index -> model's index, in order of the raw one, for the values of one training column."""
    counts = torch.bincount(column, minlength=2)
    table = [_MISSING]
    known = _FIRST_KNOWN
    for count in counts[1:].tolist():
        table.append(known if count >= min_count else _UNSEEN)
        known += count >= min_count
    return [*table, _UNSEEN]


class TableTask(Task):
    """Base of the tasks on tables: raw `numeric` and `categories` to model inputs of the same names."""

    predicts = "rows"

    def __init__(self, min_count: int) -> None:
        self.min_count = min_count
        self.schema: Schema | None = None
        self._preprocessing: TablePreprocessing | None = None

    def bind(self, splits: Splits) -> None:
        if splits.train is None or "table" not in splits.extras:
            raise DataError(f"{type(self).__name__} needs a table to learn from: data=csv or data=npz.")
        first = splits.train.collate(torch.tensor([0]))
        if absent := [name for name in ("numeric", "categories") if name not in first]:
            raise DataError(
                f"{type(self).__name__} needs the columns numeric and categories; the data lacks {absent[0]}."
            )
        self.schema = Schema.from_json(splits.extras["table"])
        self._preprocessing = TablePreprocessing(measure(splits.train, self.min_count))

    def state(self) -> dict[str, Any]:
        assert self.schema is not None
        statistics = self.preprocessing().statistics
        return {
            "table": self.schema.to_json(),
            "mean": statistics.mean,
            "std": statistics.std,
            "indicated": statistics.indicated,
            "lookup": statistics.lookup,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.schema = Schema.from_json(state["table"])
        names = ("mean", "std", "indicated", "lookup")
        self._preprocessing = TablePreprocessing(Statistics(**{name: state[name] for name in names}))

    def preprocessing(self) -> TablePreprocessing:
        if self._preprocessing is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._preprocessing

    def facts(self) -> dict[str, Any]:
        statistics = self.preprocessing().statistics
        return {
            "num_numeric": len(statistics.mean) + len(statistics.indicated),
            "category_sizes": statistics.category_sizes,
        }

    def table_inputs(self, batch: Batch) -> Batch:
        """Model inputs and sample ids, without labels and target."""
        numeric, categories = self.preprocessing()(batch["numeric"], batch["categories"])
        made = {"numeric": numeric, "categories": categories}
        return made | ({"sample_ids": batch["sample_ids"]} if "sample_ids" in batch else {})

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Every row of the CSV files named, as `file:line`.

        Raises:
            DataError: no such file, or columns are missing or of another kind; they are named.
        """
        assert self.schema is not None
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
            )
            columns = encode(table, self.schema)
            rows += [
                (f"{name}:{line}", {key: value[i : i + 1] for key, value in columns.items()})
                for i, line in enumerate(table.lines)
            ]
        return rows
