"""The verb `baseline`: classical methods on the same split as the network."""

from collections.abc import Iterable
from typing import Any

from layerwise.api.configure import load_recipe
from layerwise.core import discovery
from layerwise.core.config import apply_overrides, parse, to_tree
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.data.examples import Examples, Splits
from layerwise.data.splits import prepare
from layerwise.tasks import baselines
from layerwise.tasks.base import wilson_interval
from layerwise.train.recipe import Recipe

# A table that comes with every report must not cost more than the training: examples x features of the training part.
_CHEAP_VALUES = 2_000_000
_CHEAP_EXAMPLES = 5_000


def data_of(target: str, overrides: Iterable[tuple[str, Any]]) -> tuple[Splits, int]:
    """Splits and seed of a recipe's or a named data set's data with overrides (`data.root=...`).

    Raises:
        ConfigError: neither a recipe nor a data set, or one without data.
    """
    if target in discovery.recipe_modules():
        tree = to_tree(load_recipe(target))
    else:
        discovery.spec("data", target)
        tree = {**to_tree(load_recipe("lenet5")), "data": {"name": target}}
    recipe: Recipe = parse(Recipe, apply_overrides(tree, list(overrides), []), trust=True)
    if recipe.data is None:
        raise ConfigError(f"{target} has no data.")
    return prepare(recipe.data, recipe.seed), recipe.seed


def _arrays(examples: Examples) -> tuple[Any, Any]:
    """Flat features [N, F] and targets [N] of a whole split, as numpy arrays."""
    import torch

    xs, ys = [], []
    for ids in torch.arange(len(examples)).split(1024):
        batch = examples.collate(ids)
        if "image" in batch:
            xs.append(batch["image"].flatten(1).float() / 255)
        elif "numeric" in batch:
            xs.append(torch.cat([torch.nan_to_num(batch["numeric"]).float(), batch["categories"].float()], dim=1))
        else:
            raise UnsupportedError(f"There are no classical methods for data with columns {', '.join(sorted(batch))}.")
        target = batch.get("labels", batch.get("target"))
        if target is None:
            raise UnsupportedError("There are no classical methods for data without labels or a target.")
        ys.append(target.view(-1))
    return torch.cat(xs).numpy(), torch.cat(ys).numpy()


def is_cheap(splits: Splits) -> bool:
    """Whether the comparison takes a few seconds, so that every training may show it."""
    train, test = splits.train, splits.test
    if train is None or test is None or len(train) > _CHEAP_EXAMPLES or train.labels() is None:
        return False
    import torch

    first = train.collate(torch.tensor([0]))
    return "image" in first and first["image"].numel() * len(train) <= _CHEAP_VALUES


def compare(splits: Splits, seed: int, methods: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
    """Rows of the comparison on the test part (validation where there is none): name, value, interval, fit_s,
    predict_ms, line.
    """
    test = splits.test if splits.test is not None else splits.val
    if splits.train is None or test is None:
        raise UnsupportedError("The comparison needs a training and a test part.")
    x, y = _arrays(splits.train)
    x_test, y_test = _arrays(test)
    regression = y.dtype.kind == "f"
    chosen = methods or (baselines.REGRESSORS if regression else baselines.CLASSIFIERS)
    rows = baselines.run({"x": x, "y": y, "x_test": x_test, "y_test": y_test}, chosen, regression=regression, seed=seed)
    for row in rows:
        row["interval"] = None if regression else list(wilson_interval(row["correct"], row["count"]))
        row["line"] = table_line(row["name"], row["value"], row["interval"], row["fit_s"], row["predict_ms"])
    return rows


def table_line(name: str, value: float, interval: Any, fit_s: float | None, predict_ms: float | None) -> str:
    """One row of the table in text."""
    between = f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
    fit = f"{fit_s:8.1f} s to train" if fit_s is not None else ""
    predict = f"{predict_ms:8.3f} ms to predict" if predict_ms is not None else ""
    return f"{name:24} {value:.4f}  {between:18} {fit} {predict}".rstrip()


def baseline(target: str, overrides: Iterable[tuple[str, Any]] = ()) -> list[dict[str, Any]]:
    """Classical methods on a recipe's or data set's split."""
    splits, seed = data_of(target, overrides)
    return compare(splits, seed)
