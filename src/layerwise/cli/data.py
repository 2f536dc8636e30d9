"""`layerwise check` and `layerwise baseline`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from layerwise.cli.common import Json, Quiet, overrides, print_json
from layerwise.core.errors import EXIT_WRONG

_LINES = 4  # under a finding
_LETTERS = 60  # of a text
Arguments = Annotated[
    list[str], typer.Argument(metavar="RECIPE|DATA [a.b=value ...]", help="A recipe or a data set, and overrides.")
]


def check(
    arguments: Arguments,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a page with examples: -o check.html", dir_okay=False)
    ] = None,
    json: Json = False,
) -> None:
    """Look for defects in data before training on it.

    Example: layerwise check image_folder data.root=./photos -o check.html
    """
    from layerwise.api.check import check_data

    findings = check_data(arguments[0], overrides(arguments[1:]), out=out)
    if json:
        print_json(findings)
    else:
        for row in findings:
            print(f"{row['level']:8} {row['message']}")
            lines = [*row["lines"], *map(_named, row["examples"])]
            print(*(f"{'':8}   {line}" for line in lines[:_LINES]), sep="\n", end="\n" if lines else "")
            if len(lines) > _LINES:
                print(f"{'':8}   ... and {len(lines) - _LINES:,} more; --json has all")
        if not findings:
            print("nothing found")
        if out is not None:
            print(f"page     {out}")
    if any(row["level"] == "error" for row in findings):
        raise typer.Exit(EXIT_WRONG)


def _named(example: dict[str, Any]) -> str:
    """One line for an example of a finding."""
    where = example.get("file") or f"{example['part']} {example.get('id', example.get('position'))}"
    told = [example.get("label"), example.get("note"), example.get("text", "")[:_LETTERS]]
    return "  ".join(str(part) for part in (where, *told) if part)


def baseline(
    arguments: Arguments,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Only methods with one of these words in their name: svm,hog. SIFT runs only by name: sift.",
        ),
    ] = None,
    examples: Annotated[
        int,
        typer.Option("--examples", min=0, help="Training examples of the SVM on pictures at most; 0 takes all."),
    ] = 10_000,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NETWORK",
            help="Train it on the same split: a recipe or model with overrides. Repeatable.",
        ),
    ] = None,
    runs: Annotated[
        str | None, typer.Option("--runs", metavar="DIR", help="Keep the networks' runs here, and go on with them.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Classical methods on the same split: accuracy with interval, seconds to train, milliseconds to predict.

    Example: layerwise baseline digits

    Example: layerwise baseline image_folder data.root=./photos --methods svm,forest

    Example: layerwise baseline image_folder data.root=./photos --with image_classification --with "resnet18 epochs=9"
    """
    from layerwise.api.baseline import baseline as api
    from layerwise.api.baseline import format_table
    from layerwise.core.console import Console

    console = Console(quiet=quiet)
    rows = api(
        arguments[0],
        overrides(arguments[1:]),
        methods=None if methods is None else methods.split(","),
        most=examples,
        networks=networks or (),
        runs=runs,
        info=console.info,
        console=console,
    )
    if json:
        print_json(rows)
    else:
        print(*format_table(rows), sep="\n")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("check")(check)
    app.command("baseline")(baseline)
