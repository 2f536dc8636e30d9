"""The process that fits classical methods: scikit-learn alone, since its wheels bring a second OpenMP.

`python -m layerwise.tasks.fit_baselines FOLDER` reads `job.json` and arrays from the folder and prints one JSON line a
method as it ends. `tasks/baselines.py` writes the folder and reads the lines.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LINEAR_STEPS = 200
_MOST_CATEGORIES = 255  # of a column that gradient boosting takes as categories


def main(folder: Path) -> None:
    """Fit and read every method of the job."""
    from layerwise.parallel.launch import die_with_parent

    die_with_parent()
    warnings.simplefilter("ignore")  # what they would say (no convergence) is in the rows
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    words: dict[str, Any] = {}
    y, y_test = np.load(folder / "y.npy"), np.load(folder / "y_test.npy")
    for method in job["methods"]:
        if method["features"] == "SIFT" and not words:
            words = _visual_words(folder, job["seed"])
        x, x_test = _inputs(folder, method["features"], "x"), _inputs(folder, method["features"], "x_test")
        rows = np.load(folder / "rows.npy") if method["subsample"] else None
        model = estimator(method, job)
        some_x, some_y = (x, y) if rows is None else (_rows(x, rows), y[rows])
        began = time.perf_counter()
        model.fit(some_x, some_y)
        fitted = time.perf_counter()
        guesses = model.predict(x_test)
        spent = time.perf_counter() - fitted
        row: dict[str, Any] = {
            "name": method["name"],
            "fit_s": fitted - began,
            "predict_ms": 1000 * spent / len(y_test),
            "size_bytes": held_bytes(model),
            "trained_on": len(some_y),
            "note": _stopped(model),
        }
        if method["features"] == "SIFT":
            row |= {key: row[key] + more for key, more in words.items()}
        row |= _errors(guesses, y_test) if job["regression"] else _shares(model, guesses, x_test, y_test)
        if job["kind"] == "table" and not job["regression"] and set(y_test) <= set(model.classes_):
            row["metrics"]["loss"] = _cross_entropy(model, x_test, y_test)
        print(json.dumps(row), flush=True)


def _visual_words(folder: Path, seed: int) -> dict[str, Any]:
    """Turn SIFT's pictures into bags of words, and tell what a row that learns from these takes besides."""
    from layerwise.tasks.visual_words import bags, sift_descriptors, vocabulary

    began = time.perf_counter()
    found = sift_descriptors(np.load(folder / "SIFT.x.npy", mmap_mode="r"))
    try:
        words = vocabulary(found, seed)
    except ValueError as error:  # the last line of stderr is what a person reads
        raise SystemExit(str(error)) from error
    np.save(folder / "bags.x.npy", bags(found, words))
    fitted = time.perf_counter()
    held_out = bags(sift_descriptors(np.load(folder / "SIFT.x_test.npy", mmap_mode="r")), words)
    spent = time.perf_counter() - fitted
    np.save(folder / "bags.x_test.npy", held_out)
    return {"fit_s": fitted - began, "predict_ms": 1000 * spent / len(held_out), "size_bytes": words.nbytes}


def held_bytes(model: Any) -> int:
    """Bytes of the arrays, numbers and words that a fitted estimator holds; what is held twice counts once."""
    seen: dict[int, Any] = {}  # keeps what it has counted: an address must not be given away

    def of(value: Any) -> int:
        if value is None or isinstance(value, type) or id(value) in seen:
            return 0
        seen[id(value)] = value
        if isinstance(value, np.ndarray) and value.dtype != object:
            return value.nbytes
        if isinstance(value, (bool, int, float, np.generic)):
            return 8
        if isinstance(value, (str, bytes)):
            return len(value)
        if isinstance(value, dict):
            return sum(of(key) + of(held) for key, held in value.items())
        if isinstance(value, (list, tuple, set, np.ndarray)):
            return sum(map(of, value))
        return of(value.__getstate__())  # trees keep their arrays out of sight

    return of(model)


def _inputs(folder: Path, features: str, name: str) -> Any:
    """Arrays as float32, texts as a list."""
    if features == "SIFT":
        return np.load(folder / f"bags.{name}.npy")
    path = folder / f"{features}.{name}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    held = np.load(folder / f"{features}.{name}.npy")
    return held.astype(np.float32) / 255 if held.dtype == np.uint8 else held


def _rows(x: Any, rows: NDArray[np.int64]) -> Any:
    return [x[i] for i in rows] if isinstance(x, list) else x[rows]


