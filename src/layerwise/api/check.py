"""The verb `check`: look for defects in data before training on it."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from layerwise.api.configure import load_recipe
from layerwise.core import discovery
from layerwise.core.config import Component, apply_overrides, parse, parse_component, to_tree
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.checks import Example, Finding, is_empty, value_findings, worst_first
from layerwise.data.checks_copies import exact_copy_findings
from layerwise.data.checks_files import file_findings, files_of
from layerwise.data.checks_graph import graph_findings
from layerwise.data.checks_labels import label_findings, table_features, text_features
from layerwise.data.checks_pictures import near_copy_findings, value_range_findings
from layerwise.data.checks_scan import Pool, scan
from layerwise.data.checks_tables import table_findings
from layerwise.data.checks_text import text_findings
from layerwise.data.examples import Splits
from layerwise.data.shingles import plain
from layerwise.data.splits import load, parted
from layerwise.train.recipe import Recipe

_FEW_A_CLASS = 10
_FEW = 50
_SHARE_MOVED, _LEAST_COMPARED = 0.15, 100
_LONGEST = 300  # characters of a text in JSON


@dataclass
class Checked:
    """What was found, and where.

    Args:
        name: of the recipe or data set.
        findings: worst first.
        pool: every example as the checks saw it; None where the data could not be read.
        looked: (check, what it looked at, seconds) of every check that was run.
    """

    name: str
    findings: list[Finding]
    pool: Pool | None = None
    looked: list[tuple[str, str, float]] = field(default_factory=list)

    def rows(self) -> list[dict[str, Any]]:
        """JSON of the findings. An example has `part`, `id` (`position` in its part where that was not read), as far
        as there are, `file`, `label`, `note`, `group` (those of one group belong together) and `text`.
        """
        files = None if self.pool is None else files_of(self.pool)
        made: list[dict[str, Any]] = []
        for finding in self.findings:
            row: dict[str, Any] = {"level": finding.level, "code": finding.code, "message": finding.message}
            row["examples"] = [self._named(example, files) for example in finding.examples]
            row["lines"] = list(finding.lines)
            made.append(row)
        return made

    def _named(self, example: Example, files: list[str] | None) -> dict[str, Any]:
        told: dict[str, Any] = {"part": example.part, "note": example.note, "group": example.group}
        if self.pool is None or (at := self.pool.index(example)) is None:
            told["position"] = example.position
        else:
            told["id"] = int(self.pool.sample_ids[at])
            told["file"] = None if files is None else files[at]
            told["label"] = self.pool.class_name(at)
            told["text"] = None if self.pool.texts is None else self.pool.texts[at][:_LONGEST]
        return {key: value for key, value in told.items() if value not in (None, "")}


def check(splits: Splits, task_kind: str | None = None) -> list[Finding]:
    """What is wrong with splits for a task, worst first.

    Args:
        splits: with their validation and test parts.
        task_kind: name of a task component; None checks the data alone.
    """
    return examine(splits, task_kind).findings


def examine(splits: Splits, task_kind: str | None = None, name: str = "data") -> Checked:
    """`check`, with what was looked at."""
    checked = Checked(name, [])
    found, looked = checked.findings, checked.looked

    def run(what: str, on: str, work: Callable[[], list[Finding]]) -> None:
        start = time.perf_counter()
        found.extend(work())
        looked.append((what, on, time.perf_counter() - start))

    run("labels and values", "every example in memory", lambda: value_findings(splits))
    if not is_empty(found):
        start = time.perf_counter()
        try:
            checked.pool = pool = scan(splits)
        except DataError as error:
            found.append(Finding("error", "unreadable", str(error)))
        else:
            looked.append(("reading", f"{len(pool):,} examples, once", time.perf_counter() - start))
            _compare(pool, run, looked)
    found += _named_by_data_set(splits, found)
    if task_kind is not None:
        try:
            parse_component("task", task_kind, "task").build().bind(replace(splits))
        except DataError as error:
            found.append(Finding("error", "task", str(error)))
    found += _share_findings(splits)
    checked.findings = worst_first(found)
    return checked


def _compare(
    pool: Pool, run: Callable[[str, str, Callable[[], list[Finding]]], None], looked: list[tuple[str, str, float]]
) -> None:
    """The checks that look at every example, as far as they apply."""
    run("exact copies", f"{len(pool):,} examples", lambda: exact_copy_findings(pool))
    if pool.pictures is not None:
        run("values of pixels", f"{len(pool):,} pictures", lambda: value_range_findings(pool))
        run("near copies", f"{len(pool):,} pictures", lambda: near_copy_findings(pool))
        if files_of(pool) is not None:
            run("sizes, modes, formats", f"{len(pool):,} files", lambda: file_findings(pool))
    if pool.texts is not None:
        run("texts, near copies", f"{len(pool):,} texts", lambda: text_findings(pool))
    if pool.table:
        columns = sum(pool.table[key].shape[1] for key in ("numeric", "categories") if key in pool.table)
        run("columns", f"{columns} columns, {len(pool):,} rows", lambda: table_findings(pool))
    if pool.pictures is None and pool.texts is None and not pool.table:
        run("nodes and edges", "where examples are nodes of a graph", lambda: graph_findings(pool))
    start = time.perf_counter()
    features = pool.features
    if pool.labels is not None and pool.texts is not None:
        features = text_features([plain(pool.texts[i]) for i in pool.judged.tolist()])
    elif pool.labels is not None and features is None and pool.table:
        features = table_features(pool.table, pool.judged)
    suspects, told = label_findings(pool, features)
    run("wrong labels", told, lambda: suspects)
    looked[-1] = (*looked[-1][:2], time.perf_counter() - start)


def _named_by_data_set(splits: Splits, found: list[Finding]) -> list[Finding]:
    """What the data set itself warned of, less what a check found out about the same column."""
    columns = [f.message.split(" ", 2)[1] for f in found if f.message.startswith("Column '")]
    same = tuple(f"Column {name} {what}" for name in columns for what in ("may give the target", "has another whole"))
    return [Finding("warning", "data_set", text) for text in splits.warnings if not text.startswith(same or ("\0",))]


def _share_findings(splits: Splits) -> list[Finding]:
    """How many examples there are, of each class and in each part."""
    found: list[Finding] = []
    if splits.train is not None:
        labels = splits.train.labels()
        names = splits.class_names or []
        if labels is not None and len(labels) and 0 <= int(labels.min()) <= int(labels.max()) < len(names):
            counts = labels.bincount(minlength=len(names)).tolist()
            if few := [(name, n) for name, n in zip(names, counts, strict=False) if 0 < n < _FEW_A_CLASS]:
                shown = ", ".join(f"{name!r} ({n})" for name, n in few[:5])
                message = f"{len(few)} classes have under {_FEW_A_CLASS} training examples: {shown}."
                found.append(Finding("note", "few_a_class", message))
            for part in ("val", "test"):
                examples = getattr(splits, part)
                other = None if examples is None else examples.labels()
                if other is None or min(len(other), len(labels)) < _LEAST_COMPARED:
                    continue
                if not 0 <= int(other.min()) <= int(other.max()) < len(names):
                    continue
                shares = other.bincount(minlength=len(names)).double() / len(other)
                moved = shares - labels.bincount(minlength=len(names)).double() / len(labels)
                if float(moved.abs().sum()) / 2 > _SHARE_MOVED:
                    most = int(moved.abs().argmax())
                    message = (
                        f"Classes have other shares in {part} than in train: {names[most]!r} is {shares[most]:.0%} of "
                        f"{part} and {shares[most] - moved[most]:.0%} of train."
                    )
                    found.append(Finding("note", "class_shares", message))
        if 0 < len(splits.train) < _FEW:
            found.append(Finding("note", "few_examples", f"There are only {len(splits.train)} training examples."))
    if splits.val is None:
        found.append(Finding("note", "no_val", "There is no validation part: nothing selects weights or stops early."))
    if splits.test is None:
        message = (
            "There is no test part: figures come from the validation part, which also selects the weights. "
            "data.test=0.1 sets one aside."
        )
        found.append(Finding("note", "no_test", message))
    return found


def check_data(
    target: str, overrides: Iterable[tuple[str, Any]] = (), *, out: Path | None = None
) -> list[dict[str, Any]]:
    """Findings on the data of a recipe, or of a data set by name, with overrides (`data.root=...`).

    Args:
        out: a file for the page with examples; None writes none.

    Returns:
        `{"level": "error" | "warning" | "note", "code": ..., "message": ..., "examples": [...], "lines": [...]}`, worst
        first; see `Checked.rows`.

    Raises:
        ConfigError: neither a recipe nor a data set, or a recipe without data.
        StorageError: the page cannot be written.
    """
    named = target in discovery.recipe_modules()
    if named:
        tree = to_tree(load_recipe(target))
    else:
        discovery.spec("data", target)
        tree = {**to_tree(load_recipe("lenet5")), "data": {"name": target}}
    recipe: Recipe = parse(Recipe, apply_overrides(tree, list(overrides), []), trust=True)
    if recipe.data is None:
        raise ConfigError(f"{target} makes its own data: there is nothing to check.")
    root = getattr(recipe.data.config, "root", None)
    name = target if root is None else f"{root} ({recipe.data.name})"
    checked = _load_and_examine(recipe.data, recipe.seed, recipe.task.name if named else None, name)
    if out is not None:
        from layerwise.api.check_page import write_page

        write_page(checked, out)
    return checked.rows()


def _load_and_examine(data: Component, seed: int, task_kind: str | None, name: str) -> Checked:
    """Unreadable files do not keep the others from being looked at."""
    stops = getattr(data.config, "on_error", None) == "error"
    try:
        splits = load(data.with_options(on_error="skip") if stops else data)
        unreadable: list[str] = splits.extras.get("unreadable", [])
        if unreadable:  # told below, file by file
            splits.warnings = [text for text in splits.warnings if unreadable[0] not in text]
        splits = parted(splits, data, seed)
    except DataError as error:
        return Checked(name, [Finding("error", "unreadable", str(error))])
    checked = examine(splits, task_kind, name)
    if unreadable:
        remedy = "Remove or mend them, or leave them out with data.on_error=skip." if stops else "They are left out."
        count = "1 file" if len(unreadable) == 1 else f"{len(unreadable):,} files"
        message = f"{count} cannot be read. {remedy}"
        level = "error" if stops else "warning"
        checked.findings.insert(0, Finding(level, "unreadable", message, lines=tuple(unreadable)))
        checked.findings = worst_first(checked.findings)
    return checked
