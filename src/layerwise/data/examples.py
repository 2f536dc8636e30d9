"""One split of a data set: examples that are collated by index, without Python per sample where they lie in memory."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor

from layerwise.core.errors import DataError

Batch = dict[str, Tensor]
Windows = Callable[[Tensor, Tensor], Tensor]


class Examples(ABC):
    """A finite split. Columns are raw: uint8 pictures [B, C, H, W] under `image`, integers under `labels`, floats
    under `features` ...
    """

    # Whether collating reads and decodes files, so that doing it ahead in a thread pays.
    decodes: bool = False
    # Whether each example goes on where the one before it ends (windows of one text), so that they may be read as
    # streams. A sample's id is then the position of its first token.
    consecutive: bool = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def collate(self, indices: Tensor) -> Batch:
        """The examples at int64 `indices`, collated; always with `sample_ids` [B], stable over epochs and runs."""

    def collate_windows(self, indices: Tensor, windows: Windows, size: tuple[int, int] | None) -> Batch:
        """As `collate`, with windows of the pictures' files in place of the whole pictures.

        Args:
            windows: (sample ids [B], rows and columns of their pictures [B, 2]) -> (top, left, height, width) [B, 4].
            size: height and width that windows are resized to; None takes that of the whole pictures.

        Raises:
            DataError: there are no picture files.
        """
        raise DataError("random_resized_crop.source=file cuts windows out of picture files; this data has none.")

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the content, equal for equal examples in equal order."""

    def at_epoch(self, seed: int, epoch: int) -> "Examples":
        """The examples of one pass, where they differ from pass to pass (packing): as many, a pure function of seed and
        epoch. Most are the same in every pass.
        """
        return self

    def labels(self) -> Tensor | None:
        """Class of every example [N] if examples have one (stratified splits, data checks); None else."""
        return None

    def shards(self) -> Tensor | None:
        """The archive that every example lies in, int64 [N], where going from one to another for every example would
        be slow; None else.
        """
        return None

    @property
    def texts(self) -> Sequence[str] | None:
        """The text of every example where examples are texts (classical methods, data checks); None else."""
        return None


class TensorExamples(Examples):
    """Columns that lie in memory as tensors of equal length.

    Args:
        columns: name -> tensor [N, ...].
        sample_ids: int64 [N]; None numbers from 0.

    Example:
        >>> examples = TensorExamples({"features": torch.arange(6.0).view(3, 2)})
        >>> examples.collate(torch.tensor([2]))["features"].tolist()
        [[4.0, 5.0]]
    """

    def __init__(self, columns: Mapping[str, Tensor], sample_ids: Tensor | None = None) -> None:
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns must have one length, got {lengths}")
        self.columns = {name: column.contiguous() for name, column in columns.items()}
        self.sample_ids = torch.arange(next(iter(lengths.values()))) if sample_ids is None else sample_ids
        self._numbered = sample_ids is None

    def __len__(self) -> int:
        return len(self.sample_ids)

    def collate(self, indices: Tensor) -> Batch:
        batch = {name: column.index_select(0, indices) for name, column in self.columns.items()}
        batch["sample_ids"] = indices if self._numbered else self.sample_ids.index_select(0, indices)
        return batch

    def labels(self) -> Tensor | None:
        labels = self.columns.get("labels")
        return labels if labels is not None and labels.dim() == 1 and not labels.is_floating_point() else None

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name in sorted(self.columns):
            column = self.columns[name]
            digest.update(f"{name}{tuple(column.shape)}{column.dtype}".encode())
            digest.update(column.contiguous().view(-1).view(torch.uint8).numpy().data if column.numel() else b"")
        return digest.hexdigest()[:32]


class Subset(Examples):
    """Some of another split's examples, in the order of `indices` (int64 [M]); sample ids stay those of the parent."""

    def __init__(self, parent: Examples, indices: Tensor) -> None:
        self.parent, self.indices, self.decodes = parent, indices, parent.decodes

    def __len__(self) -> int:
        return len(self.indices)

    def at_epoch(self, seed: int, epoch: int) -> Examples:
        parent = self.parent.at_epoch(seed, epoch)
        return self if parent is self.parent else Subset(parent, self.indices)

    def collate(self, indices: Tensor) -> Batch:
        return self.parent.collate(self.indices.index_select(0, indices))

    def collate_windows(self, indices: Tensor, windows: Windows, size: tuple[int, int] | None) -> Batch:
        return self.parent.collate_windows(self.indices.index_select(0, indices), windows, size)

    def labels(self) -> Tensor | None:
        labels = self.parent.labels()
        return None if labels is None else labels.index_select(0, self.indices)

    def shards(self) -> Tensor | None:
        shards = self.parent.shards()
        return None if shards is None else shards.index_select(0, self.indices)

    @property
    def texts(self) -> Sequence[str] | None:
        texts = self.parent.texts
        if texts is None or isinstance(texts, list):
            return None if texts is None else [texts[i] for i in self.indices.tolist()]
        return ChosenTexts(texts, self.indices)

    def fingerprint(self) -> str:
        return hashlib.sha256(self.parent.fingerprint().encode() + self.indices.numpy().tobytes()).hexdigest()[:32]


class ChosenTexts(Sequence[str]):
    """Some of texts that are decoded when they are asked for, in the order of `indices` (int64 [M])."""

    def __init__(self, texts: Sequence[str], indices: Tensor) -> None:
        self.texts, self.indices = texts, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self.texts[int(i)] for i in self.indices[index]]
        return self.texts[int(self.indices[index])]


@dataclass(kw_only=True)
class Splits:
    """What a data set gives.

    Args:
        train: examples to learn from; None where there are none (evaluation only).
        val: validation examples; None takes a seeded, stratified tenth of train.
        test: read once, after the last step; None if there is no test part.
        facts: what only the data knows and models take from it: `num_classes`, `in_channels`, `image_size`,
            `vocab_size`, `in_features` ...
        class_names: names of the classes, in order of label.
        normalisation: None, or {"mean": [...], "std": [...]} measured or published for pictures in [0, 1].
        extras: other things a task needs, by name (a tokeniser, a graph).
        cut: the data set made its parts itself as `data.val` asks (a text is cut once, not into random windows).
        warnings: loud facts about the data, shown before training and kept in the report.
    """

    train: Examples | None
    val: Examples | None = None
    test: Examples | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    class_names: list[str] | None = None
    normalisation: dict[str, list[float]] | None = None
    extras: dict[str, Any] = field(default_factory=dict)
    cut: bool = False
    warnings: list[str] = field(default_factory=list)
