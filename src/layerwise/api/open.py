"""A trained model ready to be used, whichever library's directory it lies in."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.core.config import component, parse_component
from layerwise.core.errors import CheckpointError, UnsupportedError

if TYPE_CHECKING:
    from torch import nn

    from layerwise.interop.layouts import Checkpoint
    from layerwise.tasks.base import Task


def open_model(source: str | Path, *, trust: bool = False) -> "tuple[nn.Module, Task, dict[str, Any]]":
    """Network in eval mode, its task, and what `config.json` says of both.

    Args:
        source: a run, a model directory of this package, a picture classifier in a directory of timm, torchvision or
            transformers, with the preprocessing and the class names that lie beside it, a text encoder or a Marian
            model of transformers with its tokeniser, a pipeline of diffusers with scheduler and tokeniser; one of
            these on the hub; or a weights file that tells by itself what it is.
        trust: build a model whose code is a person's own.

    Raises:
        ConfigError: there is no such model.
        CheckpointError: it is damaged or cannot be loaded here.
        UnsupportedError: it is none that a task here can use.
    """
    from layerwise.api.models import load_pretrained
    from layerwise.interop.layouts import recognise
    from layerwise.interop.weights import identified
    from layerwise.nn.protocols import EncoderDecoder
    from layerwise.train.artefact import load_model

    checkpoint = identified(recognise(source))
    if checkpoint.library == "layerwise":
        return load_model(checkpoint.files[0].parent, trust=trust)
    if checkpoint.tokenizer is not None and "head" in (checkpoint.model or {}):
        return _open_encoder(checkpoint)
    network, report = load_pretrained(source)
    report.check(extra=False)
    if checkpoint.companions:
        return _open_generator(checkpoint, network)
    if isinstance(network, EncoderDecoder):
        return _open_translator(checkpoint, network)
    chosen = parse_component("task", component("image_classification"), "task")
    task: Task = chosen.build()
    task.load(_task_state(checkpoint, network))
    return network, task, {"model": checkpoint.model, "task": {"name": chosen.name}}


_USUAL_GUIDANCE = 7.5  # of pipelines of diffusers that read a text


def _open_generator(checkpoint: "Checkpoint", network: "nn.Module") -> "tuple[nn.Module, Task, dict[str, Any]]":
    """A pipeline of diffusers as the task that makes pictures."""
    from layerwise.core.config import to_tree
    from layerwise.data.subword_files import load_subword
    from layerwise.interop.diffusers_pipeline import SCHEDULER, TOKENIZER
    from layerwise.interop.diffusers_scheduler import read_scheduler
    from layerwise.interop.layouts import read_json
    from layerwise.tasks.captions import Captions

    path = checkpoint.companions[SCHEDULER]
    process, sampler = read_scheduler(read_json(path), str(path))
    model: Any = network
    config: Any = model.config
    options: dict[str, Any] = {"sampler": to_tree(sampler)}
    state: dict[str, Any] = {"process": to_tree(process)}
    if checkpoint.parts:
        if TOKENIZER not in checkpoint.companions:
            raise UnsupportedError(f"{checkpoint.source} lacks the folder tokenizer, without which no prompt is read.")
        captions = Captions(load_subword(checkpoint.companions[TOKENIZER]), int(model.max_seq_len))
        state |= {"captions": captions.state(), "image_size": list(model.picture_size)}
        state["channels"] = model.vae.config.in_channels
        options |= {"condition": "caption", "guidance": _USUAL_GUIDANCE}
    else:
        if config.image_size is None:
            raise UnsupportedError(f"{checkpoint.source}: unet/config.json has no sample_size, the size of pictures.")
        state |= {"image_size": list(config.image_size), "channels": config.in_channels}
        state["class_names"] = [str(k) for k in range(config.num_classes)]
        options["condition"] = "class" if config.num_classes else "none"
    channels = int(state["channels"])
    state["preprocessing"] = {"type": "normalise", "mean": [0.5] * channels, "std": [0.5] * channels}
    chosen = parse_component("task", component("image_generation", **options), "task")
    task: Task = chosen.build()
    task.load(state)
    return network, task, {"model": checkpoint.model, "task": to_tree(chosen)}


# The task of an encoder with each head.
_TASKS = {
    "encoder": "sentence_embedding",
    "classifier": "text_classification",
    "tagger": "token_tagging",
    "span": "question_answering",
    "masked_lm": "masked_language_modelling",
    "pretraining": "masked_language_modelling",
}


def _open_encoder(checkpoint: "Checkpoint") -> "tuple[nn.Module, Task, dict[str, Any]]":
    """A text encoder with the task that its head is for; a bare one gives embeddings of sentences.

    Raises:
        UnsupportedError: no task here has such a head.
    """
    from layerwise.api.models import load_pretrained
    from layerwise.tasks.texts import TextTask

    model: dict[str, Any] = checkpoint.model or {}
    head = str(model["head"])
    if head not in _TASKS:
        raise UnsupportedError(f"{checkpoint.source}: a network with head={head} has no predictions on inputs.")
    network, report = load_pretrained(checkpoint.source, head="embedding" if head == "encoder" else head)
    report.check(extra=False)
    chosen = parse_component("task", component(_TASKS[head], tokenizer=str(checkpoint.tokenizer)), "task")
    task: Task = chosen.build()
    assert isinstance(task, TextTask)
    config: Any = network.config
    task.open(list(checkpoint.class_names), longest=config.max_seq_len)
    return network, task, {"model": checkpoint.model, "task": {"name": chosen.name}}


def _open_translator(checkpoint: "Checkpoint", network: "nn.Module") -> "tuple[nn.Module, Task, dict[str, Any]]":
    """A Marian model as the task of translation, with the search that its files ask for.

    Raises:
        UnsupportedError: there is no tokeniser beside it.
        CheckpointError: the tokeniser is damaged, or has more tokens than the network.
    """
    from layerwise.core.config import to_tree
    from layerwise.data.marian import FILES, MarianTokenizer
    from layerwise.tasks.texts import load_text_tokenizer
    from layerwise.tasks.translation import Translation

    tokenizer = None if checkpoint.tokenizer is None else load_text_tokenizer(str(checkpoint.tokenizer))
    if not isinstance(tokenizer, MarianTokenizer):
        raise UnsupportedError(
            f"{checkpoint.source} has no tokeniser of Marian beside its weights: {', '.join(FILES)}."
        )
    config: Any = network.config
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{checkpoint.source}: the tokeniser has {tokenizer.vocab_size} tokens, the network {config.vocab_size}."
        )
    longest = min(config.max_seq_len, tokenizer.max_tokens or config.max_seq_len)
    asked = {
        "beams": tokenizer.generation.get("num_beams"),
        "length_penalty": tokenizer.generation.get("length_penalty"),
    }
    options = {key: value for key, value in asked.items() if value is not None}
    named = component("translation", tokenizer=str(checkpoint.tokenizer), max_tokens=longest, **options)
    chosen = parse_component("task", named, "task")
    task = chosen.build()
    assert isinstance(task, Translation)
    task.open([], longest=longest)
    return network, task, {"model": checkpoint.model, "task": to_tree(chosen)}


def _task_state(checkpoint: "Checkpoint", network: "nn.Module") -> dict[str, Any]:
    """What an image classifier of this package would have kept.

    Raises:
        UnsupportedError: it is no picture classifier, or nothing is known of how its pictures are prepared.
    """
    from layerwise.interop.layouts import assumed_preprocessing
    from layerwise.interop.preprocessing import to_tree

    config: Any = network.config
    if not (hasattr(config, "num_classes") and hasattr(config, "in_channels")):
        raise UnsupportedError(f"{checkpoint.source} is no picture classifier: what its inputs mean is not known here.")
    preprocessing = checkpoint.preprocessing or assumed_preprocessing(checkpoint.model or {})
    if preprocessing is None:
        raise UnsupportedError(f"{checkpoint.source} does not say how its pictures are prepared.")
    tree = to_tree(preprocessing)
    return {
        "class_names": list(checkpoint.class_names) or [str(k) for k in range(config.num_classes)],
        "image_size": tree["size"],
        "channels": len(tree["mean"]),
        "fit": {key: tree[key] for key in ("size", "resize", "interpolation", "mode")},
        "preprocessing": {"type": "normalise", "mean": tree.pop("mean"), "std": tree.pop("std")},
    }
