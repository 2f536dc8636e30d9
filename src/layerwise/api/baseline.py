"""The verb `baseline`: classical methods on the same split as the network."""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from layerwise.api.configure import load_recipe
from layerwise.api.networks import Training, network_row
from layerwise.core import discovery
from layerwise.core.config import Component, apply_overrides, parse, to_tree
from layerwise.core.console import Console
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.data.examples import Splits
from layerwise.data.splits import prepare
from layerwise.tasks import baselines
from layerwise.tasks.base import wilson_interval
from layerwise.tasks.baselines import Row
from layerwise.train.recipe import Recipe

# What comes with every report must not cost more than the training: within these limits it takes seconds.
_CHEAP_EXAMPLES = {"picture": 5_000, "table": 50_000, "text": 10_000}
_CHEAP_VALUES = {"picture": 200_000_000, "table": 2_000_000, "text": 2_000_000}  # pixels, cells, characters of train
_CHEAP_KERNEL = 5_000_000_000  # pairs of examples times the pixels that are compared
_BESIDE_GREY = ("pixels + svm", "hog + svm", "pixels + random forest")
_BESIDE_NUMBERS = ("pixels + ridge", "hog + ridge", "pixels + random forest")  # pictures with a number each
_BESIDE = {"picture": ("svm", "random forest"), "table": None, "text": ("words",)}


def data_of(target: str, overrides: Iterable[tuple[str, Any]]) -> tuple[Splits, int]:
    """Splits and seed of a recipe's or a named data set's data with overrides (`data.root=...`).

    Raises:
        ConfigError: neither a recipe nor a data set, or one without data.
    """
    changes = list(overrides)
    data, seed = _data_component(target, changes)
    return prepare(data if any(key == "data.size" for key, _ in changes) else as_it_is(data), seed), seed


def _data_component(target: str, changes: Sequence[tuple[str, Any]]) -> tuple[Component, int]:
    if target in discovery.recipe_modules():
        tree = to_tree(load_recipe(target))
    else:
        if target not in discovery.catalogue("data") and target in discovery.catalogue("model"):
            raise ConfigError(f"{target} is a model: name the data set that it is trained on, or a recipe.")
        discovery.spec("data", target)
        tree = {**to_tree(load_recipe("lenet5")), "data": {"name": target}}
    recipe: Recipe = parse(Recipe, apply_overrides(tree, changes, []), trust=True)
    if recipe.data is None:
        raise ConfigError(f"{target} makes its own data: there is nothing to compare on.")
    return recipe.data, recipe.seed


def as_it_is(data: Component) -> Component:
    """The data without what only a network needs: digits that a recipe enlarged, in their own 8 x 8 pixels."""
    return data.with_options(size=None) if data.name == "digits" else data


def is_cheap(splits: Splits) -> bool:
    """Whether the comparison takes a few seconds, so that every training may show it."""
    import torch

    train, test = splits.train, splits.test
    if train is None or test is None:
        return False
    first = train.collate(torch.tensor([0]))
    target = first.get("labels", first.get("target"))
    try:
        kind = baselines.kind_of(train)
    except UnsupportedError:
        return False
    count = len(train)
    if target is None or target.numel() != 1 or count > _CHEAP_EXAMPLES[kind] or train.decodes:
        return False
    if train.texts is not None:
        return target.dtype == torch.int64 and sum(map(len, train.texts)) <= _CHEAP_VALUES[kind]
    if kind == "picture" and count**2 * baselines.pixels_compared(first["image"]) > _CHEAP_KERNEL:
        return False
    return count * sum(column.numel() for column in first.values()) <= _CHEAP_VALUES[kind]


def beside(
    data: Component, splits: Splits, seed: int, metric: str, info: Callable[[str], None] = lambda text: None
) -> list[Row]:
    """Rows for a network's report, best first; none where the comparison takes long or has no such metric.

    Args:
        data: what the splits were made of.
        metric: the network's headline: `value` of a row is that method's.
        info: told that it takes a moment.
    """
    import torch

    if not is_cheap(splits):
        return []
    assert splits.train is not None
    kind = baselines.kind_of(splits.train)
    first = splits.train.collate(torch.tensor([0]))
    if metric not in baselines.metrics_of(kind, "labels" not in first):
        return []
    words = _BESIDE[kind]
    if kind == "picture" and "labels" not in first:
        words = _BESIDE_NUMBERS
    elif kind == "picture" and first["image"].shape[1] == 1:
        words = _BESIDE_GREY
    info("comparing with classical methods on the same split ...")
    original = as_it_is(data)
    rows = compare(splits if original is data else prepare(original, seed), seed, words)
    rows = [row for row in rows if metric in row["metrics"]]
    for row in rows:
        row |= {"value": row["metrics"][metric], "interval": row["interval"] if metric == row["metric"] else None}
        row["line"] = table_line(row["name"], row["value"], row["interval"], row["fit_s"], row["predict_ms"])
    return sorted(rows, key=lambda row: row["value"], reverse=metric not in ("loss", "rmse", "mae"))


