"""The verb `export`: a run's model in the form that another tool reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layerwise.api.models import tokenizer_files
from layerwise.core.errors import ConfigError


def export(source: str | Path, format: str, out: str | Path, *, trust_code: bool = False) -> list[Path]:
    """Write the model of a run, or a checkpoint in any layout that is read here, in a library's layout.

    Weights, configuration, preprocessing, class names and tokeniser are written as that library keeps them; it loads
    them without this package.

    Args:
        source: a run, a directory, or a hub id.
        format: "timm", "torchvision", "transformers", "diffusers", or "layerwise".
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
    tokenizer = _tokenizer(checkpoint.tokenizer, network)
    if format == "layerwise":
        save_model(folder, network, model, origin={"source": str(source)})
        return [folder / "config.json", folder / "model.safetensors"]
    written = save(
        network,
        model,
        folder,
        format,
        preprocessing=checkpoint.preprocessing,
        class_names=checkpoint.class_names,
        tokenizer=tokenizer,
    )
    return [*written, *_companions(source, folder, format, trust_code)]


def _companions(source: str | Path, folder: Path, format: str, trust_code: bool) -> list[Path]:
    """Files that say how a generator is used, beside its networks: scheduler and tokeniser."""
    from layerwise.api.open import open_model
    from layerwise.interop.diffusers_pipeline import INDEX, SCHEDULER, TOKENIZER, scheduler_class
    from layerwise.interop.diffusers_scheduler import write_scheduler
    from layerwise.interop.layouts import read_json
    from layerwise.tasks.image_generation import ImageGeneration
    from layerwise.track import files

    if format != "diffusers" or not (folder / INDEX).is_file():
        return []
    _, task, _ = open_model(source, trust=trust_code)
    if not isinstance(task, ImageGeneration) or task.process is None:
        return []
    scheduler = write_scheduler(task.process, task.config.sampler)
    trees = {SCHEDULER: scheduler, INDEX: {**read_json(folder / INDEX), **scheduler_class(scheduler)}}
    if task.captions is not None:
        captions = task.captions
        trees |= {f"{TOKENIZER}/{n}": tree for n, tree in captions.tokenizer.files(captions.max_tokens).items()}
    for name, tree in trees.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / name, tree)
    return [folder / name for name in trees]


def _tokenizer(folder: Path | None, network: Any) -> Mapping[str, Any] | None:
    """Files of the tokeniser beside the weights, where it is one of subwords: other libraries read no other."""
    if folder is None:
        return None
    from layerwise.data.marian import MarianTokenizer
    from layerwise.data.subword import SubwordTokenizer
    from layerwise.tasks.texts import load_text_tokenizer

    found = load_text_tokenizer(str(folder))
    return tokenizer_files(found, network) if isinstance(found, SubwordTokenizer | MarianTokenizer) else None
