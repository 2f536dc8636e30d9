"""One pass over data for the checks that compare examples: of each it keeps some hundred bytes, whatever its size.

Shapes: N examples of all parts, one part after another; B examples of a batch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.checks import Example, named_parts, row_keys
from layerwise.data.examples import Batch, Examples, Splits
from layerwise.data.picture_hash import perceptual_hashes, thumbnails
from layerwise.data.shingles import plain

MOST_JUDGED = 100_000  # examples whose features are kept
_OUTLINE = 8  # side of the grey pictures kept to compare pictures roughly
_FEATURES = 16  # side of the pictures kept to tell classes apart
NO_LABEL = -1
_BATCH_BYTES = 32 << 20
_MOST_A_BATCH = 2048


@dataclass
class Pictures:
    """What is kept of pictures.

    Args:
        hashes: perceptual, uint64 [N].
        outlines: small grey pictures, centred and of length one, so that products are correlations; float16 [N, 64].
        contrast: standard deviation of the same before, on the scale of the pixels, [N].
        lowest, highest: pixel value, [N].
        blank: whether it is of one colour, [N].
        channels, height, width: as decoded.
    """

    hashes: NDArray[np.uint64]
    outlines: NDArray[np.float16]
    contrast: NDArray[np.float32]
    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    blank: NDArray[np.bool_]
    channels: int
    height: int
    width: int


@dataclass
class Pool:
    """All parts of a data set, one after another.

    Args:
        splits: the data set.
        parts: names of the parts, in their order.
        part: of every example, index in `parts`, [N].
        position: in its part, [N].
        sample_ids: [N].
        labels: class, `NO_LABEL` where there is none, [N]; None where nothing has classes.
        content: hash of the inputs, [N]; equal for equal inputs.
        targets: hash of label and target, [N]; equal rows of a table are copies where these are equal as well.
        pictures: None where examples are none.
        table: raw columns `numeric` [N, F], `categories` [N, G] and `target` [N], as far as there are.
        texts: None where examples are none.
        judged: which examples have `features`, [M].
        features: numbers to tell classes apart by, [M, D], unscaled; None where there are none.
    """

    splits: Splits
    parts: list[str]
    part: NDArray[np.int64]
    position: NDArray[np.int64]
    sample_ids: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    content: NDArray[np.int64]
    targets: NDArray[np.int64]
    pictures: Pictures | None
    table: dict[str, Tensor]
    texts: list[str] | None
    judged: NDArray[np.int64]
    features: Tensor | None

    def __len__(self) -> int:
        return len(self.part)

    @cached_property
    def begins(self) -> dict[str, int]:
        """Where each part begins."""
        return {name: int(np.searchsorted(self.part, place)) for place, name in enumerate(self.parts)}

    def index(self, example: Example) -> int | None:
        """Where an example is; None where its part was not looked at (it is the same object as another)."""
        begin = self.begins.get(example.part)
        return None if begin is None else begin + example.position

    def examples(self, part: str) -> Examples:
        """A part's examples."""
        found: Examples = getattr(self.splits, part)
        return found

    def example(self, index: int, note: str = "", group: int | None = None) -> Example:
        """How a finding names an example."""
        return Example(self.parts[self.part[index]], int(self.position[index]), note, group)

    def collate(self, indices: NDArray[np.int64]) -> dict[int, Batch]:
        """Batches of some examples by part; rows in order of `indices`."""
        made: dict[int, Batch] = {}
        for part, name in enumerate(self.parts):
            here = indices[self.part[indices] == part]
            if len(here):
                made[part] = self.examples(name).collate(torch.from_numpy(self.position[here]))
        return made

    def class_name(self, index: int) -> str:
        """Of an example; empty where it has none."""
        label = NO_LABEL if self.labels is None else int(self.labels[index])
        return "" if label == NO_LABEL else self.name_of(label)

    def name_of(self, label: int) -> str:
        """Of a class; its number where it has no name."""
        names = self.splits.class_names or []
        return names[label] if 0 <= label < len(names) else str(label)

    def count(self, indices: Sequence[int] | NDArray[np.int64]) -> str:
        """How many of some examples lie in which part, as text."""
        counts = np.bincount(self.part[np.asarray(indices, np.int64)], minlength=len(self.parts))
        return ", ".join(f"{n:,} of {name}" for n, name in zip(counts.tolist(), self.parts, strict=True) if n)


