"""`layerwise eval`, `predict` and `generate`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from layerwise.cli.common import Json, TrustCode, overrides, print_json, print_metrics
from layerwise.core.config import PictureSize, parse

Source = Annotated[str, typer.Argument(metavar="RUN|MODEL_DIR", help="A run or a model directory.")]


def evaluate(
    source: Source,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=value ...]", help="Other data, for example data.root=PATH.")
    ] = None,
    json: Json = False,
    trust_code: TrustCode = False,
) -> None:
    """Evaluate a run's model on its test part, or on other data.

    Example: layerwise eval runs/lenet5-1 --json
    """
    from layerwise.api import infer as api

    found = api.evaluate(source, overrides(arguments), trust_code=trust_code)
    if json:
        print_json({"run": found["run"], "metrics": found["metrics"]})
    else:
        print_metrics(found["metrics"])


def predict(
    source: Source,
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, globs or text, as the task needs.")],
    json: Json = False,
    csv: Annotated[str | None, typer.Option("--csv", help="Write a CSV file.")] = None,
    trust_code: TrustCode = False,
) -> None:
    """Predict on new inputs.

    Example: layerwise predict runs/lenet5-1 photo.png more/ 'scans/*.jpg' --csv predictions.csv
    """
    from layerwise.api import infer as api

    rows = api.predict(source, inputs, trust_code=trust_code)
    if csv is not None:
        api.write_predictions(rows, csv)
    if json:
        print_json(rows)
    elif csv is None:
        for row in rows:
            score = row.get("scores", {}).get(row.get("label"))
            rest = {k: v for k, v in row.items() if k not in ("input", "scores", "label")}
            print(
                "\t".join(
                    [
                        str(row["input"]),
                        str(row.get("label", "")),
                        "" if score is None else f"{score:.4f}",
                        str(rest or ""),
                    ]
                ).rstrip()
            )


def generate(
    source: Source,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Text to go on from, or what the picture should show.")
    ] = None,
    count: Annotated[int, typer.Option("-n", min=1, help="How many samples.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same samples.")] = 0,
    out: Annotated[str | None, typer.Option("-o", help="File or folder to write to.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Length of generated text; 200 unless given.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0.0, help="0 takes the likeliest token; 0.8 unless given.")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Draw from the k likeliest tokens only.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="From noise to picture.")] = None,
    guidance: Annotated[float | None, typer.Option("--guidance", help="How strongly the prompt counts.")] = None,
    negative: Annotated[str | None, typer.Option("--negative", help="Text that the picture should not show.")] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            help="ddpm, ddim, plms, euler, euler_a, heun, dpm++2m, flow_euler; euler_karras and the like.",
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Height and width of pictures, 64,96; one number for a square.")
    ] = None,
    image: Annotated[Path | None, typer.Option("--image", help="Picture to start from.")] = None,
    strength: Annotated[float | None, typer.Option("--strength", help="How much of it is made anew, 0 to 1.")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="Picture, white where --image is made anew.")] = None,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="From the first to the last noise.")] = False,
    truncation: Annotated[
        float | None, typer.Option("--truncation", help="Of styles: below 1 more typical, less varied.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option("--tile", min=1, help="Side in pixels of the tiles that large pictures are decoded in."),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], typer.Option("--precision", help="Of models that take noise away.")
    ] = "auto",
    json: Json = False,
    trust_code: TrustCode = False,
) -> None:
    """Make new samples with a generative model.

    Example: layerwise generate runs/gpt_shakespeare-1 --prompt "ROMEO:"
    """
    from layerwise.api import infer as api

    text = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k}
    picture = {
        "steps": steps, "guidance": guidance, "negative": negative, "sampler": sampler,
        "size": None if size is None else parse(PictureSize, size, "--size"), "image": image,
        "strength": strength, "mask": mask, "interpolate": interpolate or None,
        "truncation": truncation, "tile": tile,
    }  # fmt: skip
    rows = api.generate(
        source, prompt=prompt, count=count, seed=seed, out=out, trust_code=trust_code,
        text_options={name: value for name, value in text.items() if value is not None},
        picture_options={name: value for name, value in picture.items() if value is not None},
        precision=precision,
    )  # fmt: skip
    if json:
        print_json(rows)
    else:
        for row in rows:
            print(row.get("text") or row.get("file"))


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("eval")(evaluate)
    app.command("predict")(predict)
    app.command("generate")(generate)
