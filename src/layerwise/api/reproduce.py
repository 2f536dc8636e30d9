"""The verb `reproduce`: a recipe trained as published, over seeds, and its results file."""

import hashlib
import json
import platform
import statistics
from pathlib import Path
from typing import Any

from layerwise.api.configure import configure
from layerwise.api.train import Run, train
from layerwise.core import discovery
from layerwise.core.console import Console
from layerwise.core.errors import ConfigError
from layerwise.interop.layouts import recognise
from layerwise.track import files
from layerwise.track.curves import curves_of, thinned
from layerwise.track.run_directory import RunDirectory, environment

# Without which a distance in a judge's features means nothing.
_JUDGED = "judge", "judge_fingerprint", "judged", "feature_distance_of_training"


def reproduce(
    recipe: str,
    *,
    seeds: int = 1,
    init: str | None = None,
    folder: str | Path = "results",
    runs: str | Path = "runs",
    console: Console | None = None,
) -> Path:
    """Train `recipe` once for each seed and write `folder/recipe.json`: every run's metrics, their median, time, data
    and machine. A run that it starts from (`init=runs/RECIPE`) is trained first where it is not there.

    The runs stay as `runs/RECIPE-seedN-1`. One that was interrupted is gone on with; where the last one was finished,
    or was of another configuration, a new one is made: the code may have changed since.

    Args:
        init: a copy of the checkpoint that the recipe names, on this machine; the results file keeps a hash of its
            weights.

    Returns:
        Path of the results file.

    Raises:
        ConfigError: the recipe starts from no checkpoint, and `init` names one.
    """
    console = console or Console()
    configured = configure(recipe).recipe
    first = configured.seed
    if init is not None and configured.init is None:
        raise ConfigError(f"--init {init}: {recipe} starts from no checkpoint.")
    given: list[tuple[str, Any]] = [] if init is None else [("init", init)]
    if init is None and configured.init is not None and not Path(configured.init).exists():
        before = Path(configured.init).name
        if before in discovery.recipe_modules():
            console.info(f"{recipe} starts from {configured.init}, which is not there: training {before} first.")
            train(before, run=configured.init, console=console)
    rows: list[dict[str, Any]] = []
    data: dict[str, Any] = {}
    for seed in range(first, first + seeds):
        overrides = [("seed", seed), *given]
        directory = _place(runs, recipe, overrides)
        run = train(recipe, overrides, run=str(directory.path), console=console)
        data = files.read_json(directory.data) if directory.data.exists() else {}
        rows.append(_row(seed, run, directory))
    names = sorted({name for row in rows for name in row["metrics"]})
    median = {
        name: statistics.median([row["metrics"][name] for row in rows if name in row["metrics"]]) for name in names
    }
    mean = {name: statistics.fmean([row["metrics"][name] for row in rows if name in row["metrics"]]) for name in names}
    machine = {key: value for key, value in environment().items() if key in ("machine", "python", "versions")}
    tree = {
        "recipe": recipe,
        "median": median,
        "mean": mean,
        "runs": rows,
        "data": data,
        "config": configure(recipe).tree,
        "machine": machine,
        "platform": platform.platform(terse=True),
        "command": f"layerwise reproduce {recipe} --seeds {seeds}" + (" --init DIRECTORY" if init else ""),
    }
    if init is not None:
        tree["init"] = {"named": configured.init, "weights_sha256": _digests(init)}
    path = Path(folder) / f"{recipe}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, tree)
    return path


def _place(folder: str | Path, recipe: str, overrides: list[tuple[str, Any]]) -> RunDirectory:
    """The last run of this recipe and seed in `folder`, if it was not finished and its configuration is the same; else
    a new one.
    """
    configured = configure(recipe, overrides)
    name = f"{recipe}-seed{configured.recipe.seed}"
    last = RunDirectory.last(folder, name)
    if last is None or not last.exists() or last.read_config() != configured.yaml():
        return RunDirectory.next(folder, name)
    return RunDirectory.next(folder, name) if last.status()["status"] == "finished" else last


def _row(seed: int, run: Run, directory: RunDirectory) -> dict[str, Any]:
    """What a results file says of one run."""
    facts = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    return {
        "seed": seed,
        "metrics": run.metrics,
        "intervals": facts["tables"].get("intervals", {}),
        "training_s": round(facts["seconds"], 1),
        "selected_by": facts["selected_by"],
        **{name: facts["tables"][name] for name in _JUDGED if name in facts["tables"]},
        "baselines": facts["baselines"],
        "curves": _curves(directory, facts["headline"]),
    }


def _curves(directory: RunDirectory, headline: str | None) -> dict[str, list[tuple[float, float]]]:
    """Loss and the metric that counts, of training and validation, for `layerwise runs draw`."""
    kept = {"loss", (headline or "").rpartition("/")[2]}
    found = curves_of(directory.metrics_log().read())
    return {
        name: [(step, float(f"{value:.5g}")) for step, value in thinned(points)]
        for name, points in found.items()
        if name.partition("/")[2] in kept
    }


def _digests(source: str) -> list[str]:
    """SHA-256 of each weights file of a checkpoint."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in recognise(source).files]
