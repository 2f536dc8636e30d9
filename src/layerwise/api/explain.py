"""The verb `explain`: which pixels of a picture, or columns of a row, a model's answer rests on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from layerwise.api import explain_layers
from layerwise.api.infer import expand_inputs
from layerwise.api.open import open_model
from layerwise.core.console import Console
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.core.suggest import did_you_mean
from layerwise.explain import attribution, render
from layerwise.explain.columns import integrated_column_gradients
from layerwise.tasks.base import Batch, Task
from layerwise.track import files

Method = Literal["integrated_gradients", "saliency", "occlusion", "grad_cam", "attention_rollout", "layers", "nearest"]
Baseline = Literal["black", "white", "mean"]

_WITHOUT_CLASS = ("attention_rollout", "layers", "nearest")
_MOST_ROWS = 40  # of one picture
_STEPS, _ROW_STEPS = 64, 128  # of integrated gradients, for pictures and for rows
_TABLE_ROWS = 1024  # rows of a table at once
_SHOWN_COLUMNS = 30


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to explain.

    Args:
        method: see `layerwise.explain.attribution`; "layers" shows filters and each layer's maps, "nearest" the
            training pictures that the network holds for most like it. None takes integrated gradients.
        target: name of the class whose score is explained; None takes the one predicted. Roll-out, layers and nearest
            know no classes.
        baseline: colour that stands for "nothing there" in integrated gradients and occlusion; "mean" is the picture's
            own mean colour. None takes black.
        samples: noisy copies that saliency is averaged over (SmoothGrad); None takes the picture as it is.
        layer: whose maps Grad-CAM weighs; None takes the last one that has maps.
    """

    method: Method | None = None
    target: str | None = None
    baseline: Baseline | None = None
    samples: int | None = None
    layer: str | None = None

    def check(self) -> Method:
        """The method.

        Raises:
            ConfigError: an option that this method does not take.
        """
        method = self.method or "integrated_gradients"
        if method not in get_args(Method):
            raise ConfigError(f"method={method}: there is none.{did_you_mean(method, get_args(Method))}")
        if self.baseline is not None and self.baseline not in get_args(Baseline):
            raise ConfigError(f"baseline={self.baseline}: it is one of {', '.join(get_args(Baseline))}.")
        takes = {
            "baseline": ("integrated_gradients", "occlusion"),
            "samples": ("saliency",),
            "layer": ("grad_cam",),
            "target": tuple(name for name in get_args(Method) if name not in _WITHOUT_CLASS),
        }
        for name, methods in takes.items():
            value = getattr(self, name)
            if value is not None and method not in methods:
                raise ConfigError(f"{name}={value} has no effect on method={method}; it belongs to {methods[0]}.")
        return method


@runtime_checkable
class _Columns(Protocol):
    """What a task on tables tells of its inputs."""

    def input_columns(self) -> tuple[list[str], list[str]]: ...

    def average_row(self) -> Batch: ...

    def row_texts(self, raw: Batch) -> list[dict[str, str]]: ...


def explain(
    source: str | Path,
    inputs: Sequence[str],
    options: Options | None = None,
    *,
    out: str | Path | None = None,
    trust_code: bool = False,
) -> list[dict[str, Any]]:
    """Explain a model's answers on files, folders, globs or rows of CSV files.

    Args:
        source: a run, a model directory, or a picture classifier of timm, torchvision or transformers.
        out: picture to write (one row an input), or a folder for a picture of each; None takes `explain.png` for
            pictures and writes nothing for tables.

    Returns:
        One row an input: `input`, `label` and `score` predicted, the `target` explained and its score, `method`, and
        `picture` (the file) or `contributions` (column -> share of the score).

    Raises:
        ConfigError, DataError, UnsupportedError: each names the thing, the value and the remedy.
    """
    options = options or Options()
    options.check()
    if not inputs:
        raise ConfigError("Nothing to explain: name files, folders or globs.")
    network, task, tree = open_model(source, trust=trust_code)
    if task.explains not in ("pixels", "columns"):
        raise UnsupportedError(f"task={tree['task']['name']} has nothing that explain could point at.")
    neighbours = None
    if options.method == "nearest" and task.explains == "pixels":
        neighbours = explain_layers.Neighbours(source, network, task, trust=trust_code)
    with attribution.without_parameter_gradients(network):
        if task.explains == "columns":
            return _explain_rows(network, task, expand_inputs(inputs), options, out)
        return _explain_pictures(network, task, expand_inputs(inputs), options, out, neighbours)


# ----------------------------------------------------------------------------------------------------------- pictures


