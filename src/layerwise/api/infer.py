"""The verbs on a trained model: evaluate, predict, generate."""

import csv
import glob
import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from layerwise.api.judge import attach_judge
from layerwise.api.open import open_model
from layerwise.core.config import Component, apply_overrides, parse, read_yaml, to_tree
from layerwise.core.console import Console
from layerwise.core.errors import ConfigError, DataError, UnsupportedError
from layerwise.data.files import is_litter
from layerwise.data.pictures import UnreadablePicture
from layerwise.data.splits import prepare
from layerwise.infer.freeze import freeze, gains_by_freezing
from layerwise.infer.generate import TextCodec, generate_text
from layerwise.infer.pack_denoiser import pack_denoiser
from layerwise.infer.pack_linear import pack_linears
from layerwise.nn.protocols import Denoiser, EncoderDecoder
from layerwise.tasks.base import Batch, Task
from layerwise.tasks.denoising import PictureOptions
from layerwise.tasks.image_generation import ImageGeneration
from layerwise.track import files
from layerwise.track.run_directory import RunDirectory
from layerwise.train.artefact import load_model
from layerwise.train.build import Session
from layerwise.train.precision import Precision, resolve_precision
from layerwise.train.recipe import Recipe

_ROWS_AT_ONCE = 4096  # of a file on which a person predicts


def model_folder(source: str | Path) -> Path:
    """The folder with `config.json` and `model.safetensors` of a run or model directory.

    Raises:
        ConfigError: there is none.
    """
    path = Path(source)
    for candidate in (path / "model", path):
        if (candidate / "config.json").is_file():
            return candidate
    if not path.exists():
        raise ConfigError(f"{source}: no such run or model directory.")
    if (path / "config.yaml").is_file():
        raise ConfigError(f"{source} has no finished model yet. Go on with: layerwise train {source}")
    raise ConfigError(f"{source} is neither a run nor a model directory: it has no config.json.")


def evaluate(
    source: str | Path, overrides: Iterable[tuple[str, Any]] = (), *, trust_code: bool = False
) -> dict[str, Any]:
    """Metrics of a run's model on its test part (validation where there is none), or on other data by overrides
    (`data.root=...`).

    Returns:
        `{"run": path, "metrics": {"test/accuracy": ...}, "tables": ...}`.
    """
    from layerwise.parallel.distributed import World

    folder = model_folder(source)
    network, task, saved = load_model(folder, trust=trust_code)
    directory = RunDirectory(folder.parent)
    if not directory.exists():
        raise ConfigError(f"{source} is a bare model: there is no data to evaluate it on. Evaluate its run directory.")
    tree = apply_overrides(read_yaml(directory.read_config(), str(directory.config)), overrides, [])
    recipe: Recipe = parse(Recipe, to_tree(parse(Recipe, tree, trust=trust_code)), trust=trust_code)
    if (asked := recipe.task.name) != saved["task"]["name"]:
        raise ConfigError(f"task={asked}: the model was trained for task={saved['task']['name']}.")
    state = task.state()
    task = recipe.task.build()  # with the options asked for (task.test_time=flip) ...
    task.load(state)  # ... and what it learned of the training data
    splits = None
    if task.needs_data:
        if recipe.data is None:
            raise ConfigError("The run names no data: give data=NAME.")
        splits = prepare(_as_trained(recipe.data, task), recipe.seed)
        _check_classes(task, splits.class_names)
        task.bind(splits)  # what an evaluation needs of the data (labelled pictures for a probe) ...
        task.load(state)  # ... with what the model was trained with
    choices = {"channels_last": False}
    session = Session(
        recipe=recipe,
        task=task,
        network=network,
        splits=splits,
        world=World(),
        device=torch.device("cpu"),
        precision="fp32",
        choices=choices,
        notes=[],
    )
    attach_judge(session, Console())
    part = "test" if splits is None or splits.test is not None else "val"
    with torch.inference_mode():
        metrics, tables = session.evaluate(part, _prepared(network, task), concludes=True)
    return {
        "run": str(source),
        "metrics": {f"{part}/{name}": value for name, value in metrics.items()},
        "tables": tables,
    }


