"""The data check: what is wrong with splits, or smells, before anything is spent on training.

Here is what every training begins with, and what all checks share. The checks that look at every example and compare
them run under the verb `check` only: checks_scan.py goes over the data once, checks_pictures.py, checks_files.py,
checks_tables.py, checks_text.py, checks_graph.py and checks_labels.py look at what it kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.data.examples import Examples, Splits, Subset, TensorExamples

_NOT_INPUTS = ("labels", "multi_labels", "target")
_SHOWN = 5
_CHUNK = 8192


@dataclass(frozen=True)
class Example:
    """One example that a finding is about.

    Args:
        part: "train", "val" or "test".
        position: in that part.
        note: what is the matter with it, a few words.
        group: examples of one group belong together (copies of one another).
    """

    part: str
    position: int
    note: str = ""
    group: int | None = None


@dataclass(frozen=True)
class Finding:
    """One thing the check found.

    Args:
        level: "error" stops training, "warning" is shown loudly, "note" is worth knowing.
        code: a short stable name, for programs.
        message: a plain sentence, with the remedy where there is one.
        examples: those it is about, worst first; empty where it is about the whole.
        lines: what else belongs to it, plain text (files that cannot be read, and why).
    """

    level: Literal["error", "warning", "note"]
    code: str
    message: str
    examples: tuple[Example, ...] = ()
    lines: tuple[str, ...] = ()


@runtime_checkable
class HasContentKeys(Protocol):
    """Examples that do not lie in memory and know a hash of each one's content."""

    def content_keys(self) -> NDArray[np.int64]:
        """[N], equal for equal inputs."""
        ...


def findings(splits: Splits) -> list[Finding]:
    """What every training begins with: cheap, and for data in memory only. Errors first, then warnings, then notes."""
    found = value_findings(splits)
    return worst_first(found if is_empty(found) else [*found, *_check_duplicates(splits)])


def value_findings(splits: Splits) -> list[Finding]:
    """Labels out of range, absent and uneven classes, values that are missing or not finite."""
    if splits.train is not None and len(splits.train) == 0:
        return [Finding("error", "empty", "The training part has no examples.")]
    return [*_check_labels(splits), *_check_missing(splits)]


def is_empty(found: Sequence[Finding]) -> bool:
    """Whether there is nothing to look at."""
    return any(finding.code == "empty" for finding in found)


def worst_first(found: Sequence[Finding]) -> list[Finding]:
    """Errors, warnings, notes, each in the order they came."""
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def named_parts(splits: Splits) -> list[tuple[str, Examples]]:
    """The parts that there are, with their names."""
    named = [(name, getattr(splits, name)) for name in ("train", "val", "test")]
    return [(name, examples) for name, examples in named if examples is not None]


def some(names: Sequence[object], most: int = _SHOWN) -> str:
    """The first of some names, and a sign that there are more."""
    return ", ".join(str(name) for name in names[:most]) + (", ..." if len(names) > most else "")


def _check_labels(splits: Splits) -> list[Finding]:
    found: list[Finding] = []
    classes: int | None = splits.facts.get("num_classes")
    if classes is None:
        return found
    names = splits.class_names or [str(label) for label in range(classes)]
    counts: dict[str, Tensor] = {}
    for part, examples in named_parts(splits):
        labels = examples.labels()
        if labels is None or not len(labels):
            continue
        wrong = torch.nonzero((labels < 0) | (labels >= classes)).flatten()
        if len(wrong):
            shown = ", ".join(f"{int(labels[i])} at {int(i)}" for i in wrong[:_SHOWN])
            rule = f"they must be 0 to {classes - 1}"
            message = f"{len(wrong)} labels of {part} are out of range: {shown}; {rule}."
            named = tuple(Example(part, i, f"label {int(labels[i])}") for i in wrong.tolist())
            found.append(Finding("error", "label_range", message, named))
        else:
            counts[part] = torch.bincount(labels, minlength=classes)
    if "train" in counts:
        train = counts["train"]
        seen = int((train > 0).sum())
        if seen < 2:
            only = names[int(train.argmax())]
            message = (
                f"All {int(train.sum())} training examples are of one class, {only!r}: there is nothing to tell apart."
            )
            found.append(Finding("error", "one_class", message))
        elif seen < classes:
            absent = [names[i] for i in torch.nonzero(train == 0).flatten()[:_SHOWN].tolist()]
            found.append(
                Finding(
                    "warning",
                    "absent_class",
                    f"{classes - seen} of {classes} classes have no training example: {some(absent)}.",
                )
            )
        if seen >= 2 and int(train.max()) >= 20 * int(train[train > 0].min()):
            most, least = int(train.argmax()), int(torch.where(train > 0, train, train.max() + 1).argmin())
            message = (
                f"Classes are uneven: {int(train[most])} of {names[most]!r}, {int(train[least])} of {names[least]!r}. "
                "data.weighted=true draws them equally often; read macro F1 beside accuracy."
            )
            found.append(Finding("warning", "uneven_classes", message))
    return found