def _explain_pictures(
    network: nn.Module,
    task: Task,
    names: Sequence[str],
    options: Options,
    out: str | Path | None,
    neighbours: explain_layers.Neighbours | None,
) -> list[dict[str, Any]]:
    method, target = options.check(), Path("explain.png" if out is None else out)
    folder = target.is_dir() or not target.suffix
    if not folder and len(names) > _MOST_ROWS:
        raise ConfigError(f"{len(names)} inputs are too many for one picture: name a folder, -o explained.")
    if not folder and target.suffix.lower() != ".png":
        raise ConfigError(f"-o {target}: pictures are written as .png.")
    rows: list[dict[str, Any]] = []
    pages: list[Image.Image] = []
    for name in names:
        for label, raw in task.decode([name]):
            if method == "layers" or neighbours is not None:
                with torch.no_grad():
                    facts, _ = _answer(task, task.scores(network, task.inputs(raw)).float(), None)
                row = {**facts, "method": method}
                if neighbours is not None:
                    page, row["nearest"] = neighbours.page(raw)
                else:
                    page = explain_layers.layers_page(network, task, raw)
            else:
                row, heat = _explain_picture(network, task, raw, options, method)
                page = render.explained_rows([(raw["image"][0], heat, [row["target"], *_notes(label, row)])])
            rows.append({"input": label, **row})
            pages.append(page)
    places = _places(target, rows) if folder else [target] * len(rows)
    for place in dict.fromkeys(places):
        page = render.stacked([one for one, at in zip(pages, places, strict=True) if at == place])
        files.write_bytes(place, render.png(page))
    for row, place in zip(rows, places, strict=True):
        row["picture"] = str(place)
    return rows


