"""`layerwise list` and `layerwise show`."""

from typing import Annotated

import typer

from layerwise.cli.common import Json, print_json


def list_names(
    what: Annotated[
        str, typer.Argument(metavar="[models|recipes|datasets|tasks|objectives]", help="What to list.")
    ] = "recipes",
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern with *.")] = "*",
    json: Json = False,
) -> None:
    """List what there is.

    Example: layerwise list models 'gpt*'
    """
    from layerwise.api.catalogue import names

    found = names(what, pattern)
    if json:
        print_json(found)
    else:
        print(*found, sep="\n")


def show(name: Annotated[str, typer.Argument(help="A model or recipe.")], json: Json = False) -> None:
    """Show a model's card, parameters, FLOPs, memory and capabilities.

    Example: layerwise show lenet5
    """
    from layerwise.api.catalogue import show as api

    found = api(name)
    if json:
        print_json(found)
        return
    paper = found["paper"]
    print(f"{found['name']}: {found['title']}\n{paper['authors']}: {paper['title']} ({paper['year']}). {paper['link']}")
    print(
        f"parameters    {found['parameters']:,}\nmemory        {found['memory_bytes'] / 1e6:,.2f} MB of float32 weights"
    )
    print(
        f"flops         {found['flops']:,} a forward pass on {found['example']}\ncapabilities  "
        f"{', '.join(found['capabilities'])}"
    )
    for title in ("inputs", "outputs", "options"):
        print(f"{title}:", *(f"  {key}: {value}" for key, value in found[title].items()), sep="\n")
    if found["differences"]:
        print("differs from the paper:", *(f"  - {line}" for line in found["differences"]), sep="\n")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("list")(list_names)
    app.command("show")(show)
