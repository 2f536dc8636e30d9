"""What kind of checkpoint a path holds, found from names and JSON alone. Imports no torch, reads no weights.

A module of this folder with a `LAYOUTS` tuple says how one library keeps one architecture; it is found by being there.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from layerwise.core import discovery
from layerwise.core.config import parse_component, to_tree
from layerwise.core.errors import CheckpointError, ConfigError, UnsupportedError
from layerwise.core.suggest import did_you_mean
from layerwise.interop.preprocessing import Preprocessing, from_tree, imagenet
from layerwise.interop.rules import Rule

Tree = dict[str, Any]
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "merges.txt", "source.spm", "target.spm")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# Fields of models' configurations that act in training only: no checkpoint depends on them.
TRAINING_ONLY = (
    "dropout", "attention_dropout", "auxiliary_dropout", "drop_path", "momentum", "zero_init_residual",
    "classifier_dropout",
)  # fmt: skip


def no_rules(config: Any) -> tuple[Rule, ...]:
    """Rules of a layout whose names are ours."""
    return ()


def not_told(shapes: Mapping[str, Sequence[int]]) -> Tree | None:
    """Of a layout whose bare files could be of several architectures."""
    return None


def nothing_fixed(config: Any) -> Mapping[str, Any]:
    """Of a layout that says everything."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one library keeps one architecture.

    Args:
        library: "timm", "torchvision", "transformers" ...; the `format` of `save_pretrained`.
        module: dotted name of our model's module.
        claims: whether their `config.json` is of this architecture.
        read: their `config.json` and the place for messages -> our component as a tree, `num_classes` None where the
            checkpoint has no classifier.
        write: (our configuration, class names) -> their `config.json`.
        rules: of our configuration; None: their names are ours.
        preprocessing: the files' JSON by name and the place for messages -> how pictures are prepared.
        write_preprocessing: files to write beside the weights, by name, or entries of `config.json` under its name.
        weights: name of the weights file that is written.
        prefix: what names begin with unless the file holds the body without the head.
        ignored: patterns of their names that do not take part in the function.
        older: ends of names in older files -> what they are now.
        fixed: of our configuration: fields that the library's files have no word for -> the value it has built in.
        told: names and shapes of a bare file's tensors -> our component, where no other network has such; else None.
        assumed: (height, width) -> preprocessing of its published weights, for files that do not say.
        parts: of a model of several networks, each a folder with a layout of its own: fields of our configuration that
            are networks -> the library of each; `weights` is empty and `config.json` names the folders.
        index: name of the file that the configuration is written to.
    """

    library: str
    module: str
    claims: Callable[[Tree], bool]
    read: Callable[[Tree, str], Tree]
    write: Callable[[Any, Sequence[str]], Tree]
    rules: Callable[[Any], tuple[Rule, ...]] = no_rules
    preprocessing: Callable[[Mapping[str, Tree], str], Preprocessing | None] = lambda files, where: None
    write_preprocessing: Callable[[Preprocessing], Mapping[str, Tree]] = lambda preprocessing: {}
    weights: str = "model.safetensors"
    prefix: str = ""
    ignored: tuple[str, ...] = ()
    older: Mapping[str, str] = field(default_factory=dict)
    fixed: Callable[[Any], Mapping[str, Any]] = nothing_fixed
    told: Callable[[Mapping[str, Sequence[int]]], Tree | None] = not_told
    assumed: Callable[[int, int], Preprocessing] = imagenet
    parts: Mapping[str, str] = field(default_factory=dict)
    index: str = "config.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was recognised.

    Args:
        source: what the person gave.
        library: "layerwise", "timm", ...; "file" is a bare state dict whose library its names tell.
        model: our component as a tree; None for a bare file whose architecture nobody named.
        files: the weights, one file or several parts.
        layout: None where names are ours or not yet known.
        tied: our second names for one tensor -> the first name.
        preprocessing: how pictures are prepared, where it is known.
        class_names: in order of label, where they are known.
        parts: of a model of several networks: field of our configuration -> its checkpoint; `files` is empty.
        companions: files beside the networks that say how the model is used, by folder and name.
        tokenizer: the folder in which the tokeniser of its texts lies.
    """

    source: str
    library: str
    model: Tree | None
    files: tuple[Path, ...]
    layout: Layout | None = None
    tied: Mapping[str, str] | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()
    parts: Mapping[str, "Checkpoint"] = field(default_factory=dict)
    companions: Mapping[str, Path] = field(default_factory=dict)
    tokenizer: Path | None = None


@cache
def layouts() -> tuple[Layout, ...]:
    """Every layout, in order of module name."""
    found: list[Layout] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if "\nLAYOUTS = " in path.read_text(encoding="utf-8"):  # the others may import torch
            found += importlib.import_module(f"layerwise.interop.{path.stem}").LAYOUTS
    return tuple(found)


def libraries() -> list[str]:
    """Names of the libraries whose layouts are known."""
    return sorted({layout.library for layout in layouts()})


def layouts_of(module: str, library: str | None = None) -> list[Layout]:
    """The layouts of a model's module."""
    return [entry for entry in layouts() if entry.module == module and library in (None, entry.library)]