def _check_missing(splits: Splits) -> list[Finding]:
    found: list[Finding] = []
    for part, examples in named_parts(splits):
        base, rows = _in_memory(examples)
        for name, column in base.columns.items() if base is not None else ():
            if not column.is_floating_point() or not column.numel():
                continue
            values = column if rows is None else column[rows]
            bad = ~torch.isfinite(values)
            at = torch.nonzero(bad.flatten(1).any(1) if values.dim() > 1 else bad).flatten()
            count = len(at)
            if not count:
                continue
            if name in _NOT_INPUTS:
                message = f"{count} examples of {part} have no finite {name}."
                found.append(Finding("error", "missing_target", message, _at(part, at, name)))
            elif name == "numeric" and not bool(torch.isinf(values).any()):
                message = (
                    f"{count} of {len(values)} examples of {part} have missing values; each is marked by an indicator."
                )
                found.append(Finding("warning", "missing_values", message))
            else:
                message = (
                    f"{count} of {len(values)} examples of {part} have NaN or infinite values in {name!r}: "
                    f"mend or remove them."
                )
                found.append(Finding("error", "not_finite", message, _at(part, at, name)))
    return found


def _at(part: str, positions: Tensor, note: str) -> tuple[Example, ...]:
    return tuple(Example(part, position, note) for position in positions.tolist())


def _in_memory(examples: Examples) -> tuple[TensorExamples | None, Tensor | None]:
    """The tensors behind a split, and which rows of them it takes (None: all)."""
    rows: Tensor | None = None
    while isinstance(examples, Subset):
        rows = examples.indices if rows is None else examples.indices[rows]
        examples = examples.parent
    return (examples, rows) if isinstance(examples, TensorExamples) else (None, None)


def content_keys(examples: Examples) -> NDArray[np.int64] | None:
    """A 64-bit hash of every example's inputs (of tables: and target), [N].

    None where that cannot be had without decoding everything.
    """
    if isinstance(examples, Subset):
        keys = content_keys(examples.parent)
        return None if keys is None else keys[examples.indices.numpy()]
    if isinstance(examples, HasContentKeys):
        return examples.content_keys()
    if not isinstance(examples, TensorExamples):
        return None
    table = "categories" in examples.columns  # equal rows are common there: copies have the same target as well
    columns = [column for name, column in sorted(examples.columns.items()) if table or name not in _NOT_INPUTS]
    return row_keys(columns) if columns else None


def row_keys(columns: Sequence[Tensor]) -> NDArray[np.int64]:
    """A 64-bit hash of what columns [N, ...] hold together in every row, [N]."""
    total = np.zeros(len(columns[0]), np.int64)
    for salt, column in enumerate(columns):
        if not column[:1].numel():
            continue
        rows = column.contiguous().view(len(column), -1).numpy().view(np.uint8)
        factors = np.random.default_rng(salt).integers(-(2**63), 2**63, -(-rows.shape[1] // 8), dtype=np.int64) | 1
        for start in range(0, len(rows), _CHUNK):
            total[start : start + _CHUNK] += _row_hash(rows[start : start + _CHUNK], factors)
    return total


def _row_hash(rows: NDArray[np.uint8], factors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum of mixed 8-byte words times random odd factors, modulo 2^64."""
    padded = np.zeros((len(rows), 8 * len(factors)), np.uint8)
    padded[:, : rows.shape[1]] = rows
    words = padded.view(np.int64)
    words *= factors
    words ^= words >> 29
    return words.sum(1)


def _check_duplicates(splits: Splits) -> list[Finding]:
    """Exact copies of training inputs in the parts that training is judged by."""
    if splits.train is None:
        return []
    found: list[Finding] = []
    keys = content_keys(splits.train)
    for part, examples in named_parts(splits)[1:]:
        if examples is splits.train:  # a truth table is learned from and judged by as a whole: it has no other rows
            continue
        other = content_keys(examples)
        if keys is None or other is None or not len(other):
            continue
        copied = np.flatnonzero(np.isin(other, keys))
        if len(copied):
            ids = examples.collate(torch.from_numpy(copied[:_SHOWN]))["sample_ids"].tolist()
            message = (
                f"{len(copied)} of {len(other)} examples of {part} are exact copies of training examples "
                f"(sample ids {some(ids)}{', ...' if len(copied) > _SHOWN else ''}): figures on {part} "
                f"are too good by as much."
            )
            found.append(Finding("warning", f"duplicates_{part}", message))
    repeated = 0 if keys is None else len(keys) - len(np.unique(keys))
    if repeated:
        message = f"{repeated} of {len(splits.train)} training examples are exact copies of others."
        found.append(Finding("note", "duplicates_train", message))
    return found