def _prepared(network: torch.nn.Module, task: Task) -> torch.nn.Module:
    """The network with its batch norms folded and its weights packed, where its task asks for its forward alone and
    that can be traced, or where it decodes or takes noise away; the results are the same up to rounding. One that
    cannot be prepared so stays as it is, and it is told why.
    """
    try:
        if task.calls_forward_alone and gains_by_freezing(network):
            return freeze(network)
        if isinstance(network, EncoderDecoder):
            return pack_linears(network)
        if isinstance(network, Denoiser):
            return pack_denoiser(network)
    except UnsupportedError as error:
        _tell_unprepared(error)
    return network


def _tell_unprepared(error: UnsupportedError) -> None:
    Console().info(f"{error} It runs as it was trained: the same results, slower.")


def prepare_denoiser(
    network: torch.nn.Module, precision: Literal["auto", "fp32", "bf16"] = "auto"
) -> tuple[torch.nn.Module, Precision]:
    """The network itself, laid out for being asked again and again, and the precision of its products: "auto" decides
    as a training does.

    Raises:
        UnsupportedError: "bf16" was asked for and cannot be had here.
    """
    chosen = resolve_precision(precision, next(network.parameters()).device, network)
    try:
        return pack_denoiser(network, torch.bfloat16 if chosen == "bf16" else torch.float32), chosen
    except UnsupportedError as error:
        if precision == "bf16":
            raise
        _tell_unprepared(error)
        return network, "fp32"


def _as_trained(data: Component, task: Task) -> Component:
    """The data with pictures brought to the size and channels that the model was trained on, where they would choose
    by themselves.
    """
    size, channels = getattr(task, "image_size", None), getattr(task, "channels", None)
    changes: dict[str, Any] = {}
    if size and getattr(data.config, "size", 0) is None and hasattr(data.config, "fit"):
        changes["size"] = tuple(size)
    if getattr(data.config, "channels", None) == "auto" and channels in (1, 3):
        changes["channels"] = "grey" if channels == 1 else "rgb"
    return data.with_options(**changes) if changes else data


def _check_classes(task: Task, class_names: list[str] | None) -> None:
    known = getattr(task, "class_names", None)
    if known and class_names and list(known) != list(class_names):
        strange = [name for name in class_names if name not in known]
        raise DataError(
            f"The data's classes are not the model's: {', '.join(strange[:5]) or 'another order or number'} (the "
            f"model knows {', '.join(known[:12])})."
        )


def expand_inputs(inputs: Sequence[str]) -> list[str]:
    """Files named, in folders (recursively, hidden ones and what systems leave there, Thumbs.db, left out) and matched
    by globs, in order.

    Raises:
        DataError: a name that matches nothing, or an empty folder.
    """
    found: list[str] = []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            inside = [
                str(p) for p in sorted(path.rglob("*")) if p.is_file() and not is_litter(p.relative_to(path).as_posix())
            ]
            if not inside:
                raise DataError(f"{item} is an empty folder.")
            found += inside
        elif path.exists():
            found.append(item)
        elif matches := sorted(glob.glob(item, recursive=True)):
            found += [m for m in matches if Path(m).is_file()]
        else:
            raise DataError(f"{item}: no such file, folder or match.")
    return found


def predict(
    source: str | Path, inputs: Sequence[str], *, batch_size: int = 64, trust_code: bool = False
) -> list[dict[str, Any]]:
    """Predictions of a run's or model directory's model on files, folders, globs or text, as its task takes them.

    A file found in a folder or by a glob that is no readable picture is named and left out; one that a person named is
    an error.

    Returns:
        One `{"input": ..., "label": ..., "scores": {...}}` (or as the task has it) for each input.
    """
    if not inputs:
        raise ConfigError("Nothing to predict on: name files, folders, globs or text.")
    network, task, tree = open_model(source, trust=trust_code)
    if task.predicts is None:
        raise UnsupportedError(f"task={tree['task']['name']} has no predictions on inputs of your own.")
    names = list(inputs) if task.predicts in ("text", "numbers") else expand_inputs(inputs)
    network = _prepared(network, task)
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        for start in range(0, len(names), batch_size):
            decoded = _decoded(task, names[start : start + batch_size], set(inputs))
            for remark in task.remarks():
                Console().warn(remark)
            alike = (list(run) for _, run in itertools.groupby(decoded, key=_shapes))
            groups = [run[k : k + _ROWS_AT_ONCE] for run in alike for k in range(0, len(run), _ROWS_AT_ONCE)]
            for group in groups:
                batch = {key: torch.cat([columns[key] for _, columns in group]) for key in group[0][1]}
                found = task.predict(network, task.inputs(batch))
                rows += [{"input": name, **row} for (name, _), row in zip(group, found, strict=True)]
    if not rows and task.predicts == "files":
        raise DataError(f"None of the {len(names)} files could be read.")
    return rows


