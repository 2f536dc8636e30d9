"""What columns of a table tell: constant ones, copies, identifiers, values that stand for nothing, and the target in
disguise.

Shapes: N rows, F numeric columns, G columns of categories.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.data.checks import Finding, row_keys
from layerwise.data.checks_scan import NO_LABEL, Pool
from layerwise.data.table import Schema
from layerwise.ops.random import permutation

TELLS = 0.98  # share of the errors (of the variance) that a column alone must explain to give the target away
_SAME_ORDER = 0.9995  # rank correlation that only a function of the target has
_BINS = 64
_LEAST_ROWS = 50
_UNIQUE = 0.99
_MOSTLY = 0.95
_ALONE = 10.0  # a single value this many times further off than all others are apart
_SEED = 2021


@dataclass(frozen=True)
class _Column:
    name: str
    values: NDArray[np.float64]  # [N], NaN where missing
    numeric: bool


def table_findings(pool: Pool) -> list[Finding]:
    """Findings on columns; nothing where examples are no rows of a table."""
    if not pool.table or len(pool) < 2:
        return []
    columns = list(_columns(pool))
    found: list[Finding] = []
    for column in columns:
        found += _constant(column) or [*_identifier(column), *_mostly_missing(column), *_stand_ins(pool, column)]
    if (target := pool.table.get("target")) is not None and target.dim() == 1:
        found += _stand_ins(pool, _Column("the target", target.double().numpy(), True))
    return [*found, *_equal_columns(columns), *_leaks(pool, columns)]


def _columns(pool: Pool) -> Iterator[_Column]:
    """Every input column; categories as their numbers, missing as NaN."""
    described = pool.splits.extras.get("table")
    schema = None if described is None else Schema.from_json(described)
    numeric, categories = pool.table.get("numeric"), pool.table.get("categories")
    if numeric is not None:
        names = [f"column {i}" for i in range(numeric.shape[1])] if schema is None else schema.numeric_names
        for name, values in zip(names, numeric.unbind(1), strict=True):
            yield _Column(name, values.double().numpy(), True)
    if categories is not None:
        names = [f"category {i}" for i in range(categories.shape[1])] if schema is None else list(schema.categories)
        for name, values in zip(names, categories.unbind(1), strict=True):
            held = values.double().numpy()
            yield _Column(name, np.where(held == 0, np.nan, held), False)


def _constant(column: _Column) -> list[Finding]:
    there = column.values[~np.isnan(column.values)]
    if len(there) and (there != there[0]).any():
        return []
    if 0 < len(there) < len(column.values):
        what = f"has one value, {there[0]:g}, where it is not missing" if column.numeric else "has one value or none"
    else:
        what = (
            "is always missing" if not len(there) else f"is always {there[0]:g}" if column.numeric else "never varies"
        )
    if 0 < len(there) < len(column.values):
        return [Finding("note", "nearly_constant_column", f"Column {column.name!r} {what}.")]
    return [Finding("warning", "constant_column", f"Column {column.name!r} {what}: it tells nothing. Leave it out.")]


def _identifier(column: _Column) -> list[Finding]:
    """Whole numbers, or categories, that hardly ever come twice."""
    there = column.values[~np.isnan(column.values)]
    if len(there) < _LEAST_ROWS or not np.isfinite(there).all() or (there != np.round(there)).any():
        return []
    distinct = len(np.unique(there))
    if distinct < _UNIQUE * len(there):
        return []
    message = (
        f"Column {column.name!r} has {distinct:,} different values in {len(there):,} rows: an identifier? A model can "
        f"learn rows by heart with it. If it is one, leave it out."
    )
    return [Finding("warning", "identifier_column", message)]


def _mostly_missing(column: _Column) -> list[Finding]:
    missing = float(np.isnan(column.values).mean())
    if missing < _MOSTLY:
        return []
    return [Finding("note", "mostly_missing", f"Column {column.name!r} is missing in {missing:.1%} of the rows.")]


def _stand_ins(pool: Pool, column: _Column) -> list[Finding]:
    """An extreme value that comes often and lies further from its neighbour than all others are apart (-999, 99999)."""
    if not column.numeric:
        return []
    finite = np.isfinite(column.values)
    values, counts = np.unique(column.values[finite], return_counts=True)
    if len(values) < 4 or finite.sum() < _LEAST_ROWS:
        return []
    found: list[Finding] = []
    for end, neighbour, spread in ((-1, -2, values[-2] - values[0]), (0, 1, values[-1] - values[1])):
        gap, count = abs(values[end] - values[neighbour]), int(counts[end])
        if not (gap > spread and (count > 1 or gap > _ALONE * spread)):
            continue
        at = np.flatnonzero(column.values == values[end])
        often = f"{count:,} times" if count > 1 else "once"
        message = (
            f"Column {column.name!r} is {values[end]:g} {often} and otherwise "
            f"{'at most' if end else 'at least'} {values[neighbour]:g}: does it stand for something else "
            f"(missing, cut off)?"
        )
        named = tuple(pool.example(i, f"{column.name} = {values[end]:g}") for i in at.tolist())
        found.append(Finding("warning", "stand_in_value", message, named))
    return found


def _equal_columns(columns: list[_Column]) -> list[Finding]:
    if not columns:
        return []
    keys = row_keys([torch.from_numpy(np.stack([column.values for column in columns]))])
    found: list[Finding] = []
    first: dict[int, str] = {}
    for column, key in zip(columns, keys.tolist(), strict=True):
        if key in first and np.nanmin(column.values, initial=np.inf) != np.nanmax(column.values, initial=-np.inf):
            message = f"Columns {first[key]!r} and {column.name!r} are equal in every row: one of them is enough."
            found.append(Finding("note", "equal_columns", message))
        first.setdefault(key, column.name)
    return found


def _leaks(pool: Pool, columns: list[_Column]) -> list[Finding]:
    """Columns that give the target away alone: a table of its values, or of ranges of them, made on one half of the
    rows and tried on the other.
    """
    labels = None if pool.labels is None or (pool.labels == NO_LABEL).any() else pool.labels
    target = pool.table["target"].double().numpy() if labels is None and "target" in pool.table else None
    if (labels is None and target is None) or len(pool) < _LEAST_ROWS:
        return []
    half = permutation(len(pool), _SEED, "halves").numpy() < len(pool) // 2
    found: list[Finding] = []
    for column in columns:
        if labels is not None:
            told = errors_avoided(cells_of(column.values, half), labels, half)
            why = f"alone it tells {told:.1%} of what the commonest class leaves open"
        else:
            assert target is not None
            told = variance_told(cells_of(column.values, half), target, half)
            if rank_correlation(column.values, target) >= _SAME_ORDER:
                told = 1.0
            why = f"alone it explains {told:.1%} of its variance"
        if told >= TELLS:
            message = (
                f"Column {column.name!r} may give the target away: {why}, on rows not used to find that out. If it is "
                f"not known beforehand, leave it out."
            )
            found.append(Finding("warning", "leaking_column", message))
    return found


def cells_of(values: NDArray[np.float64], half: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A cell of each value [N]: the value itself where few occur, else a range of equally many, with cells of their own
    for the values that lie on its ends (often a common one, such as 0); missing ones have their own.

    Args:
        values: [N].
        half: rows that decide the ranges, [N].
    """
    there = np.isfinite(values)
    distinct = np.unique(values[there & half])
    if len(distinct) > _BINS:
        edges = np.unique(np.quantile(values[there & half], np.linspace(0, 1, _BINS + 1)[1:-1]))
        cells = np.searchsorted(edges, values, side="left") + np.searchsorted(edges, values, side="right")
        return np.where(there, cells + 1, 0)
    if not len(distinct):
        return np.zeros(len(values), np.int64)
    at = np.searchsorted(distinct, values).clip(max=len(distinct) - 1)
    return np.where(there & (distinct[at] == values), at + 1, 0)