def _explain_picture(
    network: nn.Module, task: Task, raw: Batch, options: Options, method: Method
) -> tuple[dict[str, Any], Tensor]:
    """The facts of one picture, and its heat [h, w]."""
    images = task.inputs(raw)["images"]

    def model(x: Tensor) -> Tensor:
        return task.scores(network, {"images": x}).float()

    facts, chosen = _answer(task, model(images), options.target)
    target = torch.tensor([chosen])
    if method == "saliency":
        generator = torch.Generator().manual_seed(0)
        found = attribution.saliency(model, images, target, samples=options.samples or 1, generator=generator)
        heat = found.abs().amax(1)  # the largest over channels, as in the paper
    elif method == "grad_cam":
        heat = attribution.grad_cam(network, model, images, target, layer=options.layer)
    elif method == "attention_rollout":
        shares = attribution.attention_rollout(network, images)
        average = shares.mean()
        heat = shares - average
        facts |= {"strongest": float(shares.max() / average)}
    else:
        baseline = _baseline(task, raw["image"], options.baseline or "black")
        if method == "occlusion":
            window = max(2, round(max(images.shape[2:]) / 7))
            heat = attribution.occlusion(
                model, images, target, window=window, stride=max(1, window // 2), baseline=baseline
            )
            facts |= {"window": window}
        else:
            found = attribution.integrated_gradients(model, images, target, baseline=baseline, steps=_STEPS)
            gap = attribution.completeness_gap(model, images, target, found, baseline=baseline)
            heat = found.sum(1)
            facts |= {"sum": float(found.sum()), "completeness_gap": float(gap)}
    return {**facts, "method": method}, heat[0]


def _answer(task: Task, scores: Tensor, wanted: str | None) -> tuple[dict[str, Any], int]:
    """What is predicted, what is explained, and the index of the score explained."""
    classes: list[str] = list(getattr(task, "class_names", []))
    row = scores[0].detach()
    if not classes:
        if wanted is not None:
            raise ConfigError(f"target={wanted}: this model predicts a number, there are no classes to choose from.")
        return {"label": None, "score": float(row[0]), "target": "predicted value", "target_score": float(row[0])}, 0
    best = int(row.argmax())
    if wanted is not None and wanted not in classes:
        raise ConfigError(f"target={wanted}: the model knows no such class.{did_you_mean(wanted, classes)}")
    chosen = best if wanted is None else classes.index(wanted)
    shares = row.double().softmax(0).tolist()
    return {
        "label": classes[best],
        "score": shares[best],
        "target": classes[chosen],
        "target_score": shares[chosen],
    }, chosen


def _baseline(task: Task, image: Tensor, colour: Baseline) -> Tensor:
    """A picture of one colour as the network gets it, [1, C, H, W]."""
    if colour == "mean":
        plain = image.float().mean((2, 3), keepdim=True).round().to(torch.uint8).expand_as(image)
    else:
        plain = torch.full_like(image, {"black": 0, "white": 255}[colour])
    return task.inputs({"image": plain})["images"]


def _notes(name: str, row: dict[str, Any]) -> list[str]:
    """The lines under the class in a picture."""
    lines = [Path(name).name]
    if row["label"] is None:
        lines.append(f"value {row['score']:.4g}")
    else:
        lines.append(f"score {row['target_score']:.3f}")
        if row["label"] != row["target"]:
            lines.append(f"predicted {row['label']}, {row['score']:.3f}")
    meaning = {
        "saliency": "red: a small change here moves the score most",
        "integrated_gradients": "red: speaks for it, blue: against it",
        "occlusion": f"red: covering {row.get('window')} x {row.get('window')} pixels costs score, blue: adds to it",
        "grad_cam": "red: maps of the layer that speak for it",
        "attention_rollout": f"red: patches that the class token holds more of than of the average one (at most "
        f"{row.get('strongest', 0):.2f} x), blue: less; it is the same for every class",
    }
    return [*lines, row["method"].replace("_", " "), meaning[row["method"]]]


def _places(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Path]:
    """A file each, named after the input; a number tells equal names apart."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    for row in rows:
        stem = Path(row["input"]).stem
        taken = sum(1 for other in found if other.stem == stem or other.stem.rpartition("-")[0] == stem)
        found.append(folder / f"{stem}{f'-{taken + 1}' if taken else ''}.png")
    return found


# -------------------------------------------------------------------------------------------------------------- tables


def _explain_rows(
    network: nn.Module, task: Task, names: Sequence[str], options: Options, out: str | Path | None
) -> list[dict[str, Any]]:
    if options.check() != "integrated_gradients" or options.baseline is not None:
        raise ConfigError(
            f"method={options.method or 'integrated_gradients'}: rows of a table are explained by "
            "integrated_gradients, from the average row, without further options."
        )
    if out is not None and Path(out).suffix.lower() != ".png":
        raise ConfigError(f"-o {out}: pictures are written as .png.")
    if not isinstance(task, _Columns):
        raise UnsupportedError(f"{type(task).__name__} does not tell its columns.")
    decoded = task.decode(names)
    for remark in task.remarks():
        Console().warn(remark)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(decoded), _TABLE_ROWS):
        part = decoded[start : start + _TABLE_ROWS]
        batch = task.inputs({key: torch.cat([raw[key] for _, raw in part]) for key in part[0][1]})
        rows += [
            {"input": name, **row}
            for (name, _), row in zip(part, _explain_batch(network, task, batch, options), strict=True)
        ]
    if out is not None:
        shown = summed_columns(rows)[:_SHOWN_COLUMNS]
        form = "+.3g" if len(rows) == 1 else ".3g"
        what = f"{rows[0]['input']}: what speaks for {rows[0]['target']}"
        title = what if len(rows) == 1 else f"Mean size of the contribution over {len(rows)} rows"
        page = render.bars(title, [(name, value, format(value, form)) for name, value in shown])
        files.write_bytes(Path(out), render.png(page))
        for row in rows:
            row["picture"] = str(out)
    return rows


def _explain_batch(network: nn.Module, task: Task, batch: Batch, options: Options) -> list[dict[str, Any]]:
    assert isinstance(task, _Columns)
    numeric, categories = batch["numeric"], batch["categories"]
    with torch.no_grad():
        scores = task.scores(network, batch)
    answers = [_answer(task, row[None], options.target) for row in scores]
    target = torch.tensor([chosen for _, chosen in answers])

    def score(numbers: Tensor, indices: Tensor) -> Tensor:
        values = task.scores(network, {"numeric": numbers, "categories": indices})
        return values.gather(1, target[:, None])[:, 0]

    baseline = task.average_row()["numeric"]
    of_numbers, of_categories, start = integrated_column_gradients(
        network, score, numeric, categories, baseline=baseline, steps=_ROW_STEPS
    )
    names = [name for group in task.input_columns() for name in group]
    found: list[dict[str, Any]] = []
    for (facts, chosen), values, first, row in zip(
        answers, torch.cat([of_numbers, of_categories], 1).tolist(), start.tolist(), scores, strict=True
    ):
        shares: dict[str, float] = {}
        for name, value in zip(names, values, strict=True):
            shares[name] = shares.get(name, 0.0) + value
        gap = math.fsum(values) - (float(row[chosen]) - first)
        found.append(
            {
                **facts,
                "method": "integrated_gradients",
                "average_row": first,
                "contributions": dict(sorted(shares.items(), key=lambda pair: -abs(pair[1]))),
                "completeness_gap": gap,
            }
        )
    return found


def row_summaries(network: nn.Module, task: Task, raw: Batch, most: int = 4) -> list[str]:
    """The columns that the answer on each raw row rests on most, with the row's values: `age 39, education Masters`."""
    if not isinstance(task, _Columns):
        raise UnsupportedError(f"{type(task).__name__} does not tell its columns.")
    with attribution.without_parameter_gradients(network):
        answers = _explain_batch(network, task, task.inputs(raw), Options())
    return [
        ", ".join([f"{name} {texts[name]}" for name in answer["contributions"] if name in texts][:most])
        for answer, texts in zip(answers, task.row_texts(raw), strict=True)
    ]


def summed_columns(rows: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    """Columns with their contribution to one row, or with the mean size of it over several; the largest first."""
    if len(rows) == 1:
        return list(rows[0]["contributions"].items())
    totals: dict[str, float] = {}
    for row in rows:
        for name, value in row["contributions"].items():
            totals[name] = totals.get(name, 0.0) + abs(value) / len(rows)
    return sorted(totals.items(), key=lambda pair: -pair[1])