def _decoded(task: Task, names: list[str], named: set[str]) -> list[tuple[str, Batch]]:
    """Inputs in order without unreadable pictures, each of which is told; one of `named` stops."""
    try:
        return task.decode(names)
    except UnreadablePicture as error:
        if len(names) > 1:  # which ones
            return [row for name in names for row in _decoded(task, [name], named)]
        if names[0] in named:
            raise
        Console().warn(f"{error} It is left out.")
        return []


def _shapes(decoded: tuple[str, Batch]) -> dict[str, tuple[int, ...]]:
    """What two inputs must share to stand in one batch."""
    return {name: tuple(column.shape[1:]) for name, column in decoded[1].items()}


def predictions_csv(rows: Sequence[dict[str, Any]]) -> str:
    """CSV text: `input`, the plain fields, `labels` joined by |, `values` under their own names, then a column
    `score_<class>` for each class.
    """
    plain = [key for key in rows[0] if not isinstance(rows[0][key], dict | list)] if rows else ["input", "label"]
    several = ["labels"] if rows and isinstance(rows[0].get("labels"), list) else []
    values = list(rows[0].get("values", {})) if rows else []
    classes = sorted({name for row in rows for name in row.get("scores", {})})
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*plain, *several, *values, *(f"score_{name}" for name in classes)])
    for row in rows:
        writer.writerow(
            [row.get(key, "") for key in plain]
            + ["|".join(row[key]) for key in several]
            + [row["values"][name] for name in values]
            + [
                f"{row.get('scores', {}).get(name, ''):.6g}" if name in row.get("scores", {}) else ""
                for name in classes
            ]
        )
    return out.getvalue()


def write_predictions(rows: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Write `predictions_csv` atomically."""
    files.write_text(path, predictions_csv(rows))


def generate(
    source: str | Path,
    *,
    prompt: str | None = None,
    count: int = 1,
    seed: int = 0,
    out: str | None = None,
    trust_code: bool = False,
    text_options: dict[str, Any] | None = None,
    picture_options: dict[str, Any] | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
) -> list[dict[str, Any]]:
    """New samples of a generative model: text from a prompt, or pictures written to `out`.

    Args:
        source: a run, a model directory, or a directory with a pipeline of diffusers.
        prompt: text to go on from, or what the picture should show.
        text_options: `max_new_tokens`, `temperature`, `top_k` of language models.
        picture_options: `steps`, `guidance` ... of models that take noise away, see `tasks.denoising.PictureOptions`.
        precision: of the products of models that take noise away; "auto" is bf16 where the machine has it and the
            network is wide enough to gain.

    Raises:
        ConfigError: an option or a prompt that this kind of model does not know.
    """
    network, task, tree = open_model(source, trust=trust_code)
    if isinstance(network, Denoiser):
        network, _ = prepare_denoiser(network, precision)
    elif precision != "auto":
        raise ConfigError(f"--precision {precision}: only models that take noise away choose it.")
    path = Path(out) if out else None
    for kind, given, known in (
        ("texts", text_options, TextCodec),
        ("pictures step by step", picture_options, ImageGeneration),
    ):
        if given and not isinstance(task, known):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigError(f"{flags}: task={tree['task']['name']} makes no {kind}.")
    with torch.inference_mode():
        if isinstance(task, TextCodec):
            return generate_text(network, task, prompt=prompt, count=count, seed=seed, out=path, **(text_options or {}))
        if isinstance(task, ImageGeneration):
            options = PictureOptions(**picture_options) if picture_options else None
            return task.generate(network, prompt=prompt, count=count, seed=seed, out=path, options=options)
        if prompt is not None:
            raise ConfigError(f"task={tree['task']['name']} takes no prompt.")
        return task.generate(network, prompt=None, count=count, seed=seed, out=path)