# --------------------------------------------------------------------------------------------------------- recognising


def recognise(source: str | Path, model: str | None = None) -> Checkpoint:
    """Which library and architecture a run, directory, hub id or weights file is of.

    Args:
        source: a run or model directory of ours, a directory of another library, a hub id, a weights file.
        model: name of the architecture, for a bare weights file.

    Raises:
        ConfigError: there is no such thing, or `model` contradicts it.
        CheckpointError: damaged, or of an architecture or with a setting that is not implemented.
    """
    path = Path(source)
    if not path.exists():
        path = _from_hub(str(source))
    if path.is_file() and path.suffix in WEIGHT_SUFFIXES and model is None and (path.parent / "config.json").is_file():
        path = path.parent  # the weights of a directory that says what they are
    if path.is_file():
        return _bare(str(source), path, model)
    for folder in (path / "model", path):
        if (folder / "config.json").is_file():
            found = _directory(str(source), folder, read_json(folder / "config.json"))
            if model is not None and found.model is not None and not _same_architecture(model, found.model):
                raise ConfigError(f"model={model} contradicts {source}, which is a {found.model['name']}.")
            return found
    if (path / "model_index.json").is_file():
        from layerwise.interop.diffusers_pipeline import recognise_pipeline

        return recognise_pipeline(str(source), path)
    if (path / "config.yaml").is_file():
        raise ConfigError(f"{source} has no finished model yet. Go on with: layerwise train {source}")
    files = sorted(p for p in path.iterdir() if p.suffix in WEIGHT_SUFFIXES)
    if len(files) == 1:
        return _bare(str(source), files[0], model)
    raise ConfigError(f"{source} is neither a run nor a model directory: it has no config.json.")


def _same_architecture(model: str, tree: Tree) -> bool:
    return discovery.spec("model", model).module == discovery.spec("model", str(tree["name"])).module


def _bare(source: str, path: Path, model: str | None) -> Checkpoint:
    if path.suffix not in WEIGHT_SUFFIXES:
        raise CheckpointError(f"{source}: weights are files that end with {', '.join(WEIGHT_SUFFIXES)}.")
    return Checkpoint(source=source, library="file", model=None if model is None else {"name": model}, files=(path,))


def _directory(source: str, folder: Path, config: Tree) -> Checkpoint:
    where = str(folder / "config.json")
    if "model" in config and "tied" in config:
        return _own(source, folder, config)
    for layout in layouts():
        if layout.claims(config):
            files = {
                p.name: read_json(p)
                for p in (folder / "config.json", folder / "preprocessor_config.json")
                if p.is_file()
            }
            tree = layout.read(config, where)
            return Checkpoint(
                source=source,
                library=layout.library,
                model=tree,
                files=_weights(folder, layout.weights),
                layout=layout,
                preprocessing=layout.preprocessing(files, where),
                class_names=_class_names(config, where),
                tokenizer=folder if any((folder / name).is_file() for name in _TOKENIZERS) else None,
            )
    named = next(filter(None, map(config.get, ("architecture", "architectures", "model_type", "_class_name"))), None)
    if named:
        named = named[0] if isinstance(named, list) and named else named
        raise CheckpointError(f"{where}: the architecture {named!r} is none that can be loaded here.")
    raise CheckpointError(
        f"{where} says neither the architecture of timm nor the model_type of transformers nor the _class_name of "
        "diffusers."
    )


def _own(source: str, folder: Path, config: Tree) -> Checkpoint:
    where, state = str(folder / "config.json"), config.get("task_state") or {}
    preprocessing = None
    numbers, size = state.get("preprocessing"), state.get("image_size")
    if isinstance(numbers, dict) and "mean" in numbers and size:
        fit = state.get("fit") or {"size": size, "interpolation": "bilinear", "mode": "crop"}
        preprocessing = from_tree({**numbers, **fit}, where)
    if not isinstance(config["model"], dict) or "name" not in config["model"]:
        raise CheckpointError(f"{where} is damaged: its model has no name.")
    return Checkpoint(
        source=source,
        library="layerwise",
        model=config["model"],
        files=_weights(folder, "model.safetensors"),
        tied=config["tied"],
        preprocessing=preprocessing,
        class_names=tuple(map(str, state.get("class_names") or ())),
        tokenizer=folder if isinstance(state.get("tokenizer"), dict) else None,
    )


def _weights(folder: Path, name: str) -> tuple[Path, ...]:
    """The weights file of a directory, or its parts; those of a variant (fp16, say) where there is nothing else."""
    stem = name.removesuffix(".safetensors")
    names = dict.fromkeys((name, f"{stem}.bin", "model.safetensors", "pytorch_model.bin"))
    for candidate in names:
        for path in (folder / candidate, folder / f"{candidate}.index.json"):
            if path.is_file():
                return _parts(path)
    variants = sorted({path for each in names for path in _variants(folder, each)})
    if len(variants) > 1:
        listed = ", ".join(path.name for path in variants)
        raise CheckpointError(f"{folder} has several variants of its weights: {listed}. Keep the one that is meant.")
    if not variants:
        raise CheckpointError(f"{folder} has no weights: {name} is missing.")
    return _parts(variants[0])


