"""The verb `export`: a run's model in the form that another tool reads."""

from pathlib import Path

from layerwise.core.errors import ConfigError


def export(source: str | Path, format: str, out: str | Path, *, trust_code: bool = False) -> list[Path]:
    """Write the model of a run, or a checkpoint in any layout that is read here, in a library's layout.

    Weights, configuration, preprocessing and class names are written as that library keeps them; it loads them without
    this package.

    Args:
        source: a run, a directory, or a hub id.
        format: "timm", "torchvision", "transformers", or "layerwise".
        out: directory, made if missing.
        trust_code: build a model whose code is a person's own.

    Returns:
        The files written.

    Raises:
        ConfigError: there is no such model, or `out` is its own directory.
        UnsupportedError: the library has no such architecture, or no word for one of its options.
    """
    from layerwise.api.models import load_pretrained
    from layerwise.interop.layouts import recognise
    from layerwise.interop.save import save
    from layerwise.train.artefact import component_of, load_network, save_model

    folder, checkpoint = Path(out), recognise(source)
    if any(path.parent.resolve() == folder.resolve() for path in checkpoint.files):
        raise ConfigError(f"-o {out} is where the model itself lies: choose another directory.")
    if checkpoint.library == "layerwise":
        network, _ = load_network(checkpoint.files[0].parent, trust=trust_code)
    else:
        network, report = load_pretrained(source)
        report.check(extra=False)
    model = component_of(network)
    if format == "layerwise":
        save_model(folder, network, model, origin={"source": str(source)})
        return [folder / "config.json", folder / "model.safetensors"]
    return save(
        network,
        model,
        folder,
        format,
        preprocessing=checkpoint.preprocessing,
        class_names=checkpoint.class_names,
    )
