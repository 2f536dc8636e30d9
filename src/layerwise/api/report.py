"""The verb `report`: what a run reached, beside the classical methods, as a page, a card and a short table."""

from pathlib import Path
from typing import Any

from layerwise.core.config import parse, read_yaml
from layerwise.core.console import Console
from layerwise.infer.generate import TextCodec
from layerwise.track import files
from layerwise.track.report import Baseline, ReportData, write_card, write_report
from layerwise.track.run_directory import RunDirectory
from layerwise.train.recipe import Recipe

_FACTS = "report.json"


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

    from layerwise.api.baseline import compare, is_cheap, table_line

    recipe, splits = session.recipe, session.splits
    pictures: list[list[str]] = []
    with torch.no_grad():
        for caption, path in session.task.pictures(session.network, splits, directory.path / "pictures"):
            pictures.append([caption, str(path.relative_to(directory.path))])
    pictures_wrong = _most_wrong_pictures(directory, splits, tables)
    rows = []
    part = "test" if any(name.startswith("test/") for name in metrics) else "val"
    headline = f"{part}/{session.task.monitor[0]}" if session.task.monitor else None
    if splits is not None and headline == "test/accuracy" and is_cheap(splits):
        console.info("comparing with classical methods on the same split ...")
        rows = compare(splits, recipe.seed, ("svm", "random forest"))
    seconds = 60 * trainer.minutes()
    facts: dict[str, Any] = {
        "model": recipe.model.name,
        "parameters": f"{sum(p.numel() for p in session.network.parameters()):,}",
    }
    if splits is not None and recipe.data is not None:
        facts |= {"data": recipe.data.name} | {
            n: f"{len(e):,} examples" for n in ("train", "val", "test") if (e := getattr(splits, n)) is not None
        }
    facts |= {
        "steps": f"{trainer.settings.first_step + trainer.step:,}",
        "training time": f"{seconds:.1f} s",
        "seed": str(recipe.seed),
    }
    best = trainer.best
    origin = f"best val/{trainer.settings.monitor[0]}, step {best['step']}" if best else "last step"
    tree = {
        "facts": facts,
        "part": part,
        "headline": headline,
        "higher": session.task.monitor is None or session.task.monitor[1] == "max",
        "metrics": metrics,
        "tables": tables,
        "baselines": rows,
        "pictures": pictures,
        "most_wrong": pictures_wrong,
        "seconds": seconds,
        "selected_by": origin + (", averaged weights" if recipe.ema else ""),
        "warnings": list(splits.warnings) if splits else [],
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
            r["name"] for r in rows if interval and r["interval"][1] >= interval[0] and r["interval"][0] <= interval[1]
        ]
        if close:
            console.info(
                f"The intervals of the network and of {' and '.join(close)} overlap: on this data they cannot be told "
                "apart."
            )
    console.info(f"\nreport: {directory.report}")
    console.info("next:")
    for _, command in _commands(directory, session.task.predicts, isinstance(session.task, TextCodec)):
        console.info(f"  {command}")


def _commands(directory: RunDirectory, predicts: str | None, prompts: bool) -> list[tuple[str, str]]:
    commands = [("Evaluate again", f"layerwise eval {directory.path}")]
    example = {"files": "picture.png", "rows": "rows.csv", "text": '"some text"'}
    if prompts:
        commands.append(("Write text", f'layerwise generate {directory.path} --prompt "Once"'))
    if predicts is not None:
        commands.append(("Predict", f"layerwise predict {directory.path} {example[predicts]}"))
    return [
        *commands,
        ("Train longer", f"layerwise train {directory.path} epochs=..."),
        ("All models", "layerwise list models"),
    ]


def _most_wrong_pictures(directory: RunDirectory, splits: Any, tables: dict[str, Any]) -> list[list[str]]:
    """Save the worst mistakes of an image classifier as small pictures."""
    import torch
    from PIL import Image

    rows = tables.get("most_wrong", [])
    examples = None if splits is None else splits.test if splits.test is not None else splits.val
    if not rows or examples is None or not len(examples):
        return []
    wrong = [row for row in rows if row["label"] != row["prediction"]]
    if not wrong or "image" not in examples.collate(torch.tensor([0])):
        return []
    place: dict[int, int] = {}
    for ids in torch.arange(len(examples)).split(2048):
        place |= dict(zip(examples.collate(ids)["sample_ids"].tolist(), ids.tolist(), strict=True))
    folder = directory.path / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[list[str]] = []
    for row in wrong[:12]:
        image = examples.collate(torch.tensor([place[row["sample_id"]]]))["image"][0]
        array = image.permute(1, 2, 0).numpy()
        picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        scale = max(1, 96 // max(picture.size))
        path = folder / f"wrong-{len(found):02d}.png"
        picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(path)
        found.append(
            [
                f"is {row['label']}, taken for {row['prediction']} (loss {row['loss']:.2f})",
                str(path.relative_to(directory.path)),
            ]
        )
    return found


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
        )
        for row in tree.get("baselines", [])
    ]
    name = directory.read_env().get("choices", {}).get("recipe", directory.path.name)
    data = f" on {recipe.data.name}" if recipe.data is not None else ""
    details = {k: v for k, v in tree.get("tables", {}).items() if k != "intervals"}
    report = ReportData(
        title=f"{recipe.model.name}{data}",
        summary=f"Recipe {name}: {recipe.task.name.replace('_', ' ')} by {recipe.objective.name.replace('_', ' ')}.",
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
        selected_by=tree.get("selected_by", ""),
        warnings=tree.get("warnings", []) if tree else ["This run is not finished."],
    )
    write_card(directory, report)
    return write_report(directory, report)
