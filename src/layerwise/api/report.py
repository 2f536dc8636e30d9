"""The verb `report`: what a run reached, beside the classical methods, as a page, a card and a short table."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layerwise.core.config import parse, read_yaml
from layerwise.core.console import Console
from layerwise.core.errors import UnsupportedError
from layerwise.infer.generate import TextCodec
from layerwise.tasks.base import Task
from layerwise.tasks.image_generation import ImageGeneration
from layerwise.track import files
from layerwise.track.charts import Scatter, number
from layerwise.track.report import Baseline, ReportData, Section, write_card, write_report
from layerwise.track.run_directory import RunDirectory
from layerwise.train.recipe import Recipe

_FACTS = "report.json"
_MOST_SNAPSHOTS = 4  # of a run that is not finished
_LONGEST_TEXT = 300  # characters shown of a text


def write_final_report(
    directory: RunDirectory,
    session: Any,
    trainer: Any,
    metrics: dict[str, float],
    tables: dict[str, Any],
    console: Console,
) -> None:
    """Collect what the session knows, write `report.json`, the page and the card, and print the short table."""
    import torch

    from layerwise.api.baseline import beside, table_line
    from layerwise.api.learned import what_layers_learned

    recipe, splits = session.recipe, session.splits
    seconds = 60 * trainer.minutes()  # what follows is no training
    pictures: list[list[str]] = []
    with torch.no_grad():
        for caption, path in session.task.pictures(session.network, splits, directory.path / "pictures"):
            pictures.append([caption, str(path.relative_to(directory.path))])
        remarks, drawn = session.task.course(session.network, splits, trainer.objective, directory.path / "pictures")
    pictures_wrong, neighbours = _show_most_wrong(session, directory, tables)
    tables = _with_texts(splits, tables)
    learned, missing = what_layers_learned(session, directory.path / "pictures")
    rows = []
    part = "test" if any(name.startswith("test/") for name in metrics) else "val"
    headline, higher = _headline(session.task.monitor, part, metrics, tables)
    if splits is not None and recipe.data is not None and headline is not None and headline in metrics:
        try:
            rows = beside(recipe.data, splits, recipe.seed, headline.split("/")[1], console.info)
        except UnsupportedError as error:  # the network's report does not fail for them
            console.warn(str(error))
    facts: dict[str, Any] = {
        "model": recipe.model.name,
        "parameters": f"{sum(p.numel() for p in session.network.parameters()):,}",
    }
    if splits is not None and recipe.data is not None:
        facts |= {"data": recipe.data.name} | {
            n: f"{len(e):,} examples" for n in ("train", "val", "test") if (e := getattr(splits, n)) is not None
        }
    if recipe.init is not None:
        facts["weights began as"] = recipe.init
    facts |= {
        "steps": f"{trainer.settings.first_step + trainer.step:,}",
        "training time": f"{seconds:.1f} s",
        "ended": trainer.reason,
        "seed": str(recipe.seed),
    }
    best = trainer.best
    origin = f"best val/{trainer.settings.monitor[0]}, step {best['step']}" if best else "last step"
    tree = {
        "facts": facts,
        "part": part,
        "headline": headline,
        "higher": higher,
        "metrics": metrics,
        "tables": tables,
        "baselines": rows,
        "pictures": pictures,
        "course": {"remarks": remarks, "pictures": [[c, str(p.relative_to(directory.path))] for c, p in drawn]},
        "most_wrong": pictures_wrong,
        "nearest": neighbours,
        "learned": learned,
        "seconds": seconds,
        "selected_by": origin + (", averaged weights" if recipe.ema else ""),
        "warnings": [*(splits.warnings if splits else []), *missing],
        "length": _length(recipe, trainer.settings.max_steps),
        "example_input": session.task.example_input,
        "explains": session.task.explains,
        "generate": _generation(session.task),
    }
    files.write_json(directory.path / _FACTS, tree)
    directory.set_status("finished", trainer.settings.first_step + trainer.step, trainer.reason)
    rewrite_report(directory.path)
    if headline in metrics and rows:
        interval = tables.get("intervals", {}).get(headline.split("/")[1])
        console.info(f"\n{headline} on {tables.get('count', '')} examples, with 95 % intervals:")
        console.info(table_line(recipe.model.name, metrics[headline], interval, seconds, None))
        for row in rows:
            console.info(row["line"])
        close = [
            r["name"]
            for r in rows
            if interval and r["interval"] and r["interval"][1] >= interval[0] and r["interval"][0] <= interval[1]
        ]
        if close:
            console.info(
                f"The intervals of the network and of {', '.join(close)} overlap: on this data they cannot be told "
                "apart."
            )
    for remark in remarks:
        console.info(remark)
    console.info(f"\nreport: {directory.report}")
    console.info("next:")
    for _, command in _commands(directory, tree):
        console.info(f"  {command}")


def _headline(
    monitor: tuple[str, str] | None, part: str, metrics: Mapping[str, float], tables: Mapping[str, Any]
) -> tuple[str | None, bool]:
    """The figure that counts, and whether higher is better: the one that selects weights, or where that is a loss the
    first one with an interval.
    """
    if monitor is None:
        return None, True
    stated = [name for name in tables.get("intervals", {}) if f"{part}/{name}" in metrics]
    if monitor[0] == "loss" and stated:
        return f"{part}/{stated[0]}", True
    return f"{part}/{monitor[0]}", monitor[1] == "max"


def _commands(directory: RunDirectory, tree: dict[str, Any]) -> list[tuple[str, str]]:
    """Next steps for this task, by what `report.json` says of it."""
    path = shlex.quote(str(directory.path))
    example, explains = tree.get("example_input"), tree.get("explains")
    commands = [("Evaluate again", f"layerwise eval {path}")]
    if tree.get("generate"):
        commands.append(("Make new samples", f"layerwise generate {path} {tree['generate']}"))
    if example is not None:
        commands.append(("Predict", f"layerwise predict {path} {example}"))
    if explains in ("pixels", "columns"):
        commands.append(("Explain an answer", f"layerwise explain {path} {example or 'picture.png'}"))
    return [
        *commands,
        ("Train longer", f"layerwise train {path} {tree.get('length', 'epochs')}=..."),
        ("All models", "layerwise list models"),
    ]


def _length(recipe: Recipe, steps: int | None) -> str:
    """The key that made training end after so many steps: the last stage's, or the recipe's."""
    stage = recipe.stages[-1] if recipe.stages else None
    for name in ("max_steps", "epochs"):
        own = getattr(stage, name, None)
        value = getattr(recipe, name) if own is None else own
        if value is not None and (name == "epochs" or value == steps):
            return name if stage is None or own is None else f"stages.{stage.name}.{name}"
    return "max_steps"


def _generation(task: Task) -> str | None:
    """What a person may type behind `layerwise generate RUN`; None: nothing is made."""
    if isinstance(task, TextCodec):
        return '--prompt "Once"'
    if isinstance(task, ImageGeneration):
        prompt = ' --prompt "some text"' if task.config.condition == "caption" else ""
        return f"-n 16 -o samples.png{prompt}"
    return None


def _throughput(lines: Sequence[Mapping[str, Any]], batch_size: int) -> dict[str, str]:
    """Samples a second and the time of a step, from the lines of `metrics.jsonl`."""
    rates = sorted(float(line["samples_per_s"]) for line in lines if line.get("samples_per_s"))
    if not rates:
        return {}
    rate, low, high = (rates[round(share * (len(rates) - 1))] for share in (0.5, 0.1, 0.9))
    spread = f"median; four in five between {number(round(low))} and {number(round(high))}"
    return {
        "samples per second": f"{number(round(rate))} ({spread})",
        "time of a step": f"{1000 * batch_size / rate:.3g} ms for {number(batch_size)} samples",
    }


_PROBE = (
    "How well a linear classifier (ridge regression, its strength by leave-one-out) tells the classes apart from a "
    "layer's features alone, fitted on {train} training examples and read on {val} validation examples. Large maps are "
    "averaged over windows first. The more a layer has sorted out, the higher its figure; the last is the network's."
)
_MAPS = (
    "{count} validation examples, each a point, in the plane in which the layer's features vary most (principal "
    "components). Classes that a layer has sorted out lie apart."
)
_FEATURE_MAPS = "What each layer gives for one validation example, dark for its least and light for its largest value."


def _learned_sections(tree: dict[str, Any], folder: Path) -> list[Section]:
    """What each layer learned, from `report.json`."""
    sections: list[Section] = []
    if probe := tree.get("probe"):
        text = _PROBE.format(train=number(probe["train"]), val=number(probe["val"]))
        sections.append(Section(title="What each layer learned", text=text, rows=probe["rows"]))
    if maps := tree.get("maps"):
        scatters = [
            Scatter(
                title=layer["layer"],
                points=[(x, y) for x, y in layer["points"]],
                labels=maps["labels"],
                names=maps["class_names"],
                note=f"{100 * layer['share']:.0f} % of the variance",
            )
            for layer in maps["layers"]
        ]
        text = _MAPS.format(count=number(len(maps["labels"])))
        sections.append(Section(title="Each layer's features in two dimensions", text=text, scatters=scatters))
    if filters := tree.get("filters"):
        sections.append(Section(title="First-layer filters", pictures=[(filters[0], folder / filters[1])]))
    if shown := tree.get("feature_maps"):
        pictures = [(caption, folder / name) for caption, name in shown]
        sections.append(Section(title="Feature maps of an example", text=_FEATURE_MAPS, pictures=pictures))
    return sections


def _with_texts(splits: Any, tables: dict[str, Any]) -> dict[str, Any]:
    """The tables with the text of each of the worst mistakes where examples are texts."""
    examples = None if splits is None else splits.test if splits.test is not None else splits.val
    texts = None if examples is None else examples.texts
    if not tables.get("most_wrong") or examples is None or texts is None:
        return tables
    place = _places(examples)
    rows = [{"text": texts[place[row["sample_id"]]][:_LONGEST_TEXT], **row} for row in tables["most_wrong"]]
    return {**tables, "most_wrong": rows}


def _places(examples: Any) -> dict[int, int]:
    """Sample id -> position."""
    import torch

    found: dict[int, int] = {}
    for ids in torch.arange(len(examples)).split(2048):
        found |= dict(zip(examples.collate(ids)["sample_ids"].tolist(), ids.tolist(), strict=True))
    return found


def _show_most_wrong(
    session: Any, directory: RunDirectory, tables: dict[str, Any]
) -> tuple[list[list[str]], list[list[str]]]:
    """Make the worst mistakes ones that a person can see: pictures are saved, (caption, file), and once more beside the
    training examples nearest to them; rows of a table get the columns that the answer rests on.
    """
    import torch

    from layerwise.api.neighbours import nearest_training_examples

    splits = session.splits
    rows = [row for row in tables.get("most_wrong", []) if row["label"] != row["prediction"]]
    examples = None if splits is None else splits.test if splits.test is not None else splits.val
    if not rows or examples is None or not len(examples):
        return [], []
    columns = set(examples.collate(torch.tensor([0])))
    pictured = "image" in columns
    if not pictured and not (session.task.explains == "columns" and {"numeric", "categories"} <= columns):
        return [], []
    place: dict[int, int] = {}
    for ids in torch.arange(len(examples)).split(2048):
        place |= dict(zip(examples.collate(ids)["sample_ids"].tolist(), ids.tolist(), strict=True))
    if pictured:
        worst = [(row, examples.collate(torch.tensor([place[row["sample_id"]]]))) for row in rows[:12]]
        saved = _save_pictures(directory, [(row, raw["image"][0]) for row, raw in worst])
        near = nearest_training_examples(session, worst, directory.path / "pictures")
        return saved, [[caption, f"pictures/{name}"] for caption, name in near]
    from layerwise.api.explain import row_summaries

    raw = examples.collate(torch.tensor([place[row["sample_id"]] for row in rows]))
    raw = {name: value.to(session.device) for name, value in raw.items()}
    for row, text in zip(rows, row_summaries(session.network, session.task, raw), strict=True):
        row["the answer rests on"] = text
    return [], []


def _save_pictures(directory: RunDirectory, worst: Sequence[tuple[dict[str, Any], Any]]) -> list[list[str]]:
    """Small pictures are enlarged by a whole factor."""
    from PIL import Image

    folder = directory.path / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[list[str]] = []
    for row, image in worst:
        array = image.permute(1, 2, 0).numpy()
        picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        scale = max(1, 96 // max(picture.size))
        path = folder / f"wrong-{len(found):02d}.png"
        picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
        caption = f"is {row['label']}, taken for {row['prediction']} (loss {row['loss']:.2f})"
        found.append([caption, str(path.relative_to(directory.path))])
    return found


def _snapshots(directory: RunDirectory) -> list[list[str]]:
    """What a run has drawn so far: the newest few."""
    found = sorted((directory.path / "pictures").glob("samples-*.png"))[-_MOST_SNAPSHOTS:]
    return [[f"Step {int(path.stem.split('-')[1]):,}", f"pictures/{path.name}"] for path in found]


def rewrite_report(run: str | Path) -> Path:
    """Write `report.html` and `card.md` of a run from what is on disk; works for a run that is not finished."""
    directory = RunDirectory(run)
    recipe: Recipe = parse(Recipe, read_yaml(directory.read_config(), str(directory.config)), trust=True)
    path = directory.path / _FACTS
    tree = files.read_json(path) if path.exists() else {}
    metrics = {name.split("/", 1)[1]: value for name, value in tree.get("metrics", {}).items()}
    intervals = {name: tuple(pair) for name, pair in tree.get("tables", {}).get("intervals", {}).items()}
    baselines = [
        Baseline(
            name=row["name"],
            value=row["value"],
            interval=tuple(row["interval"]) if row["interval"] else None,
            seconds=row["fit_s"],
            note=row.get("note", ""),
        )
        for row in tree.get("baselines", [])
    ]
    name = directory.read_env().get("choices", {}).get("recipe", directory.path.name)
    data = f" on {recipe.data.name}" if recipe.data is not None else ""
    details = {k: v for k, v in tree.get("tables", {}).items() if k != "intervals"}
    course = tree.get("course", {"remarks": [], "pictures": _snapshots(directory)})
    learning = Section(
        title="How learning went",
        text=" ".join(course["remarks"]),
        pictures=[(c, directory.path / p) for c, p in course["pictures"]],
    )
    nearby = Section(
        title="Nearest training examples",
        text="A picture that was taken wrong, then those of the training part whose features point most nearly the "
        "same way, with class and cosine."
        if tree.get("nearest")
        else "",
        pictures=[(c, directory.path / p) for c, p in tree.get("nearest", [])],
    )
    by = f" by {recipe.objective.name.replace('_', ' ')}" if recipe.objective is not None else ", with nothing to learn"
    report = ReportData(
        title=f"{recipe.model.name}{data}",
        summary=f"Recipe {name}: {recipe.task.name.replace('_', ' ')}{by}.",
        facts=tree.get("facts", {}),
        split={"test": "test", "val": "validation"}[tree.get("part", "val")],
        headline=(tree.get("headline") or "/").split("/", 1)[1] or None,
        higher_is_better=tree.get("higher", True),
        metrics=metrics,
        intervals=intervals,
        seconds=tree.get("seconds"),
        baselines=baselines,
        details=details,
        pictures=[(c, directory.path / p) for c, p in tree.get("pictures", [])],
        most_wrong=[(c, directory.path / p) for c, p in tree.get("most_wrong", [])],
        sections=[learning, nearby, *_learned_sections(tree.get("learned", {}), directory.path / "pictures")],
        throughput=_throughput(directory.metrics_log().read(), recipe.batch_size),
        commands=_commands(directory, tree),
        selected_by=tree.get("selected_by", ""),
        warnings=tree.get("warnings", []) if tree else ["This run is not finished."],
    )
    write_card(directory, report)
    return write_report(directory, report)