def compare(
    splits: Splits,
    seed: int,
    methods: Iterable[str] | None = None,
    *,
    most: int = 10_000,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Rows of the comparison on the test part (validation where there is none).

    Args:
        methods: words of the methods' names; None takes all.
        most: training examples of methods whose time grows with their square; 0 takes all.
        on_row: called with each row as it is there.

    Returns:
        For each method: name, value (accuracy, or R2), interval (95 %; None for R2), fit_s, predict_ms, line, and what
        `tasks.baselines.run` gives besides, best first.

    Raises:
        UnsupportedError: there are no classical methods for this data.
    """
    part = "test" if splits.test is not None else "val"
    test = splits.test if splits.test is not None else splits.val
    if splits.train is None or test is None:
        raise UnsupportedError(
            "The comparison needs a training and a test part: leave data.test=0 or data.val=0 out, or give more data."
        )

    def finish(row: Row) -> None:
        count = row["count"]
        row["interval"] = list(wilson_interval(row["correct"], count)) if "correct" in row else None
        row |= {"metric": "accuracy" if "correct" in row else "r2", "part": part, "train_examples": len(train)}
        row["line"] = table_line(row["name"], row["value"], row["interval"], row["fit_s"], row["predict_ms"])
        on_row(row)

    train = splits.train
    rows = baselines.run(train, test, seed=seed, methods=methods, most=most, on_row=finish)
    return sorted(rows, key=lambda row: -row["value"])


def table_line(name: str, value: float, interval: Any, fit_s: float | None, predict_ms: float | None) -> str:
    """One row of the table in text."""
    between = f"[{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
    fit = f"{fit_s:8.1f} s to train" if fit_s is not None else ""
    predict = f"{predict_ms:8.3f} ms to predict" if predict_ms is not None else ""
    return f"{name:32} {value:.4f}  {between:18} {fit} {predict}".rstrip()


def format_table(rows: list[Row]) -> list[str]:
    """Lines of the whole table: a heading, one method a line, columns aligned."""
    names = {"accuracy": "accuracy", "auc": "AUC", "r2": "R2", "rmse": "RMSE", "mae": "MAE"}
    shown = [name for name in names if any(name in row["metrics"] for row in rows)]
    sized = any("run" in row for row in rows)  # a network beside them
    if shown and rows[0]["metric"] == "accuracy":
        shown.insert(1, "interval")
    head = [
        "method",
        *("95 % interval" if name == "interval" else names[name] for name in shown),
        "to train",
        "an example",
        *(["size"] if sized else []),
        "",
    ]
    cells = [head]
    for row in rows:
        values: list[str] = []
        for name in shown:
            if name == "interval":
                values.append(f"{row['interval'][0]:.4f} to {row['interval'][1]:.4f}")
            elif name in row["metrics"]:
                share = name not in ("rmse", "mae")
                values.append(f"{row['metrics'][name]:.4f}" if share else f"{row['metrics'][name]:.4g}")
            else:
                values.append("")
        size = [f"{row['size_bytes'] / 1e6:.2f} MB"] if sized else []
        cells.append([row["name"], *values, f"{row['fit_s']:.2f} s", f"{row['predict_ms']:.3f} ms", *size, row["note"]])
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    last = len(head) - 1
    return [
        "  ".join(
            cell.ljust(width) if i in (0, last) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def baseline(
    target: str,
    overrides: Iterable[tuple[str, Any]] = (),
    *,
    methods: Iterable[str] | None = None,
    most: int = 10_000,
    networks: Iterable[str] = (),
    runs: str | Path | None = None,
    info: Callable[[str], None] = lambda text: None,
    console: Console | None = None,
) -> list[Row]:
    """Classical methods, and networks if asked for, on a recipe's or data set's split, best first; see `compare`.

    Args:
        target: a recipe or a data set.
        overrides: dotted options and values.
        methods, most: see `compare`.
        networks: for each what a person writes after `layerwise train`, a recipe or model with overrides:
            `"image_fine_tuning init=./checkpoint epochs=5"`. Data, split and seed are the classical methods'.
        runs: folder for the networks' runs, each named after its recipe; one that is there already goes on, or gives
            its row. None keeps no run.
        info: told what the data is, and each method as it ends.
        console: shows trainings whose runs are kept; None shows warnings only.

    Returns:
        See `compare`. A network's row has `run`, its directory, besides: see `networks.network_row`.

    Raises:
        ConfigError: see `networks.Training`; `runs` without a network.
    """
    overrides = list(overrides)
    trainings: list[Training] = []
    for words in networks:
        trainings.append(Training.of(words, *_data_component(target, overrides), overrides, trainings))
    if runs is not None and not trainings:
        raise ConfigError(f"runs={runs} has no effect without a network to train.")
    splits, seed = data_of(target, overrides)
    for warning in splits.warnings:
        info(warning)
    parts = [
        f"{len(examples):,} {name}"
        for name, examples in (("training", splits.train), ("validation", splits.val), ("test", splits.test))
        if examples is not None
    ]
    info(f"{target}: {', '.join(parts)} examples")

    def tell(row: Row) -> None:
        info(f"{row['name']}: {row['value']:.4f} after {row['fit_s']:.1f} s")

    rows = compare(splits, seed, methods, most=most, on_row=tell)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if runs is None else runs)
        for training in trainings:
            info(f"training {training.words} ...")
            shown = console if console is not None and runs is not None else Console(quiet=True)
            row = network_row(training, folder / training.folder, rows[0], shown)
            row["line"] = table_line(row["name"], row["value"], row["interval"], row["fit_s"], row["predict_ms"])
            if runs is None:
                row["run"] = None
            tell(row)
            rows.append(row)
    return sorted(rows, key=lambda row: -row["value"])
