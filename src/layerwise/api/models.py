"""Models from Python: list, create, load, save, train."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api import catalogue
from layerwise.api import train as train_api
from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from layerwise.data.marian import MarianTokenizer
    from layerwise.data.subword import SubwordTokenizer
    from layerwise.interop.preprocessing import Preprocessing
    from layerwise.interop.weights import LoadReport


def list_models(pattern: str = "*") -> list[str]:
    """Names of all models that match a shell-style pattern."""
    return catalogue.names("models", pattern)


def create_model(name: str, *, features_only: bool = False, **overrides: Any) -> "nn.Module":
    """A freshly initialised network by name; `overrides` are fields of its configuration (`num_classes=10`). What the
    preset leaves to the data is as in the published form (1,000 classes and 3 channels for `resnet50`).

    Args:
        features_only: the network's pyramid instead of its logits: `forward(images)` gives a list of maps, finest
            first, and `pyramid_channels` and `pyramid_strides` say their channels and strides.

    Raises:
        ConfigError: unknown name or option, or a value that only data would know is not given.
        UnsupportedError: the model has no pyramid.
    """
    if features_only:
        from layerwise.nn.pyramid import FeaturePyramid

        return FeaturePyramid(create_model(name, **{**_sizes_of_no_use(name), **overrides}))
    return parse_component("model", {"name": name, **_published(name), **overrides}, "model", trust=True).build()


def _published(name: str) -> dict[str, int]:
    """What the card says of the published form, where the preset has no value of its own."""
    from layerwise.core import discovery

    if ":" in name or name not in discovery.catalogue("model"):
        return {}
    defaults = discovery.spec("model", name).defaults
    form = discovery.declarations(discovery.catalogue("model")[name][0]).CARD.published_form(name)
    return {key: value for key, value in form.items() if getattr(defaults, key, 0) is None}


def _sizes_of_no_use(name: str) -> dict[str, int]:
    """A head that nothing reads: its classes need not be given."""
    from layerwise.core import discovery

    return {"num_classes": 1} if getattr(discovery.spec("model", name).defaults, "num_classes", 1) is None else {}


def from_pretrained(source: str | Path, model: str | None = None, strict: bool = True, **overrides: Any) -> "nn.Module":
    """A network in eval mode with weights from a run, a directory, the hub or a file.

    Args:
        source: a run or model directory of this package, a directory of timm, torchvision or transformers, a hub id
            (`owner/name`), or a weights file: `.safetensors`, or a `.pth` with nothing but tensors.
        model: the architecture's name, for a bare weights file.
        strict: a tensor that is missing, of another shape or without a place here is an error; else it is left as
            initialised or left out, and a warning says so. A head for another number of classes than `num_classes`
            asks for is replaced in any case.
        overrides: fields of the model's configuration (`num_classes=10`); the checkpoint's own stand for the others.

    Raises:
        CheckpointError, ConfigError: each names the file and the remedy.
    """
    network, report = load_pretrained(source, model, **overrides)
    if strict:
        report.check(extra=False)
    elif report.missing or report.misfit or report.unexpected:
        import warnings

        warnings.warn(" ".join(report.lines()), stacklevel=2)
    return network


def load_pretrained(source: str | Path, model: str | None = None, **overrides: Any) -> "tuple[nn.Module, LoadReport]":
    """`from_pretrained` that refuses nothing and says what became of each tensor."""
    from layerwise.interop.weights import fit, load

    loaded = load(source, model, overrides)
    if getattr(loaded.model.config, "num_classes", 1) is None and loaded.headless:
        raise ConfigError(f"{source} has no classifier: say for how many classes with num_classes=...")
    network = loaded.model.build()
    return network.eval(), fit(network, loaded)


def tokenizer_files(tokenizer: "SubwordTokenizer | MarianTokenizer", network: "nn.Module") -> Mapping[str, Any]:
    """Files of a tokeniser as they stand beside this network's weights in a directory of transformers."""
    from layerwise.data.marian import MarianTokenizer

    config: Any = network.config
    longest = getattr(config, "max_seq_len", None)
    if isinstance(tokenizer, MarianTokenizer):
        return tokenizer.files(longest)
    return tokenizer.files(longest, segments="segments" in inspect.signature(network.forward).parameters)


def save_pretrained(
    model: "nn.Module",
    directory: str | Path,
    format: str = "layerwise",
    *,
    preprocessing: "Preprocessing | None" = None,
    class_names: Sequence[str] = (),
    tokenizer: "SubwordTokenizer | MarianTokenizer | None" = None,
) -> None:
    """Write a network's weights and configuration to a directory.

    Args:
        model: a network of this package.
        directory: made if missing.
        format: "layerwise", or the library whose layout is written: "timm", "torchvision", "transformers".
        preprocessing, class_names, tokenizer: written beside the weights in another library's layout, where they are
            given; `layerwise export RUN` takes all from the run.

    Raises:
        UnsupportedError: the library has no such architecture, or the network is none of this package's models.
    """
    from layerwise.train.artefact import component_of, save_model

    component = component_of(model)
    if format == "layerwise":
        save_model(Path(directory), model, component, origin={})
        return
    from layerwise.interop.save import save

    save(
        model,
        component,
        Path(directory),
        format,
        preprocessing=preprocessing,
        class_names=class_names,
        tokenizer=None if tokenizer is None else tokenizer_files(tokenizer, model),
    )


def train(
    recipe: str, *, run: str | None = None, resume: str = "auto", nproc: int = 1, quiet: bool = False, **overrides: Any
) -> train_api.Run:
    """Train a recipe, a YAML file or a run directory; overrides are top-level fields, deeper ones as
    `**{"optimizer.lr": 0.01}`.
    """
    from layerwise.core.console import Console

    return train_api.train(
        recipe,
        list(overrides.items()),
        run=run,
        resume=resume,
        nproc=nproc,
        console=Console(quiet=quiet),
        trust_code=True,
    )
