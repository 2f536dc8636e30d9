"""`layerwise report` and `layerwise runs`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from layerwise.cli.common import Json, print_json

Differences = Mapping[str, Mapping[str, tuple[Any, Any]]]


def report(run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")]) -> None:
    """Write report.html of a run again and print its path.

    Example: layerwise report runs/lenet5-1
    """
    from layerwise.api.report import rewrite_report

    print(rewrite_report(run))


def runs(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[diff A B | draw A B ...]",
            help="Nothing lists runs; diff compares two; draw puts their curves into one picture.",
        ),
    ] = None,
    root: Annotated[str, typer.Option("--root", help="Folder of runs.")] = "runs",
    metric: Annotated[
        str | None, typer.Option("--metric", help="What draw draws; error is 1 - accuracy. [loss]")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", help="Picture that draw writes. [runs.png]")] = None,
    json: Json = False,
) -> None:
    """List runs, show in what two of them differ, or draw curves of several (run directories or results files).

    Example: layerwise runs diff runs/lenet5-1 runs/lenet5-2
    """
    from layerwise.core.errors import ConfigError
    from layerwise.track.run_directory import RunDirectory, diff_runs, list_runs

    if arguments and arguments[0] == "draw":
        print(_draw(arguments[1:], metric or "loss", out or Path("runs.png")))
        return
    if metric is not None or out is not None:
        raise ConfigError("runs: --metric and -o belong to `layerwise runs draw A B ...`.")
    if not arguments:
        found = list_runs(root)
        if json:
            print_json(
                [{**{k: v for k, v in vars(row).items() if k != "run"}, "path": str(row.run.path)} for row in found]
            )
            return
        for row in found:
            figures = "  ".join(f"{name}={value:.4g}" for name, value in list(row.metrics.items())[:2])
            head = f"{row.run.path!s:32} {row.status:9} {row.step:>8} steps"
            print(f"{head}  {row.model} {row.data}  {row.started}  {figures}".rstrip())
        if not found:
            print(f"There are no runs in {root}.")
        return
    if arguments[0] != "diff" or len(arguments) != 3:
        raise ConfigError(
            f"runs {' '.join(arguments)}: write `layerwise runs`, `layerwise runs diff A B` or "
            "`layerwise runs draw A B ...`."
        )
    a, b = RunDirectory(arguments[1]), RunDirectory(arguments[2])
    for run in (a, b):
        run.read_config()  # an error if it is none
    differences = diff_runs(a, b)
    if json:
        print_json(differences)
        return
    for line in difference_lines(a.path.name, b.path.name, differences):
        print(line)


def _draw(sources: list[str], metric: str, out: Path) -> Path:
    from layerwise.core.errors import ConfigError
    from layerwise.track.curves import draw_courses, read_course

    if not sources:
        raise ConfigError("runs draw: name the runs or results files to draw.")
    draw_courses([read_course(source) for source in sources], metric, out)
    return out


def difference_lines(a: str, b: str, differences: Differences) -> list[str]:
    """Two columns, one a run; metrics have their change beside them, what a run lacks is a dash.

    Of components that differ in name (`optimizer.name`), only options that both have are told.
    """
    shown: dict[str, list[tuple[str, str, str, str]]] = {}
    for title, rows in differences.items():
        swapped = tuple(key.removesuffix("name") for key in rows if key.endswith(".name"))
        kept = {
            key: pair
            for key, pair in rows.items()
            if key.endswith(".name") or None not in pair or not key.startswith(swapped or "\0")
        }
        groups = list(dict.fromkeys(key.partition(".")[0] for key in kept))  # what belongs together stands together
        ordered = sorted(kept.items(), key=lambda row: groups.index(row[0].partition(".")[0]))
        shown[title] = [
            (key, _value(left), _value(right), _change(left, right) if title == "metrics" else "")
            for key, (left, right) in ordered
            if {_value(left), _value(right)} != {"-", "null"}
        ]
    lines = [row for rows in shown.values() for row in rows]
    if not lines:
        return [f"{a} and {b} do not differ."]
    names, first, second = (
        min(48, max(len(cell) for cell in column))
        for column in zip(*[("", a, b), *(row[:3] for row in lines)], strict=True)
    )
    made = [f"{'':{names + 2}}  {a:>{first}}  {b:>{second}}"]
    for title, rows in shown.items():
        made += [title] if rows else []
        made += [
            f"  {key:{names}}  {left:>{first}}  {right:>{second}}  {change}".rstrip()
            for key, left, right, change in rows
        ]
    return made


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, str) and len(value) == 40 and set(value) <= set("0123456789abcdef"):
        return value[:12]  # a commit
    return "-" if value is None else str(value)


def _change(left: Any, right: Any) -> str:
    return f"{right - left:+.3g}" if isinstance(left, float) and isinstance(right, float) else ""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("report")(report)
    app.command("runs")(runs)