def _shares(model: Any, guesses: Any, x_test: Any, y_test: NDArray[np.int64]) -> dict[str, Any]:
    from sklearn.metrics import f1_score, roc_auc_score

    correct = int((guesses == y_test).sum())
    metrics = {
        "accuracy": correct / len(y_test),
        "macro_f1": float(f1_score(y_test, guesses, labels=np.unique(y_test), average="macro")),
    }
    if len(model.classes_) == 2 and len(np.unique(y_test)) == 2:
        scores = model.decision_function(x_test) if hasattr(model, "decision_function") else None
        metrics["auc"] = float(
            roc_auc_score(y_test == model.classes_[1], model.predict_proba(x_test)[:, 1] if scores is None else scores)
        )
    return {"correct": correct, "count": len(y_test), "value": metrics["accuracy"], "metrics": metrics}


def _cross_entropy(model: Any, x_test: Any, y_test: NDArray[np.int64]) -> float:
    """Mean of -log p of the true class; a probability of zero counts as the smallest difference of float64 from one."""
    p = model.predict_proba(x_test)[np.arange(len(y_test)), np.searchsorted(model.classes_, y_test)]
    return float(-np.log(np.maximum(p, np.finfo(np.float64).eps)).mean())


def _errors(guesses: Any, y_test: NDArray[np.float64]) -> dict[str, Any]:
    from sklearn.metrics import r2_score

    wrong = np.asarray(guesses, np.float64) - y_test
    metrics = {
        "r2": float(r2_score(y_test, guesses)),
        "rmse": float(np.sqrt(np.mean(wrong**2))),
        "mae": float(np.mean(np.abs(wrong))),
    }
    return {"count": len(y_test), "value": metrics["r2"], "metrics": metrics}


def _stopped(model: Any) -> str:
    """Whether an iterative method was stopped before it converged."""
    last = getattr(model, "steps", [("", model)])[-1][1]
    most = getattr(last, "max_iter", -1)  # -1: no limit; boosting's trees are no steps towards a minimum
    if most > 0 and "Boosting" not in type(last).__name__ and int(np.max(last.n_iter_)) >= most:
        return f"stopped after {most} steps"
    return ""


# ---------------------------------------------------------------------------------------------------------- estimators


def estimator(method: dict[str, Any], job: dict[str, Any]) -> Any:
    """An estimator of scikit-learn, by the features' kind and the method's name.

    Args:
        method: `features` and `method`.
        job: `kind`, `regression`, `seed`, `threads`, and of tables `numeric` and `category_sizes`.
    """
    if job["kind"] == "table":
        return _of_tables(method["method"], job)
    if job["kind"] == "text":
        return _of_texts(method["features"], method["method"], job["seed"])
    return _of_vectors(method["method"], job)


def _of_vectors(name: str, job: dict[str, Any]) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if name == "SVM":
        return SVC(kernel="rbf", C=10.0, gamma="scale", cache_size=500, random_state=job["seed"])
    if name == "random forest":
        forest = RandomForestRegressor if job["regression"] else RandomForestClassifier
        return forest(n_estimators=100, n_jobs=job["threads"], random_state=job["seed"])
    if name == "ridge":
        return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13)))
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=_LINEAR_STEPS))


def _of_texts(features: str, name: str, seed: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    if features == "words":
        vectors = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]", max_features=500_000
        )
    else:
        vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=500_000)
    if name == "SVM":
        return make_pipeline(vectors, LinearSVC(C=0.5, random_state=seed))
    return make_pipeline(vectors, LogisticRegression(C=10.0, max_iter=_LINEAR_STEPS))


def _of_tables(name: str, job: dict[str, Any]) -> Any:
    """Columns are the numbers, NaN where a value is missing, then the categories' indices."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = list(range(job["numeric"]))
    categories = [job["numeric"] + i for i in range(len(job["category_sizes"]))]
    if name == "random forest":
        forest = RandomForestRegressor if job["regression"] else RandomForestClassifier
        return forest(n_estimators=200, min_samples_leaf=2, n_jobs=job["threads"], random_state=job["seed"])
    if name == "gradient boosting":
        sizes = zip(categories, job["category_sizes"], strict=True)
        few: Any = [place for place, size in sizes if size <= _MOST_CATEGORIES]
        boosting = HistGradientBoostingRegressor if job["regression"] else HistGradientBoostingClassifier
        return boosting(
            max_iter=200,
            categorical_features=few,
            early_stopping=job["early_stopping"],
            random_state=job["seed"],
        )
    filled = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
    )
    parts: list[Any] = []
    if numbers:
        parts.append(("numbers", filled, numbers))
    if categories:
        parts.append(("categories", OneHotEncoder(handle_unknown="ignore", dtype=np.float64), categories))
    last = RidgeCV(np.logspace(-2, 4, 13)) if job["regression"] else LogisticRegression(max_iter=1000)
    return make_pipeline(ColumnTransformer(parts), last)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
