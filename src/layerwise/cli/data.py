"""`layerwise check` and `layerwise baseline`."""

from typing import Annotated

import typer

from layerwise.cli.common import Json, overrides, print_json
from layerwise.core.errors import EXIT_WRONG

Arguments = Annotated[
    list[str], typer.Argument(metavar="RECIPE|DATA [a.b=value ...]", help="A recipe or a data set, and overrides.")
]


def check(arguments: Arguments, json: Json = False) -> None:
    """Look for defects in data before training on it.

    Example: layerwise check image_folder data.root=./photos
    """
    from layerwise.api.check import check_data

    findings = check_data(arguments[0], overrides(arguments[1:]))
    if json:
        print_json(findings)
    else:
        print(*(f"{row['level']:8} {row['message']}" for row in findings) if findings else ("nothing found",), sep="\n")
    if any(row["level"] == "error" for row in findings):
        raise typer.Exit(EXIT_WRONG)


def baseline(arguments: Arguments, json: Json = False) -> None:
    """Classical methods on the same split: accuracy with interval, seconds to train, milliseconds to predict.

    Example: layerwise baseline digits
    """
    from layerwise.api.baseline import baseline as api

    rows = api(arguments[0], overrides(arguments[1:]))
    if json:
        print_json(rows)
        return
    for row in rows:
        print(row["line"])


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("check")(check)
    app.command("baseline")(baseline)
