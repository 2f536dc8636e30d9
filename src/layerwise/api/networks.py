"""Networks beside the classical methods: trained on the same split, timed and weighed alike."""

import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api.configure import Configured, configure
from layerwise.core.config import Component, split_override, to_tree
from layerwise.core.console import Console
from layerwise.core.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from torch import nn

    from layerwise.data.examples import Examples
    from layerwise.tasks.base import Task

_BATCH, _BATCHES, _ONES = 64, 8, 20  # pictures at once, how often at most; pictures one at a time
# Options of data that leave the split as it is: each network has its own.
_PRESENTATION = frozenset(("augment", "size", "resize", "interpolation", "fit", "channels", "memory_gb"))


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network to train beside the classical methods.

    Args:
        words: what was asked for.
        target: a recipe or a model.
        overrides: with the data, split and seed of the comparison.
        configured: resolved.
        folder: name of its run.
    """

    words: str
    target: str
    overrides: tuple[tuple[str, Any], ...]
    configured: Configured
    folder: str

    @classmethod
    def of(
        cls, words: str, data: Component, seed: int, given: Iterable[tuple[str, Any]], before: Sequence["Training"]
    ) -> "Training":
        """What `words` ask for, on that data.

        Args:
            words: a recipe or a model with overrides.
            data, seed: the comparison's.
            given: the comparison's own overrides.
            before: trainings whose folders are taken.

        Raises:
            ConfigError: unknown names, options that would change the split, a network that predicts no classes.
        """
        try:
            target, *changes = shlex.split(words) or [""]
        except ValueError as error:
            raise ConfigError(f"--with {words}: {error}.") from error
        if not target:
            raise ConfigError("--with is empty: name a recipe or a model to train.")
        if target.endswith((".yaml", ".yml")) or Path(target).is_dir():
            raise ConfigError(f"--with {target}: name a recipe or a model; files and runs bring data of their own.")
        own = [split_override(change) for change in changes]
        for key, value in own:
            if key == "seed" or (key.split(".")[0] == "data" and ".".join(key.split(".")[1:2]) not in _PRESENTATION):
                raise ConfigError(
                    f"--with {target} {key}={value}: data, split and seed are those of the comparison. Give them "
                    "outside of --with."
                )
        shared = {key: value for key, value in to_tree(data).items() if key not in _PRESENTATION}
        presented = [(key, value) for key, value in given if key.split(".")[1:2] and key.split(".")[1] in _PRESENTATION]
        overrides = (("data", shared), ("seed", seed), *presented, *own)
        configured = configure(target, overrides)
        if configured.recipe.task.name != "image_classification":
            raise ConfigError(f"--with {target}: its task is {configured.recipe.task.name}, not image_classification.")
        taken = sum(training.target == target for training in before)
        folder = f"{target}-{taken + 1}" if taken else target
        return cls(words=words, target=target, overrides=overrides, configured=configured, folder=folder)


def network_row(training: Training, run: Path, beside: dict[str, Any], console: Console) -> dict[str, Any]:
    """Train a network, or go on with its run, and read it on the part that the classical methods are read on.

    Args:
        beside: a classical method's row.

    Returns:
        What a classical method's row has, and `run`. `fit_s` is the training's, evaluations included; `predict_ms` the
        mean time an example in batches of the test part, preparing it included, `predict_one_ms` the median one at a
        time; `size_bytes` is that of `model.safetensors`.

    Raises:
        UnsupportedError: the run has no accuracy on that part, or not on as many examples.
    """
    from layerwise.api.infer import model_folder
    from layerwise.api.train import train
    from layerwise.data.splits import prepare
    from layerwise.track import files
    from layerwise.train.artefact import load_model

    done = train(training.target, training.overrides, run=str(run), console=console)
    facts = files.read_json(done.path / "report.json")
    part, metrics = beside["part"], {name.partition("/")[2]: value for name, value in facts["metrics"].items()}
    held_out = files.read_json(done.path / "data.json")[part]
    if f"{part}/accuracy" not in facts["metrics"] or held_out["examples"] != beside["count"]:
        raise UnsupportedError(f"{training.words}: {done.path} has no accuracy on {beside['count']} {part} examples.")
    recipe = training.configured.recipe
    assert recipe.data is not None
    folder = model_folder(done.path)
    network, task, _ = load_model(folder)
    splits = prepare(recipe.data, recipe.seed)
    examples = splits.test if part == "test" else splits.val
    assert examples is not None
    many, one = _prediction_ms(network, task, examples)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {
        "name": f"{training.folder}: {recipe.model.name}",
        "features": "pixels",
        "method": recipe.model.name,
        "settings": training.words,
        "metric": "accuracy",
        "value": metrics["accuracy"],
        "interval": list(facts["tables"]["intervals"]["accuracy"]),
        "correct": round(metrics["accuracy"] * beside["count"]),
        "count": beside["count"],
        "metrics": {name: metrics[name] for name in ("accuracy", "macro_f1", "auc") if name in metrics},
        "part": part,
        "train_examples": beside["train_examples"],
        "trained_on": beside["train_examples"],
        "fit_s": facts["seconds"],
        "predict_ms": many,
        "predict_one_ms": one,
        "size_bytes": (folder / "model.safetensors").stat().st_size,
        "note": f"{parameters:,} parameters; {one:.3f} ms one at a time",
        "run": str(done.path),
    }


def _prediction_ms(network: "nn.Module", task: "Task", examples: "Examples") -> tuple[float, float]:
    """Milliseconds an example from raw pictures to scores: the mean in batches, the median one at a time."""
    import torch

    def spent(ids: Any) -> float:
        began = time.perf_counter()
        task.scores(network, task.inputs(examples.collate(ids)))
        return 1000 * (time.perf_counter() - began)

    places = torch.arange(len(examples))
    batches = places.split(_BATCH)[:_BATCHES]
    with torch.inference_mode():
        spent(batches[0])  # the first one allocates
        many = sum(spent(ids) for ids in batches) / sum(len(ids) for ids in batches)
        spent(places[:1])
        ones = sorted(spent(place) for place in places[:_ONES].split(1))
    return many, ones[len(ones) // 2]
