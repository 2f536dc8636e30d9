"""`layerwise explain`."""

from typing import Annotated

import typer

from layerwise.cli.common import Json, TrustCode, print_json

_SHOWN_ROWS = 20
_SHOWN_COLUMNS = 15


def explain(
    source: Annotated[str, typer.Argument(metavar="RUN|MODEL_DIR", help="A run or a model directory.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, folders, globs, or CSV files.")],
    out: Annotated[
        str | None, typer.Option("-o", help="Picture to write, or a folder for one of each input. [explain.png]")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="integrated_gradients (unless given), saliency, occlusion, grad_cam, attention_rollout, layers or "
            "nearest.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="CLASS", help="Class to explain; unless given, the predicted one.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help='Colour for "nothing there": black (unless given), white or mean.'),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=2, help="Noisy copies that saliency is averaged over (SmoothGrad).")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Layer of grad_cam; unless given, the last one with maps.")
    ] = None,
    json: Json = False,
    trust_code: TrustCode = False,
) -> None:
    """Show which pixels of a picture, or columns of a row, an answer rests on.

    Example: layerwise explain runs/lenet5-1 photo.png --method occlusion -o why.png
    """
    from layerwise.api import explain as api

    options = api.Options(method=method, target=target, baseline=baseline, samples=samples, layer=layer)  # pyright: ignore[reportArgumentType]
    rows = api.explain(source, inputs, options, out=out, trust_code=trust_code)
    if json:
        print_json(rows)
        return
    for row in rows[:_SHOWN_ROWS]:
        label = "" if row["label"] is None else row["label"]
        asked = f"  explained: {row['target']} ({row['target_score']:.4f})" if row["target"] != row["label"] else ""
        print(f"{row['input']}\t{label}\t{row['score']:.4f}{asked if label else ''}")
        if "nearest" in row:
            print("  nearest: " + ", ".join(f"{one['label']} ({one['cosine']:.2f})" for one in row["nearest"]))
    if len(rows) > _SHOWN_ROWS:
        print(f"... and {len(rows) - _SHOWN_ROWS} more")
    if "contributions" in rows[0]:
        one = len(rows) == 1
        what = "contribution" if one else f"mean size of the contribution over {len(rows)} rows"
        print(f"\n{what}, from the average row")
        for name, value in api.summed_columns(rows)[:_SHOWN_COLUMNS]:
            print(f"  {name:32} {value:+.4f}" if one else f"  {name:32} {value:.4f}")
    for place in dict.fromkeys(row["picture"] for row in rows if "picture" in row):
        print(f"picture: {place}")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("explain")(explain)
