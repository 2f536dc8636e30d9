"""Classical methods on a task's own split, in a process of their own: scikit-learn's wheels bring a second OpenMP.

Run as a module it reads arrays from a file and prints one JSON list; `run` starts it so.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from layerwise.core.errors import UnsupportedError

CLASSIFIERS = ("svm", "random forest", "logistic regression", "gradient boosting")
REGRESSORS = ("ridge", "random forest", "gradient boosting")


def run(
    arrays: dict[str, Any], methods: tuple[str, ...], *, regression: bool = False, seed: int = 0, threads: int = 2
) -> list[dict[str, Any]]:
    """Fit each method on `x`, `y` and read it on `x_test`, `y_test`.

    Args:
        arrays: numpy arrays; x [N, F] float, y [N].
        methods: of `CLASSIFIERS` or `REGRESSORS`.

    Returns:
        For each method: name, value (accuracy, or R2), correct and count (classification), fit_s, predict_ms (an
            example).
    """
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        numpy.savez(path, **arrays)
        command = [
            sys.executable,
            "-m",
            "layerwise.tasks.baselines",
            str(path),
            json.dumps([list(methods), regression, seed, threads]),
        ]
        source = str(Path(__file__).resolve().parents[2])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")])),
        }
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise UnsupportedError(f"The classical methods could not be run: {last[0]}")
    return json.loads(done.stdout)


def _estimator(name: str, regression: bool, seed: int, threads: int) -> Any:
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if regression:
        return {
            "ridge": lambda: make_pipeline(StandardScaler(), RidgeCV()),
            "random forest": lambda: RandomForestRegressor(n_estimators=200, n_jobs=threads, random_state=seed),
            "gradient boosting": lambda: HistGradientBoostingRegressor(random_state=seed),
        }[name]()
    return {
        "svm": lambda: SVC(kernel="rbf", C=10.0, gamma="scale", random_state=seed),
        "random forest": lambda: RandomForestClassifier(n_estimators=300, n_jobs=threads, random_state=seed),
        "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "gradient boosting": lambda: HistGradientBoostingClassifier(random_state=seed),
    }[name]()


def _main(path: str, options: str) -> None:
    import numpy

    methods, regression, seed, threads = json.loads(options)
    with numpy.load(path, allow_pickle=False) as arrays:
        x, y, x_test, y_test = (arrays[name] for name in ("x", "y", "x_test", "y_test"))
    rows = []
    for name in methods:
        estimator = _estimator(name, regression, seed, threads)
        began = time.perf_counter()
        estimator.fit(x, y)
        fitted = time.perf_counter()
        guesses = estimator.predict(x_test)
        spent = time.perf_counter() - fitted
        row = {"name": name, "fit_s": fitted - began, "predict_ms": 1000 * spent / len(x_test), "count": len(y_test)}
        if regression:
            from sklearn.metrics import r2_score

            row["value"] = float(r2_score(y_test, guesses))
        else:
            right = int((guesses == y_test).sum())
            row |= {"value": right / len(y_test), "correct": right}
        rows.append(row)
    print(json.dumps(rows))


if __name__ == "__main__":
    _main(*sys.argv[1:])
