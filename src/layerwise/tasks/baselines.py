"""Classical methods on a task's own split: what they are for pictures, tables and texts, and what they reach.

The methods are scikit-learn's and run in a process of their own (`tasks/fit_baselines.py`).
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import ConfigError, DataError, MissingExtraError, UnsupportedError
from layerwise.data.examples import Batch, Examples
from layerwise.data.splits import stratified_split
from layerwise.ops.descriptors import color_histogram, hog

Kind = Literal["picture", "table", "text"]
Row = dict[str, Any]

_METRICS = ("accuracy", "macro_f1", "auc")  # auc: of two classes
_METRICS_NUMBER = ("r2", "rmse", "mae")
_LARGEST_PIXELS, _LARGEST_HOG, _LARGEST_SIFT = 32, 64, 128  # sides that pictures are made smaller to
_LUMA = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601)
_CHUNK_VALUES = 1 << 23
_BINS = {1: 64, 3: 8}  # of a histogram, by the number of channels
_EARLY_STOPPING_FROM = 10_000  # examples


@dataclass(frozen=True)
class Method:
    """A classical method on some features.

    Args:
        features: "pixels", "HOG", "histogram", "SIFT"; "columns" of a table; "words", "characters".
        method: the estimator.
        settings: what a reader should know of both.
        asked: taken only where a word names the features: they need more than this package does, or much time.
    """

    features: str
    method: str
    settings: str
    asked: bool = False

    @property
    def name(self) -> str:
        """What it is called in rows and by `--methods`."""
        return self.method if self.features == "columns" else f"{self.features} + {self.method}"


_OF_VECTORS = {
    "SVM": "RBF kernel, C = 10, gamma = 1 / (features x variance)",
    "logistic regression": "standardised features, L2 penalty, C = 1",
    "random forest": "100 trees",
}
_OF_VECTORS_NUMBER = {"ridge": "standardised features, penalty by leave-one-out", "random forest": "100 trees"}
_OF_WORDS = "bag of 256 visual words by k-means"
_OF_TEXTS = {
    "logistic regression": "TF-IDF, L2 penalty, C = 10",
    "SVM": "TF-IDF, linear kernel, C = 0.5",
}
_OF_TABLES = {
    "logistic regression": "one-hot categories, medians and indicators for missing numbers, L2 penalty, C = 1",
    "random forest": "200 trees with two or more rows a leaf, categories as numbers",
    "gradient boosting": "200 trees at most, learning rate 0.1, categories as such",
}
_OF_TABLES_NUMBER = {
    "ridge": "one-hot categories, medians and indicators for missing numbers, penalty by leave-one-out",
    **{name: _OF_TABLES[name] for name in ("random forest", "gradient boosting")},
}


def methods_of(kind: Kind, regression: bool) -> tuple[Method, ...]:
    """Every method for a kind of data."""
    if kind == "table":
        return tuple(Method("columns", *each) for each in (_OF_TABLES_NUMBER if regression else _OF_TABLES).items())
    if kind == "text":
        return tuple(Method(features, *each) for features in ("words", "characters") for each in _OF_TEXTS.items())
    found = (_OF_VECTORS_NUMBER if regression else _OF_VECTORS).items()
    plain = (Method(features, *each) for features in ("pixels", "HOG", "histogram") for each in found)
    return (*plain, *(Method("SIFT", name, f"{_OF_WORDS}; {settings}", asked=True) for name, settings in found))


def metrics_of(kind: Kind, regression: bool) -> tuple[str, ...]:
    """Names that rows may have metrics by; `loss` is the mean cross-entropy."""
    return _METRICS_NUMBER if regression else (*_METRICS, *(("loss",) if kind == "table" else ()))


def choose(methods: Sequence[Method], wanted: Iterable[str] | None) -> tuple[Method, ...]:
    """The methods whose name has one of the words in it, upper or lower case; for None all but those to be asked for.

    Raises:
        ConfigError: a word that is in no name.
    """
    if wanted is None:
        return tuple(method for method in methods if not method.asked)
    words = [word.strip().lower() for word in wanted if word.strip()]
    names = [method.name for method in methods]
    for word in words:
        if not any(word in name.lower() for name in names):
            raise ConfigError(
                f"methods={word}: no method on this data has that in its name. Methods: {', '.join(names)}."
            )
    return tuple(
        method
        for method in methods
        if any(word in method.name.lower() and (not method.asked or method.features.lower() in word) for word in words)
    )


# ------------------------------------------------------------------------------------------------------------ features


@dataclass
class Job:
    """One comparison: where the arrays are, and what they mean.

    Args:
        kind: of the data.
        regression: the target is a number.
        methods: to fit, in order.
        fit_s, predict_ms: time that making the features took, by features.
        note: by features, what was done to the data for them.
        tree: what else the process that fits must know.
    """

    kind: Kind
    regression: bool
    methods: tuple[Method, ...]
    fit_s: dict[str, float] = field(default_factory=dict)
    predict_ms: dict[str, float] = field(default_factory=dict)
    note: dict[str, str] = field(default_factory=dict)
    tree: dict[str, Any] = field(default_factory=dict)


def kind_of(examples: Examples) -> Kind:
    """What classical methods take the examples as.

    Raises:
        UnsupportedError: neither pictures nor tables nor texts.
        DataError: there are no examples.
    """
    if not len(examples):
        raise DataError("The training part has no examples.")
    first = examples.collate(torch.tensor([0]))
    if "image" in first and first["image"].dim() == 4:
        return "picture"  # with a caption or without
    if examples.texts is not None:
        return "text"
    if "numeric" in first:
        return "table"
    raise UnsupportedError(f"There are no classical methods for data with columns {', '.join(sorted(first))}.")


def target_of(examples: Examples) -> NDArray[Any]:
    """Classes int64 [N], or numbers float64 [N].

    Raises:
        UnsupportedError: there is no such target.
    """
    labels = examples.labels()
    if labels is not None:
        return labels.numpy()
    parts: list[Tensor] = []
    for ids in torch.arange(len(examples)).split(1024):
        batch = examples.collate(ids)
        target = batch.get("labels", batch.get("target"))
        if target is None or target.reshape(len(ids), -1).shape[1:] != (1,):
            what = "no labels and no target" if target is None else "several targets an example"
            raise UnsupportedError(f"There are no classical methods for this data: it has {what}.")
        parts.append(target.reshape(-1))
    values = torch.cat(parts)
    return values.double().numpy() if values.is_floating_point() else values.numpy()


def run(
    train: Examples,
    test: Examples,
    *,
    seed: int = 0,
    methods: Iterable[str] | None = None,
    most: int = 10_000,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Fit each method on one part and read it on the other.

    Args:
        methods: words of their names; None takes all.
        most: training examples of the kernel SVM, whose time grows with their square: a stratified choice of them where
            there are more. 0 takes all.
        on_row: called with each row as it is there.

    Returns:
        For each method: name, features, method, settings, value (accuracy, or R2), metrics, correct (classes only) and
        count, fit_s, predict_ms (an example), size_bytes (of what a fitted method holds), trained_on, note.

    Raises:
        UnsupportedError: there are no methods for this data, or one could not be run.
        MissingExtraError: SIFT without scikit-image.
    """
    kind, y, y_test = kind_of(train), target_of(train), target_of(test)
    regression = y.dtype.kind == "f"
    if kind == "text" and regression:
        raise UnsupportedError("There are no classical methods for texts with a number to predict.")
    if regression and len(y_test) < 2:
        raise UnsupportedError("R2 needs two or more test examples: set data.test=0.2, or give more data.")
    job = Job(kind, regression, choose(methods_of(kind, regression), methods))
    if any(method.features == "SIFT" for method in job.methods) and importlib.util.find_spec("skimage") is None:
        raise MissingExtraError("scikit-image", "vision", "SIFT")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "y.npy", y)
        np.save(folder / "y_test.npy", y_test)
        subsample = bool(most) and len(y) > most and kind == "picture" and not regression
        if subsample:
            labels = torch.from_numpy(y)
            _, rows = stratified_split(len(y), most / len(y), seed, labels=labels, name="baseline")
            np.save(folder / "rows.npy", rows.numpy())
        _write_features(job, train, test, folder)
        threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        rarest = 0 if regression else int(np.bincount(y)[np.unique(y)].min())
        tree = {
            "kind": kind,
            "regression": regression,
            "seed": seed,
            "threads": threads,
            "early_stopping": len(y) > _EARLY_STOPPING_FROM and (regression or rarest > 1),
            **job.tree,
            "methods": [
                {**asdict(m), "name": m.name, "subsample": subsample and m.method == "SVM"} for m in job.methods
            ],
        }
        (folder / "job.json").write_text(json.dumps(tree), encoding="utf-8")
        return _fit(job, folder, len(y), on_row)


