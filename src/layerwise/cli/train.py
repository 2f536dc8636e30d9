"""`layerwise train` and `layerwise reproduce`."""

import os
from typing import Annotated, Literal

import typer

from layerwise.cli.common import Quiet, TrustCode, overrides, print_metrics


def train(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="[RECIPE|FILE.yaml|RUN] [a.b=value ...]", help="What to train, and overrides."),
    ],
    run: Annotated[str | None, typer.Option("--run", help="Run directory; default runs/RECIPE-N.")] = None,
    resume: Annotated[
        Literal["auto", "never"], typer.Option("--resume", help="Go on with a run that is there, or refuse.")
    ] = "auto",
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes on this machine.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, take one step, print derived values, stop.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved configuration and stop.")
    ] = False,
    quiet: Quiet = False,
    trust_code: TrustCode = False,
) -> None:
    """Train a recipe, a YAML file or a run; the same command again goes on where it was left.

    Example: layerwise train lenet5 optimizer.lr=0.002 epochs=30

    Example: layerwise train image_classification data.root=./photos
    """
    from layerwise.api import train as api
    from layerwise.api.configure import configure
    from layerwise.core.console import Console
    from layerwise.core.errors import ConfigError

    if "=" in arguments[0]:
        raise ConfigError(
            f"The first argument is what to train (a recipe, a file or a run), got {arguments[0]!r}. See: layerwise "
            "list recipes"
        )
    target, changes = arguments[0], overrides(arguments[1:])
    console = Console(quiet=quiet)
    if print_config or dry_run:
        configured = configure(target, changes, trust_code=trust_code)
        for note in configured.notes:
            console.info(note)
        if print_config:
            print(configured.yaml(), end="")
        if dry_run:
            print(*api.dry_run(configured, console), sep="\n")
        return
    result = api.train(target, changes, run=run, resume=resume, nproc=nproc, trust_code=trust_code, console=console)
    # Of several processes the first one prints, not the one that started them.
    if not quiet and nproc == 1 and os.environ.get("RANK", "0") == "0":
        print_metrics(result.metrics)
        print(f"{'run':28} {result.path}")


def reproduce(
    recipe: Annotated[str, typer.Argument(help="Recipe name.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many seeds, from the recipe's on.")] = 1,
    init: Annotated[
        str | None, typer.Option("--init", help="Where a copy of the checkpoint that the recipe starts from lies.")
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the results file.")] = "results",
    runs: Annotated[
        str, typer.Option("--runs", help="Folder of the runs; one that was interrupted there is gone on with.")
    ] = "runs",
    quiet: Quiet = False,
) -> None:
    """Train a recipe as published and write results/RECIPE.json.

    Example: layerwise reproduce lenet5 --seeds 3
    """
    from layerwise.api.reproduce import reproduce as api
    from layerwise.core.console import Console

    path = api(recipe, seeds=seeds, init=init, folder=out, runs=runs, console=Console(quiet=quiet))
    print(path)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("train")(train)
    app.command("reproduce")(reproduce)
