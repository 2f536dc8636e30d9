"""Curves of several runs in one picture: training dashed, validation solid, one colour a run. Imports no torch.

A curve comes from a run directory's metrics or from a results file, in which `reproduce` keeps a thinned copy.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerwise.core.errors import ConfigError
from layerwise.core.suggest import did_you_mean
from layerwise.track import files
from layerwise.track.run_directory import RunDirectory

PARTS = ("train", "val")
_KEPT = 60  # points of a curve in a results file
_SMOOTH_FROM = 60  # training curves of as many points are drawn as means of blocks
# Formats, and what keeps the time of drawing out of each, so that the same curves give the same file.
_UNDATED: dict[str, dict[str, Any]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

Points = list[tuple[float, float]]
Curves = dict[str, Points]


@dataclass(frozen=True, kw_only=True)
class Course:
    """One run's curves.

    Args:
        name: what the legend calls it.
        curves: `train/NAME` or `val/NAME` -> (step, value) by step.
    """

    name: str
    curves: Curves


def curves_of(lines: Iterable[Mapping[str, Any]]) -> Curves:
    """Every finite training and validation value of `metrics.jsonl`, by name."""
    found: Curves = {}
    for line in lines:
        for name, value in line.items():
            if name.partition("/")[0] in PARTS and isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(name, []).append((float(line["step"]), float(value)))
    return found


def thinned(points: Sequence[tuple[float, float]], most: int = _KEPT) -> Points:
    """At most `most` points: means of neighbouring ones, at the last step of each group."""
    size = math.ceil(len(points) / most)
    groups = [points[start : start + size] for start in range(0, len(points), size)] if points else []
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def read_course(source: str) -> Course:
    """The curves of a run directory or of a results file (its first seed).

    Raises:
        ConfigError: it is neither, or a results file without curves.
    """
    path = Path(source)
    if not path.is_file():
        run = RunDirectory(path)
        run.read_config()  # an error if it is none
        return Course(name=path.resolve().name, curves=curves_of(run.metrics_log().read()))
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        first = tree["runs"][0]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(f"{source} is no results file. Give a run directory or results/RECIPE.json.") from error
    if not first.get("curves"):
        raise ConfigError(f"{source} has no curves: `layerwise reproduce {tree['recipe']}` writes them.")
    return Course(
        name=tree["recipe"],
        curves={name: [(step, value) for step, value in points] for name, points in first["curves"].items()},
    )


def chosen(course: Course, metric: str) -> Curves:
    """Part -> curve of a metric; `error` is 1 - accuracy where nothing of that name was logged.

    Raises:
        ConfigError: the run logged no such metric.
    """
    names = {name.partition("/")[2] for name in course.curves}
    flip = metric == "error" and "error" not in names and "accuracy" in names
    read = "accuracy" if flip else metric
    if read not in names:
        raise ConfigError(f"metric={metric}: {course.name} has none of that name.{did_you_mean(metric, sorted(names))}")
    found = {part: course.curves[f"{part}/{read}"] for part in PARTS if f"{part}/{read}" in course.curves}
    return {part: [(step, 1 - y) for step, y in points] for part, points in found.items()} if flip else found


def draw_courses(courses: Sequence[Course], metric: str, path: Path) -> None:
    """A picture of one metric of several runs; the file's ending (png, svg, pdf) says its format.

    Raises:
        ConfigError: a run lacks the metric, or the ending is of no picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix not in _UNDATED:
        raise ConfigError(f"-o {path}: expected a name that ends in .png, .svg or .pdf.")
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = [chosen(course, metric) for course in courses]
    for place, (course, curves) in enumerate(zip(courses, drawn, strict=True)):
        for part, points in curves.items():
            shown = thinned(points, _SMOOTH_FROM)
            named = part == list(curves)[-1]  # once in the legend
            label = course.name.replace("$", r"\$") if named else None
            axes.plot(
                [step for step, _ in shown], [value for _, value in shown], color=f"C{place % 10}",
                linestyle="-" if part == "val" else "--", linewidth=1.6 if part == "val" else 1.1, label=label,
            )  # fmt: skip
    told = {"train": "dashed: training", "val": "solid: validation"}
    title = ", ".join(told[part] for part in PARTS if any(part in curves for curves in drawn))
    axes.set(xlabel="step", ylabel=metric.replace("_", " "), title=title)
    axes.title.set_fontsize(10)
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    with files.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, metadata=_UNDATED[path.suffix])