def _write_features(job: Job, train: Examples, test: Examples, folder: Path) -> None:
    wanted = list(dict.fromkeys(method.features for method in job.methods))
    for part, examples in (("x", train), ("x_test", test)):
        if job.kind == "text":
            for features in wanted:
                (folder / f"{features}.{part}.json").write_text(json.dumps(examples.texts), encoding="utf-8")
            spent = dict.fromkeys(wanted, 0.0)
        else:
            made, spent = _gather(examples, {name: _MAKERS[name] for name in wanted})
            for features, values in made.items():
                np.save(folder / f"{features}.{part}.npy", values)
        if part == "x":
            job.fit_s = spent
        else:
            job.predict_ms = {name: 1000 * value / len(examples) for name, value in spent.items()}
    if job.kind == "picture":
        job.note = _picture_notes(train)
    if job.kind == "table":
        first = train.collate(torch.tensor([0]))
        sizes = [_category_sizes(examples) for examples in (train, test)]
        job.tree = {
            "numeric": first["numeric"].shape[1],
            "category_sizes": torch.maximum(*sizes).tolist(),
        }


def _gather(
    examples: Examples, makers: dict[str, Callable[[Batch], Tensor]]
) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Features of all examples [N, F] in one pass, and the seconds that each took, collating (decoding) included."""
    first = examples.collate(torch.tensor([0]))
    values = max(1, sum(column.numel() for column in first.values()))
    parts: dict[str, list[Tensor]] = {name: [] for name in makers}
    spent = dict.fromkeys(makers, 0.0)
    for ids in torch.arange(len(examples)).split(max(1, _CHUNK_VALUES // values)):
        began = time.perf_counter()
        batch = examples.collate(ids)
        collated = time.perf_counter() - began
        for name, make in makers.items():
            began = time.perf_counter()
            parts[name].append(make(batch))
            spent[name] += collated + time.perf_counter() - began
    return {name: torch.cat(each).numpy() for name, each in parts.items()}, spent


def _category_sizes(examples: Examples) -> Tensor:
    """One more than the highest index of each category column."""
    chunks = torch.arange(len(examples)).split(65536)
    return 1 + torch.stack([examples.collate(ids)["categories"].amax(0) for ids in chunks]).amax(0)


def _table(batch: Batch) -> Tensor:
    return torch.cat([batch["numeric"].double(), batch["categories"].double()], dim=1)


def _at_most(image: Tensor, side: int) -> Tensor:
    """Pictures made smaller, so that the longer side is at most so many pixels; uint8."""
    height, width = image.shape[-2:]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    smaller = F.interpolate(image.float(), size, mode="bilinear", antialias=True)
    return smaller.round_().clamp_(0, 255).to(torch.uint8)


def pixels_compared(image: Tensor) -> int:
    """How many numbers `pixels` are of a picture."""
    return _at_most(image[:1], _LARGEST_PIXELS).numel()


def cell_size(height: int, width: int) -> int:
    """Pixels of a HOG cell's side: the customary 8, less in small pictures, so that four cells fit."""
    return max(1, min(8, min(height, width) // 4))


def _pixels(batch: Batch) -> Tensor:
    return _at_most(batch["image"], _LARGEST_PIXELS).flatten(1)


def _hog(batch: Batch) -> Tensor:
    image = _at_most(batch["image"], _LARGEST_HOG)
    if min(image.shape[-2:]) < 2:
        raise UnsupportedError(
            f"Pictures of {image.shape[-2]} x {image.shape[-1]} pixels are too small for HOG. Leave it out: "
            f"--methods pixels,histogram"
        )
    return hog(image, cell_size=cell_size(*image.shape[-2:]))


def _histogram(batch: Batch) -> Tensor:
    return color_histogram(batch["image"], _BINS.get(batch["image"].shape[1], 4))


def _grey(batch: Batch) -> Tensor:
    """Grey pictures [B, H, W], whose SIFT descriptors are found in the other process."""
    image = _at_most(batch["image"], _LARGEST_SIFT)
    if image.shape[1] != len(_LUMA):
        return image.float().mean(1).round_().to(torch.uint8)
    return torch.einsum("bchw,c->bhw", image.float(), torch.tensor(_LUMA)).round_().clamp_(0, 255).to(torch.uint8)


_MAKERS: dict[str, Callable[[Batch], Tensor]] = {
    "columns": _table,
    "pixels": _pixels,
    "HOG": _hog,
    "histogram": _histogram,
    "SIFT": _grey,
}


def _picture_notes(train: Examples) -> dict[str, str]:
    """What pictures were made smaller for."""
    image = train.collate(torch.tensor([0]))["image"]
    notes: dict[str, str] = {}
    for features, side in (("pixels", _LARGEST_PIXELS), ("HOG", _LARGEST_HOG), ("SIFT", _LARGEST_SIFT)):
        if max(image.shape[-2:]) > side:
            height, width = _at_most(image, side).shape[-2:]
            notes[features] = f"at {height} x {width} pixels"
    return notes


# ------------------------------------------------------------------------------------------------------- other process


def _fit(job: Job, folder: Path, examples: int, on_row: Callable[[Row], None]) -> list[Row]:
    source = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "layerwise.tasks.fit_baselines", str(folder)]
    rows: list[Row] = []
    with (folder / "errors").open("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": paths},
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    rows.append(_finished(json.loads(line), job, examples))
                    on_row(rows[-1])
            except BaseException:  # on Ctrl-C nobody waits for the forest
                process.kill()
                raise
        code = process.returncode
        if code:
            errors.seek(0)
            said = errors.read().strip().splitlines()[-1:] or [f"its process ended with {code}"]
            name = job.methods[len(rows)].name if len(rows) < len(job.methods) else "the last method"
            raise UnsupportedError(f"{name} could not be run: {said[0]}. Leave it out with --methods.")
    return rows


def _finished(row: Row, job: Job, examples: int) -> Row:
    """A method's row with what the other process does not know of it."""
    method = next(method for method in job.methods if method.name == row["name"])
    part = f"trained on {row['trained_on']:,} of {examples:,}" if row["trained_on"] < examples else ""
    return {
        **row,
        "features": method.features,
        "method": method.method,
        "settings": method.settings,
        "fit_s": row["fit_s"] + job.fit_s[method.features],
        "predict_ms": row["predict_ms"] + job.predict_ms[method.features],
        "note": "; ".join(filter(None, [part, job.note.get(method.features, ""), row["note"]])),
    }
