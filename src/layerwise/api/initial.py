"""What a run takes over from the checkpoint it starts from: model, size of pictures, how they are prepared. Imports no
torch.

It is written into the run's configuration, so that a run says what it did, can be repeated, and goes on when the
checkpoint has gone.
"""

from dataclasses import fields
from typing import Any

from layerwise.core import discovery
from layerwise.core.config import PictureSize, Tree, parse, parse_component
from layerwise.core.errors import ConfigError
from layerwise.interop.layouts import Checkpoint, assumed_preprocessing, recognise, resolved
from layerwise.interop.preprocessing import Preprocessing

# Of the model, taken from the data and not from the checkpoint: the head is new, positions are brought to the size.
FROM_DATA = ("num_classes", "image_size", "vocab_size", "in_features", "max_seq_len", "head")


def adopt(tree: Tree, given: Tree, notes: list[str]) -> Tree:
    """The recipe with what its `init` says where the person has not said otherwise.

    Args:
        tree: the recipe's tree, `init` set.
        given: what the person's file and overrides name, as a tree; it is left alone.
        notes: what was taken over is added here.

    Raises:
        ConfigError: there is no such checkpoint, or it is of another architecture than the model that was named.
        CheckpointError: it is damaged or cannot be loaded here.
    """
    source = str(tree["init"])
    try:
        checkpoint = recognise(source)
    except ConfigError as error:
        raise type(error)(f"init={source}: {str(error).removeprefix(f'{source}: ')}") from error
    tree = {**tree, "model": _model(checkpoint, tree["model"], "name" in _options(given.get("model")), notes)}
    tree = _with_tokenizer(tree, checkpoint, given, notes)
    if checkpoint.library == "diffusers":  # such networks read pictures in the task's own range
        return tree
    preprocessing = checkpoint.preprocessing
    if preprocessing is None and checkpoint.library != "layerwise":
        preprocessing = assumed_preprocessing(_options(tree["model"]))
        if preprocessing is not None and _takes_pictures(tree):
            notes.append(
                f"init={source} does not say how its pictures were prepared: ImageNet's mean and deviation and the "
                "middle of the picture are taken. data.size, data.resize and task.normalise change it."
            )
    if preprocessing is None:
        return tree
    return _with_preprocessing(tree, preprocessing, given, source, notes)


def _with_tokenizer(tree: Tree, checkpoint: Checkpoint, given: Tree, notes: list[str]) -> Tree:
    """The checkpoint's tokeniser for a task that has one, and as many rows in the table of words as it was trained
    with.
    """
    if checkpoint.tokenizer is None or not _has_option("task", tree.get("task"), "tokenizer"):
        return tree
    if "tokenizer" in _options(given.get("task")):
        return tree
    words = {key: value for key, value in (checkpoint.model or {}).items() if key == "vocab_size"}
    notes.append(f"From {checkpoint.source}: its tokeniser.")
    return {
        **tree,
        "task": {**_options(tree["task"]), "tokenizer": str(checkpoint.tokenizer)},
        "model": {**words, **_options(tree["model"])},
    }


def _from_data(model: Tree, key: str) -> bool:
    """Whether an option is the data's to say, and not the checkpoint's. Positions are the checkpoint's where the
    architecture has a number of its own.
    """
    if key == "max_seq_len" and ":" not in str(model["name"]):
        return getattr(discovery.spec("model", str(model["name"])).defaults, key, None) is None
    return key in FROM_DATA


def _options(node: Any) -> Tree:
    """A component, or part of one, as a mapping."""
    return {"name": node} if isinstance(node, str) else dict(node or {})


def _model(checkpoint: Checkpoint, node: Any, named: bool, notes: list[str]) -> Tree:
    own = _options(node)
    if checkpoint.model is None:
        return own
    theirs = {key: value for key, value in checkpoint.model.items() if not _from_data(checkpoint.model, key)}
    if ":" in str(theirs["name"]):  # code of a person's own: run when they name it, never because a file does
        if named:
            return own
        raise ConfigError(
            f"init={checkpoint.source} is a {theirs['name']}, code of your own: add model={theirs['name']}"
        )
    defaults = discovery.spec("model", str(theirs["name"])).defaults
    if any(entry.name == "image_size" for entry in fields(defaults)):
        theirs["image_size"] = None
    if not named:
        if own["name"] != theirs["name"]:
            notes.append(
                f"model={theirs['name']}, as {checkpoint.source} has it, in place of the recipe's {own['name']}."
            )
        return theirs
    if own["name"] == theirs["name"]:
        return {**theirs, **own}
    if checkpoint.library == "layerwise":  # parts of another model may be wanted: the load report says what fits
        return own
    chosen = parse_component("model", own, "model")
    if discovery.spec("model", chosen.name).module == discovery.spec("model", str(theirs["name"])).module:
        wrong = [
            f"{key}={value!r} there, {getattr(chosen.config, key)!r} here"
            for key, value in vars(
                resolved({**theirs, "image_size": None} if "image_size" in theirs else theirs)
            ).items()
            if key not in FROM_DATA and getattr(chosen.config, key) != value and getattr(chosen.config, key) is not None
        ]
        if not wrong:
            return own
        reason = "; ".join(wrong[:4])
    else:
        reason = "another architecture"
    raise ConfigError(
        f"model={own['name']} conflicts with init={checkpoint.source}, which is a {theirs['name']} ({reason}). Leave "
        "model out to take the checkpoint's."
    )


def _takes_pictures(tree: Tree) -> bool:
    return _has_option("task", tree.get("task"), "normalise")


def _has_option(kind: str, node: Any, option: str) -> bool:
    if node is None or ":" in str(_options(node)["name"]):
        return False
    return hasattr(discovery.spec(kind, str(_options(node)["name"])).defaults, option)


def _with_preprocessing(tree: Tree, preprocessing: Preprocessing, given: Tree, source: str, notes: list[str]) -> Tree:
    own = {part: _options(given.get(part)) for part in ("data", "task")}
    fit, resized, channels = preprocessing.fit, preprocessing.resized(), len(preprocessing.mean)
    size = fit.size
    if own["data"].get("size") is not None:  # another size, and the same share of the picture
        size = parse(PictureSize, own["data"]["size"], "data.size")
        resized = tuple(round(r * new / old) for r, new, old in zip(resized, size, fit.size, strict=True))
    wanted: list[tuple[str, str, Any]] = [
        ("data", "channels", {1: "grey", 3: "rgb"}.get(channels)),
        ("data", "size", list(size)),
        ("data", "resize", list(resized)),
        ("data", "interpolation", fit.interpolation),
        ("data", "fit", fit.mode),
        ("task", "normalise", {"mean": list(preprocessing.mean), "std": list(preprocessing.std)}),
    ]
    said: list[str] = []
    for part, option, value in wanted:
        if value is None or option in own[part] or not _has_option(part, tree.get(part), option):
            continue
        tree = {**tree, part: {**_options(tree[part]), option: value}}
        said.append(f"{part}.{option}={_short(value)}")
    if said:
        notes.append(f"From {source}: {', '.join(said)}.")
    return tree


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(f"{v:g}" for v in value) + "]" if isinstance(value, list) else str(value)