def scan(splits: Splits) -> Pool:
    """Go over every example of every part once.

    A part that is the same object as one before it (a truth table is learned from and judged by as a whole) is not
    looked at again.

    Raises:
        DataError: there is no example, or one cannot be read.
    """
    named: list[tuple[str, Examples]] = []
    for name, examples in named_parts(splits):
        if len(examples) and not any(examples is other for _, other in named):
            named.append((name, examples))
    if not named:
        raise DataError("The data has no examples.")
    sizes = [len(examples) for _, examples in named]
    total = sum(sizes)
    judged = np.unique(np.linspace(0, total - 1, min(total, MOST_JUDGED)).astype(np.int64))
    kept: dict[str, list[NDArray[np.generic]]] = {}
    columns: dict[str, list[Tensor]] = {}
    features: list[Tensor] = []
    shape: tuple[int, int, int] | None = None
    first = 0
    whole_texts: list[str] = []
    for _, examples in named:
        texts = examples.texts
        whole_texts += texts or ()
        for ids in torch.arange(len(examples)).split(_batch_size(examples)):
            batch = examples.collate(ids)
            chosen = torch.from_numpy(judged[_between(judged, first, first + len(ids))] - first)
            image = batch.get("image")
            if image is not None and shape is None:
                shape = (int(image.shape[1]), int(image.shape[2]), int(image.shape[3]))
            here = None if texts is None else texts[int(ids[0]) : int(ids[0]) + len(ids)]
            for key, values in _keep(batch, here).items():
                kept.setdefault(key, []).append(values)
            if "numeric" in batch or "categories" in batch:
                for key in ("numeric", "categories", "target"):
                    if key in batch:
                        columns.setdefault(key, []).append(batch[key])
            if (vectors := _features(batch, chosen, shape)) is not None:
                features.append(vectors)
            first += len(ids)
    held = {key: np.concatenate(values) for key, values in kept.items()}
    labels = [examples.labels() for _, examples in named]
    return Pool(
        splits=splits,
        parts=[name for name, _ in named],
        part=np.repeat(np.arange(len(named)), sizes),
        position=np.concatenate([np.arange(size) for size in sizes]),
        sample_ids=held["sample_ids"].astype(np.int64),
        labels=None
        if all(each is None for each in labels)
        else np.concatenate(
            [
                np.full(size, NO_LABEL) if each is None else each.numpy().astype(np.int64)
                for each, size in zip(labels, sizes, strict=True)
            ]
        ),
        content=held["content"].astype(np.int64) if "content" in held else np.arange(total),
        targets=held["targets"].astype(np.int64),
        pictures=None
        if shape is None
        else Pictures(
            held["hashes"].astype(np.uint64),
            held["outlines"].astype(np.float16),
            held["contrast"].astype(np.float32),
            held["lowest"].astype(np.float32),
            held["highest"].astype(np.float32),
            held["blank"].astype(np.bool_),
            *shape,
        ),
        table={key: torch.cat(values) for key, values in columns.items()},
        texts=whole_texts if len(whole_texts) == total else None,
        judged=judged,
        features=torch.cat(features) if sum(len(each) for each in features) == len(judged) else None,
    )


def _between(values: NDArray[np.int64], start: int, stop: int) -> slice:
    low, high = np.searchsorted(values, [start, stop])
    return slice(int(low), int(high))


def _batch_size(examples: Examples) -> int:
    """As many examples as fit into some megabytes."""
    first = examples.collate(torch.tensor([0]))
    size = sum(column.nbytes for column in first.values() if len(column) == 1)
    return max(1, min(_MOST_A_BATCH, _BATCH_BYTES // max(1, 4 * size)))


def _rows(batch: Batch) -> Tensor | None:
    """Features of a batch of graph nodes; None for all else."""
    return batch["features"][batch["nodes"]] if "features" in batch and "nodes" in batch else None


def _keep(batch: Batch, texts: Sequence[str] | None) -> dict[str, NDArray[np.generic]]:
    size = len(batch["sample_ids"])
    outputs = [batch[name] for name in ("labels", "target") if name in batch and len(batch[name]) == size]
    vectors = _rows(batch)
    if texts is not None:
        inputs = [torch.tensor([hash_text(plain(text)) for text in texts])]
    elif "image" in batch:
        inputs = [batch["image"]]
    elif vectors is not None:
        inputs = [vectors]
    else:
        inputs = [
            column
            for name, column in sorted(batch.items())
            if name not in ("labels", "target", "sample_ids") and len(column) == size
        ]
    # Shapes of targets may differ from part to part; equal values still give equal hashes.
    kept: dict[str, NDArray[np.generic]] = {
        "sample_ids": batch["sample_ids"].numpy(),
        "targets": row_keys([output.double() for output in outputs]) if outputs else np.zeros(size, np.int64),
    }
    if inputs:
        kept["content"] = row_keys(inputs)
    if "image" in batch:
        image = batch["image"]
        lowest, highest = image.flatten(2).aminmax(dim=2)
        small = thumbnails(image.float().mean(1, keepdim=True), _OUTLINE).flatten(1)
        kept |= {
            "hashes": perceptual_hashes(image),
            "outlines": centred(small).half().numpy(),
            "contrast": small.std(1).numpy(),
            "lowest": lowest.amin(1).float().numpy(),
            "highest": highest.amax(1).float().numpy(),
            "blank": (lowest == highest).all(1).numpy(),
        }
    return kept


def _features(batch: Batch, chosen: Tensor, shape: tuple[int, int, int] | None) -> Tensor | None:
    """Pixels of pictures brought to one small size, or a node's features; tables and texts have others."""
    if "image" in batch and shape is not None:
        image = batch["image"][chosen].float()
        if image.shape[1] != shape[0]:
            image = image.mean(1, keepdim=True).expand(-1, shape[0], -1, -1)
        return thumbnails(image, _FEATURES).flatten(1).round().clamp(0, 255).to(torch.uint8)
    vectors = _rows(batch)
    return None if vectors is None else vectors[chosen]


def centred(rows: Tensor) -> Tensor:
    """Rows [N, D] less their mean, of length one: their products are correlations."""
    rows = rows - rows.mean(1, keepdim=True)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-6)


def hash_text(text: str) -> int:
    """63 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1
