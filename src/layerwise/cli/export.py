"""`layerwise export`."""

from typing import Annotated

import typer

from layerwise.cli.common import Json, TrustCode, print_json


def export(
    source: Annotated[str, typer.Argument(metavar="RUN|MODEL_DIR", help="A run, or a checkpoint of any layout.")],
    format: Annotated[str, typer.Option("--format", help="timm, torchvision, transformers, diffusers or layerwise.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Directory to write to.")],
    json: Json = False,
    trust_code: TrustCode = False,
) -> None:
    """Write a model as another library keeps it: weights, configuration, preprocessing, class names.

    Example: layerwise export runs/photos-1 --format timm -o photos-timm
    """
    from layerwise.api.export import export as api

    files = [str(path) for path in api(source, format, out, trust_code=trust_code)]
    if json:
        print_json(files)
    else:
        print(*files, sep="\n")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export")(export)
