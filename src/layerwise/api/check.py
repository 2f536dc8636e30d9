"""The verb `check`: look for defects in data before training on it."""

from collections.abc import Iterable
from typing import Any

from layerwise.api.configure import load_recipe
from layerwise.core import discovery
from layerwise.core.config import apply_overrides, parse, parse_component, to_tree
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.checks import Finding, findings
from layerwise.data.examples import Splits
from layerwise.data.splits import load, parted
from layerwise.train.recipe import Recipe

_FEW_A_CLASS = 10
_FEW = 50


def check(splits: Splits, task_kind: str | None = None) -> list[Finding]:
    """What is wrong with splits for a task, worst first.

    Args:
        splits: with their validation and test parts.
        task_kind: name of a task component; None checks the data alone.
    """
    found = findings(splits)
    found += [Finding("warning", "data_set", text) for text in splits.warnings]
    if task_kind is not None:
        try:
            parse_component("task", task_kind, "task").build().bind(splits)
        except DataError as error:
            found.append(Finding("error", "task", str(error)))
    if splits.train is not None:
        labels = splits.train.labels()
        if labels is not None and len(labels) and splits.class_names and int(labels.min()) >= 0:
            counts = labels.bincount(minlength=len(splits.class_names)).tolist()
            if few := [(name, n) for name, n in zip(splits.class_names, counts, strict=False) if 0 < n < _FEW_A_CLASS]:
                shown = ", ".join(f"{name!r} ({n})" for name, n in few[:5])
                found.append(
                    Finding(
                        "note",
                        "few_a_class",
                        f"{len(few)} classes have under {_FEW_A_CLASS} training examples: {shown}.",
                    )
                )
        if len(splits.train) < _FEW:
            found.append(Finding("note", "few_examples", f"There are only {len(splits.train)} training examples."))
    if splits.val is None:
        found.append(Finding("note", "no_val", "There is no validation part: nothing selects weights or stops early."))
    if splits.test is None:
        message = (
            "There is no test part: figures come from the validation part, which also selects the weights. "
            "data.test=0.1 sets one aside."
        )
        found.append(Finding("note", "no_test", message))
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def check_data(target: str, overrides: Iterable[tuple[str, Any]] = ()) -> list[dict[str, str]]:
    """Findings on the data of a recipe, or of a data set by name, with overrides (`data.root=...`).

    Returns:
        `{"level": "error" | "warning" | "note", "code": ..., "message": ...}`, worst first.

    Raises:
        ConfigError: neither a recipe nor a data set, or a recipe without data.
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
    try:
        splits = parted(load(recipe.data), recipe.data, recipe.seed)
    except DataError as error:
        return [{"level": "error", "code": "unreadable", "message": str(error)}]
    return [
        {"level": f.level, "code": f.code, "message": f.message}
        for f in check(splits, recipe.task.name if named else None)
    ]
