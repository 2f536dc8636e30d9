"""The report's part "nearest training examples": what the network holds for like the pictures that it took wrong."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from layerwise.api.learned import lens_of, some
from layerwise.data.examples import Examples
from layerwise.explain import render
from layerwise.explain.neighbours import nearest
from layerwise.nn.protocols import Features
from layerwise.tasks.base import Batch
from layerwise.track import files

if TYPE_CHECKING:
    from layerwise.train.build import Session

_MOST_ROWS, _NEIGHBOURS = 6, 5
_SIDE, _GAP = 128, 8  # pixels of a picture and between two: together wide enough for a line of their own


def nearest_training_examples(
    session: "Session", worst: list[tuple[dict[str, Any], Batch]], folder: Path
) -> list[list[str]]:
    """Draw the worst mistakes, each with the training examples that are nearest by the cosine of the features.

    The examples searched are some hundreds, a choice with a fixed seed that the cost of a forward pass bounds.

    Args:
        worst: a mistake's row (`label`, `prediction`, `loss`) and its raw columns, one example.
        folder: pictures are written here.

    Returns:
        (caption, file name) of each; empty where the network has no features or the training part no classes.
    """
    network, task = session.network, session.task
    train: Examples | None = None if session.splits is None else session.splits.train
    if not isinstance(network, Features) or train is None or train.labels() is None or not worst:
        return []
    names: list[str] = list(getattr(task, "class_names", []))
    lens = lens_of(session)

    def features(raw: Batch) -> Tensor:
        found = network.forward_features(lens.place(raw)["images"]).float().cpu()
        return found.mean(1) if found.dim() == 3 else found

    worst = worst[:_MOST_ROWS]
    count, size = lens.plan(train)
    chosen = some(train, count)
    with torch.no_grad():
        held = torch.cat([features(train.collate(ids)) for ids in chosen.split(size)])
        asked = torch.cat([features(raw) for _, raw in worst])
    places, cosines = nearest(asked, held, _NEIGHBOURS)
    found: list[list[str]] = []
    for index, ((row, raw), near, likeness) in enumerate(zip(worst, places, cosines.tolist(), strict=True)):
        batch = train.collate(chosen[near])
        tiles = [render.raw_picture(image) for image in (raw["image"][0], *batch["image"])]
        labels = [names[label] for label in batch["labels"].tolist()]
        told = ", ".join(f"{label} ({cosine:.2f})" for label, cosine in zip(labels, likeness, strict=True))
        name = f"nearest-{index:02d}.png"
        page = render.sheet(tiles, columns=len(tiles), side=_SIDE, gap=_GAP)
        page.thumbnail((len(tiles) * (_SIDE + _GAP), page.height))  # of large pictures
        files.write_bytes(folder / name, render.png(page))
        found.append([f"is {row['label']}, taken for {row['prediction']}; nearest: {told}", name])
    return found
