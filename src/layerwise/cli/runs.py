"""`layerwise report` and `layerwise runs`."""

from typing import Annotated

import typer

from layerwise.cli.common import Json, print_json


def report(run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")]) -> None:
    """Write report.html of a run again and print its path.

    Example: layerwise report runs/lenet5-1
    """
    from layerwise.api.report import rewrite_report

    print(rewrite_report(run))


def runs(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[diff A B]", help="Nothing lists runs; diff compares two.")
    ] = None,
    root: Annotated[str, typer.Option("--root", help="Folder of runs.")] = "runs",
    json: Json = False,
) -> None:
    """List runs, or show in what two of them differ.

    Example: layerwise runs diff runs/lenet5-1 runs/lenet5-2
    """
    from layerwise.core.errors import ConfigError
    from layerwise.track.run_directory import RunDirectory, diff_runs, list_runs

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
        raise ConfigError(f"runs {' '.join(arguments)}: write `layerwise runs` or `layerwise runs diff A B`.")
    a, b = RunDirectory(arguments[1]), RunDirectory(arguments[2])
    for run in (a, b):
        run.read_config()  # an error if it is none
    differences = diff_runs(a, b)
    if json:
        print_json(differences)
        return
    for title, rows in differences.items():
        for key, (left, right) in rows.items():
            print(f"{title:12} {key:40} {left!s:>20}  {right!s:>20}")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("report")(report)
    app.command("runs")(runs)
