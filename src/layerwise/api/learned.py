"""The report's part "what each layer learned": which examples, what it may cost, what is written where."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from layerwise.core.errors import LayerwiseError
from layerwise.data.examples import Examples as Split
from layerwise.explain import learned, render
from layerwise.explain.layers import as_vectors, recorded_layers, shape_text
from layerwise.tasks.base import Batch, Task, wilson_interval
from layerwise.track import files
from layerwise.train.loop import place

if TYPE_CHECKING:
    from layerwise.train.build import Session

_MOST, _FEWEST = 1000, 100  # examples of each part
_MOST_DECODED = 300  # where each example is a file to be read
_WORK = 3e11  # floating-point operations, a few seconds
_VALUES = 1 << 24  # of all layers that are in memory at once
_POINTS = 400  # of a map
_SEED = 0
# What data, weights and machine may cause; anything else is a mistake of the code and is not hidden.
_EXPECTED = (LayerwiseError, torch.linalg.LinAlgError, torch.OutOfMemoryError)  # pyright: ignore[reportPrivateImportUsage]

Json = dict[str, Any]


def what_layers_learned(session: "Session", folder: Path) -> tuple[Json, list[str]]:
    """Probe, maps, filters and feature maps of a finished network, pictures written into `folder`.

    Nothing here steers training or reads the test part. What cannot be made is said, and the rest is made.

    Returns:
        A tree for `report.json`, empty where the task has no classes to tell apart; plain sentences on what is missing.

    Raises:
        StorageError: a picture cannot be written.
    """
    task, network, splits = session.task, session.network, session.splits
    classes: list[str] = list(getattr(task, "class_names", []))
    if task.explains is None or splits is None or splits.train is None or len(classes) < 2:
        return {}, []
    train, val = splits.train, splits.val
    if val is None or train.labels() is None:
        return {}, ["What each layer learned is not shown: that takes a validation part and a class for each example."]
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    lens = lens_of(session)
    tree: Json = {}
    missing: list[str] = []
    parts = {
        "probe": lambda: _probe_and_maps(lens, train, val, classes),
        "filters": lambda: _filters(lens, folder),
        "feature_maps": lambda: _feature_maps(lens, val, folder),
    }
    names = {"probe": "probe by depth", "filters": "first-layer filters", "feature_maps": "feature maps"}
    for key, make in parts.items():
        if task.explains != "pixels" and key != "probe":
            continue
        try:
            tree |= make()
        except _EXPECTED as error:
            missing.append(f"The {names[key]} could not be made: {str(error).splitlines()[0]}")
    return tree, missing


def lens_of(session: "Session") -> "Lens":
    """The session's network as it is looked through."""
    return Lens(session.task, session.network, session.device, session.choices["channels_last"])