def _variants(folder: Path, name: str) -> list[Path]:
    """`model.VARIANT.safetensors`, or `model.safetensors.index.VARIANT.json` of one in parts."""
    stem, suffix = name.rsplit(".", 1)
    whole = [path for path in folder.glob(f"{stem}.*.{suffix}") if "-of-" not in path.name]
    return [*whole, *folder.glob(f"{name}.index.*.json")]


def _parts(path: Path) -> tuple[Path, ...]:
    """A weights file itself, or the files that an index names."""
    if path.suffix != ".json":
        return (path,)
    parts = read_json(path).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise CheckpointError(f"{path} is damaged: it has no weight_map.")
    files = sorted({str(part) for part in parts.values()})
    if strange := [part for part in files if Path(part).name != part]:
        raise CheckpointError(f"{path} names {strange[0]!r}, which is not a file beside it.")
    if absent := [part for part in files if not (path.parent / part).is_file()]:
        raise CheckpointError(f"{path.parent} lacks {absent[0]}, one of the {len(files)} parts of its weights.")
    return tuple(path.parent / part for part in files)


def _class_names(config: Tree, where: str) -> tuple[str, ...]:
    """`label_names` of timm, `id2label` of transformers."""
    inner = config.get("pretrained_cfg")
    names = config.get("label_names") or config.get("labels") or (inner or {}).get("label_names")
    names = names or config.get("id2label") or ()
    if isinstance(names, Mapping):
        if not all(str(key).isdigit() for key in names):
            raise CheckpointError(f"{where}: its class names should be numbered, got {next(iter(names))!r}.")
        if sorted(map(int, names)) != list(range(len(names))):
            return ()
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(map(str, names))


def read_json(path: Path) -> Tree:
    """A JSON object.

    Raises:
        CheckpointError: missing, damaged, or something else.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path} is damaged: it should hold an object.")
    return tree


def _from_hub(source: str) -> Path:
    """A local copy of a repository of the Hugging Face hub.

    Raises:
        ConfigError: it is no hub id, or there is no such repository.
        MissingExtraError: huggingface_hub is not installed.
        UnsupportedError: it is not in the cache and the network is forbidden or out of reach.
    """
    from layerwise.data.hub import fetch, is_hub_id

    if not is_hub_id(source):
        names = discovery.declarations("layerwise.nn.init").SCALE_FREE  # what `init` may be beside a checkpoint
        near = did_you_mean(source, names) if source.isidentifier() else ""
        raise ConfigError(f"{source}: no such run, model directory or weights file.{near}")
    return fetch(source)


# ------------------------------------------------------------------------------------------- names and configurations


def component_tree(module: str, options: Tree, names: Sequence[str] | None = None) -> Tree:
    """The preset that differs least from the options, and the options in which it differs.

    Args:
        module: dotted name of the model's module.
        options: values of all fields that the checkpoint decides.
        names: presets to choose from; None takes all but the tiny ones.
    """
    presets = discovery.catalogue("model")
    own = [name for name, (where, _) in presets.items() if where == module]
    candidates = [n for n in own if n in names] if names is not None else [n for n in own if not n.endswith("-tiny")]

    def differing(name: str) -> Tree:
        defaults = discovery.spec("model", name).defaults
        return {key: value for key, value in options.items() if to_tree(getattr(defaults, key)) != to_tree(value)}

    counted = {name: differing(name) for name in candidates}
    best = min(counted, key=lambda name: len(counted[name]))
    return {"name": best, **counted[best]}


def resolved(tree: Tree) -> Any:
    """The configuration of a component's tree.

    Raises:
        CheckpointError: a value is out of range.
    """
    try:
        return parse_component("model", tree, "model").config
    except CheckpointError:
        raise
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def check_sayable(layout: Layout, config: Any, said: Sequence[str]) -> None:
    """Whether a layout can say every field of a configuration.

    Args:
        said: fields that the layout's `config.json` or its weights' shapes carry.

    Raises:
        UnsupportedError: a field that changes the function has another value than the library's own.
    """
    fixed = layout.fixed(config)
    for entry in fields(config):
        if entry.name in said or entry.name in TRAINING_ONLY:
            continue
        value = getattr(config, entry.name)
        own = fixed.get(entry.name, discovery.field_default(entry))
        if value != own:
            raise UnsupportedError(
                f"format={layout.library}: {entry.name}={value!r} cannot be said there, where it is {own!r}. Save with "
                "format=layerwise."
            )


def assumed_preprocessing(tree: Tree, library: str = "torchvision") -> Preprocessing | None:
    """The library's, or ImageNet's, for a checkpoint that does not say how its pictures were prepared; None for models
    that take no coloured pictures.
    """
    config = resolved(tree)
    if not hasattr(config, "in_channels") or config.in_channels not in (None, 3):
        return None
    own = layouts_of(discovery.spec("model", str(tree["name"])).module, library)
    height, width = getattr(config, "image_size", None) or (224, 224)
    return (own[0].assumed if own else imagenet)(height, width)