def errors_avoided(cells: NDArray[np.int64], labels: NDArray[np.int64], half: NDArray[np.bool_]) -> float:
    """Share of the errors of "always the commonest class" that the commonest class of each cell avoids, counted on the
    other half; 0 where there is one class.
    """
    _, labels = np.unique(labels, return_inverse=True)
    counts = np.zeros((cells.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (cells[half], labels[half]), 1)
    always = counts.sum(0).argmax()
    guess = np.where(counts.sum(1) > 0, counts.argmax(1), always)
    left = int((labels[~half] != always).sum())
    return 1.0 - int((guess[cells[~half]] != labels[~half]).sum()) / left if left else 0.0


def variance_told(cells: NDArray[np.int64], target: NDArray[np.float64], half: NDArray[np.bool_]) -> float:
    """R2 of the mean of each cell, on the other half; 0 where the target does not vary."""
    sums, counts = np.zeros(cells.max() + 1), np.zeros(cells.max() + 1)
    np.add.at(sums, cells[half], target[half])
    np.add.at(counts, cells[half], 1)
    overall = target[half].mean()
    guess = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
    left = float(np.square(target[~half] - overall).sum())
    return 1.0 - float(np.square(target[~half] - guess[cells[~half]]).sum()) / left if left > 0 else 0.0


def rank_correlation(values: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Absolute rank correlation (Spearman) where neither is missing, equal values sharing their mean rank; 0 where one
    does not vary or few rows are left.
    """
    there = np.isfinite(values) & np.isfinite(target)
    if there.sum() < _LEAST_ROWS:
        return 0.0
    ranks: list[NDArray[np.float64]] = []
    for column in (values[there], target[there]):
        _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
        if len(counts) < 2:
            return 0.0
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[place])
    return abs(float(np.corrcoef(ranks[0], ranks[1])[0, 1]))
