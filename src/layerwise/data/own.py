"""A person's own `torch.utils.data.Dataset` as a data set: `data=mypkg.data:MyDataset`, its options are the
constructor's arguments.

An item is a pair (input, target) or a mapping of column names. Inputs may be pictures (PIL, or uint8 [C, H, W]), or
vectors of numbers; targets whole numbers (classes) or floats. If the constructor has an argument `train` that is not
given, the set is built twice: `train=True` gives training data and `train=False` the test part. What its `__getitem__`
draws at random is its own: it is not part of exact resume.
"""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerwise.core.config import Component
from layerwise.core.errors import DataError
from layerwise.data.examples import Batch, Examples, Splits
from layerwise.data.pictures import flatten_picture
from layerwise.data.table import Schema


class DatasetExamples(Examples):
    """Items of a map-style dataset, got one by one for every batch.

    Args:
        dataset: has `__len__` and `__getitem__` for 0 .. length - 1.
        name: for messages.

    Raises:
        DataError: an iterable dataset, no items, items that are understood in no way.
    """

    decodes = True

    def __init__(self, dataset: Any, name: str) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise DataError(
                f"data={name}: it needs __len__ and __getitem__ (iterable datasets have no fixed examples to split)."
            )
        if len(dataset) == 0:
            raise DataError(f"data={name} has no items.")
        self.dataset, self.name = dataset, name
        self.first = self._columns(0)
        self._labels = self._all_labels()

    def __len__(self) -> int:
        return len(self.dataset)

    def labels(self) -> Tensor | None:
        return self._labels

    def collate(self, indices: Tensor) -> Batch:
        items = [self._columns(index) for index in indices.tolist()]
        try:
            batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
        except (RuntimeError, KeyError) as error:
            raise DataError(
                f"data={self.name}: items cannot be put into one batch ({error}); all must have the same shapes."
            ) from error
        return {**batch, "sample_ids": indices.clone()}

    def fingerprint(self) -> str:
        """Hash of name, length, first item's shapes and all classes; inputs may be drawn at random and do not count."""
        shapes = sorted((key, tuple(value.shape)) for key, value in self.first.items())
        digest = hashlib.sha256(f"{self.name}{len(self)}{shapes}".encode())
        if self._labels is not None:
            digest.update(self._labels.numpy().tobytes())
        return digest.hexdigest()[:32]

    def _columns(self, index: int) -> dict[str, Tensor]:
        try:
            return item_columns(self.dataset[index])
        except DataError as error:
            raise DataError(f"data={self.name}, item {index}: {error}") from error

    def _all_labels(self) -> Tensor | None:
        """Classes of all items: from the attribute `targets` or `labels` if there is one, else by going through the
        items once.
        """
        if "labels" not in self.first:
            return None
        for attribute in ("targets", "labels"):
            held = getattr(self.dataset, attribute, None)
            if isinstance(held, Sequence | np.ndarray | Tensor) and len(held) == len(self):
                found = torch.as_tensor(held)
                if found.dim() == 1 and not found.is_floating_point():
                    return found.long()
        return torch.stack([self._columns(index)["labels"] for index in range(len(self))])


def item_columns(item: Any) -> dict[str, Tensor]:
    """Raw columns of one item: `image` or `numeric`, `labels` or `target`; a mapping's own names are kept.

    Raises:
        DataError: neither a pair nor a mapping, or values of another kind.
    """
    if isinstance(item, Mapping):
        return {str(key): _tensor(value) for key, value in item.items()}
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"expected a pair (input, target) or a mapping, got {type(item).__name__}.")
    value, target = _tensor(item[0]), _tensor(item[1])
    if value.dim() == 3:
        columns = {"image": _as_uint8(value)}
    elif value.dim() == 1:
        columns = {"numeric": value.to(torch.float32), "categories": torch.zeros(0, dtype=torch.int64)}
    else:
        raise DataError(f"the input must be a picture [C, H, W] or a vector [F], got {list(value.shape)}.")
    if target.dim() != 0:
        raise DataError(f"the target must be one number, got {list(target.shape)}; return a mapping for other tasks.")
    columns["target" if target.is_floating_point() else "labels"] = (
        target.double() if target.is_floating_point() else target.long()
    )
    return columns


def _tensor(value: Any) -> Tensor:
    from PIL import Image

    if isinstance(value, Image.Image):
        pixels = torch.from_numpy(np.array(flatten_picture(value)))
        return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"cannot make a tensor of {type(value).__name__}: {error}.") from error


def _as_uint8(image: Tensor) -> Tensor:
    """uint8 as it is; floats that are whole 255ths in [0, 1] (torchvision's ToTensor) exactly."""
    if image.dtype == torch.uint8:
        return image
    pixels = image * 255
    if (
        image.is_floating_point()
        and bool(((pixels - pixels.round()).abs() < 1e-3).all())
        and 0 <= float(image.min()) <= float(image.max()) <= 1
    ):
        return pixels.round().to(torch.uint8)
    raise DataError(
        f"pictures must be uint8 (or ToTensor's floats in [0, 1]), got {image.dtype}: leave normalisation to the task."
    )


def splits_of(data: Component, built: Any) -> Splits:
    """Splits of a dataset that `data` built, see the module's text."""
    name = data.name
    test = None
    config = data.config
    takes_train = "train" in inspect.signature(type(built)).parameters
    if takes_train and getattr(config, "train", None) is None:
        built, test = (
            data.with_options(train=True).build(),
            DatasetExamples(data.with_options(train=False).build(), name),
        )
    train = DatasetExamples(built, name)
    facts: dict[str, Any] = {}
    extras: dict[str, Any] = {}
    if (labels := train.labels()) is not None:
        names = getattr(built, "classes", None)
        facts["num_classes"] = len(names) if isinstance(names, Sequence) else int(labels.max()) + 1
        names = (
            [str(n) for n in names]
            if isinstance(names, Sequence)
            else [str(label) for label in range(facts["num_classes"])]
        )
    else:
        names = None
    if "image" in train.first:
        channels, height, width = train.first["image"].shape
        facts |= {"in_channels": channels, "image_size": (height, width), "in_features": channels * height * width}
    elif "numeric" in train.first:
        facts["in_features"] = len(train.first["numeric"])
        columns = [f"x{index}" for index in range(facts["in_features"])]
        extras["table"] = Schema(numeric=tuple(columns), target="y", classes=tuple(names or ())).to_json()
    return Splits(train=train, test=test, facts=facts, class_names=names, extras=extras)