class Lens:
    """Runs the network on raw examples and takes its layers.

    Args:
        task: gives the model inputs.
        network: in eval mode.
        device: it is on.
        channels_last: its memory format.
    """

    def __init__(self, task: Task, network: nn.Module, device: torch.device, channels_last: bool) -> None:
        self.task, self.network, self.device, self.channels_last = task, network, device, channels_last

    def inputs(self, examples: Split, ids: Tensor) -> Batch:
        """Model inputs of some examples, on the device."""
        return self.place(examples.collate(ids))

    def place(self, raw: Batch) -> Batch:
        """Model inputs of raw columns, on the device."""
        return place(self.task.inputs(raw), self.device, self.channels_last)

    def run(self, batch: Batch) -> Tensor:
        """Class scores."""
        return self.task.scores(self.network, batch)

    def vectors(self, batch: Batch) -> tuple[Tensor, str]:
        """The input itself as a vector an example, and what it is in words; categories are one-hot."""
        if "images" in batch:
            return as_vectors(batch["images"], learned.MOST_VALUES), shape_text(batch["images"])
        sizes: tuple[int, ...] = self.task.facts()["category_sizes"]
        columns = batch["categories"].unbind(1)
        hot = [F.one_hot(column, size) for column, size in zip(columns, sizes, strict=True)]
        return torch.cat([batch["numeric"], *hot], dim=1), f"{batch['numeric'].shape[1] + sum(sizes)} values"

    def batches(self, examples: Split, chosen: Tensor, size: int) -> Iterator[tuple[Tensor, str, Any, Tensor]]:
        """Batches as `learned.collect` takes them."""
        for ids in chosen.split(size):
            batch = self.inputs(examples, ids)
            vectors, words = self.vectors(batch)
            yield vectors, words, lambda batch=batch: self.run(batch), batch["labels"]

    def plan(self, examples: Split) -> tuple[int, int]:
        """Examples of each part that the work allows, and how many to run at once."""
        batch = self.inputs(examples, torch.tensor([0]))
        with torch.no_grad(), recorded_layers(self.network) as layers, FlopCounterMode(display=False) as counter:
            self.run(batch)
        values = sum(features.numel() for features in layers.values())
        affordable = int(_WORK / 2 / max(1, counter.get_total_flops()))
        most = _MOST_DECODED if examples.decodes else _MOST
        return min(most, max(_FEWEST, affordable)), max(1, min(256, _VALUES // max(1, values)))


def some(examples: Split, count: int) -> Tensor:
    """Indices of `count` examples, drawn with a fixed seed, in order."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(_SEED))
    return order[:count].sort().values


def _probe_and_maps(lens: Lens, train: Split, val: Split, classes: list[str]) -> Json:
    count, size = lens.plan(train)
    seen = learned.collect(lens.network, lens.batches(train, some(train, count), size))
    held = learned.collect(lens.network, lens.batches(val, some(val, count), size))
    rows = [
        _row(_called(lens.task, probe.layer), probe.gives, probe.right, probe.count)
        for probe in learned.probes_by_depth(seen, held, len(classes))
    ]
    right = int((held.predicted == held.labels).sum())
    rows.append(_row("network", f"{len(classes)} scores", right, len(held.labels)))
    maps = [
        {
            "layer": _called(lens.task, name),
            "share": share,
            "points": [[round(v, 3) for v in p] for p in places.tolist()],
        }
        for name, places, share in learned.maps_by_depth(held, _POINTS)
    ]
    labels = held.labels[:_POINTS].tolist()
    return {
        "probe": {"rows": rows, "train": len(seen.labels), "val": len(held.labels)},
        "maps": {"layers": maps, "labels": labels, "class_names": classes},
    }


def _row(layer: str, gives: str, right: int, count: int) -> Json:
    low, high = wilson_interval(right, count)
    gives = gives.replace(" x ", "\N{NO-BREAK SPACE}x\N{NO-BREAK SPACE}")  # narrow screens break it before
    return {"layer": layer, "gives": gives, "accuracy": right / count, "low": low, "high": high}


def _called(task: Task, layer: str) -> str:
    return {"pixels": "pixels", "columns": "columns"}[task.explains or ""] if layer == "input" else layer


def _filters(lens: Lens, folder: Path) -> Json:
    channels, (height, width) = lens.task.facts()["in_channels"], getattr(lens.task, "image_size", (0, 0))
    found = learned.first_filters(lens.network, channels, (height, width))
    if found is None:
        return {}
    files.write_bytes(folder / "filters.png", render.png(found[1]))
    return {"filters": [found[0], "filters.png"]}


def _feature_maps(lens: Lens, val: Split, folder: Path) -> Json:
    """Of the first validation example."""
    batch = lens.inputs(val, torch.tensor([0]))
    raw = val.collate(torch.tensor([0]))["image"][0]
    shown = [("the example", render.sheet([render.raw_picture(raw)], columns=1, side=112))]
    shown += learned.feature_maps(lens.network, lambda: lens.run(batch))
    found: list[list[str]] = []
    for index, (caption, picture) in enumerate(shown):
        name = f"feature-maps-{index:02d}.png"
        files.write_bytes(folder / name, render.png(picture))
        found.append([caption, name])
    return {"feature_maps": found}
