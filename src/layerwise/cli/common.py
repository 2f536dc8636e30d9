"""What several verbs share: printing JSON, splitting overrides, their options."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from layerwise.core.config import split_override

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run code of your own that a run or model directory names.")
]


def print_json(value: Any) -> None:
    """JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def overrides(arguments: Sequence[str] | None) -> list[tuple[str, Any]]:
    """`a.b=value` arguments as pairs."""
    return [split_override(argument) for argument in arguments or ()]


def print_metrics(metrics: dict[str, float]) -> None:
    """One metric a line."""
    for name, value in metrics.items():
        print(f"{name:28} {value:.6g}")
