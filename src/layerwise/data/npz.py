"""Arrays in `.npz` files: inputs and targets by name."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.core.config import Fraction, PositiveInt
from layerwise.core.errors import DataError
from layerwise.core.suggest import did_you_mean
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.source import DataConfig
from layerwise.data.table import Schema


@dataclass(frozen=True, kw_only=True)
class NpzConfig(DataConfig):
    """Arrays by name in an `.npz` file (or a zip of one): inputs [N, F] floats, or pictures uint8 [N, H, W], [N, H, W,
    C], [N, C, H, W].

    Args:
        test: test data: a share of train (0: none), or a path to another file; None takes arrays named with `_test`,
            else a tenth of train.
        x, y: names of the arrays; `x_train`, `x_val`, `x_test` (and y) are found too.
        target_kind: whether y holds classes or numbers; "auto" takes integers as classes.
        limit_classes: most distinct integers that "auto" takes as classes.
    """

    test: Fraction | str | None = None
    x: str = "x"
    y: str = "y"
    target_kind: Literal["auto", "class", "number"] = "auto"
    limit_classes: PositiveInt = 1000


class Npz:
    """`image` uint8 [C, H, W] or `numeric` float32 [F], and `labels` int64 or `target` float64."""

    def __init__(self, config: NpzConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the arrays.

        Raises:
            DataError: no such file or array, arrays of Python objects, lengths or types that do not fit.
        """
        if self.config.root is None:
            raise DataError("data.root is needed: an .npz file.")
        arrays = self._arrays(Path(self.config.root).expanduser())
        made = {"train": self._part(arrays, "train")}
        for part in ("val", "test"):
            asked = getattr(self.config, part)
            if isinstance(asked, str):
                made[part] = self._part(self._arrays(Path(asked).expanduser()), part)
            elif f"{self.config.x}_{part}" in arrays:
                made[part] = self._part(arrays, part)
        facts: dict[str, Any] = {}
        first = made["train"].columns
        labels = [part.columns["labels"] for part in made.values() if "labels" in part.columns]
        if labels:
            facts["num_classes"] = 1 + int(max(part.max() for part in labels))
        if "image" in first:
            channels, height, width = first["image"].shape[1:]
            facts |= {"in_channels": channels, "image_size": (height, width), "in_features": channels * height * width}
        else:
            facts["in_features"] = first["numeric"].shape[1]
        names = [str(label) for label in range(facts["num_classes"])] if labels else None
        extras: dict[str, Any] = {}
        if "numeric" in first:
            columns = tuple(f"{self.config.x}{index}" for index in range(facts["in_features"]))
            extras["table"] = Schema(numeric=columns, target=self.config.y, classes=tuple(names or ())).to_json()
        return Splits(
            train=made["train"],
            val=made.get("val"),
            test=made.get("test"),
            facts=facts,
            class_names=names,
            extras=extras,
        )

    def _arrays(self, path: Path) -> dict[str, NDArray[Any]]:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file.")
        source: Path | io.BytesIO = path
        try:
            with zipfile.ZipFile(path) as archive:
                inside = [name for name in archive.namelist() if name.endswith(".npz")]
                if len(inside) == 1:
                    source = io.BytesIO(archive.read(inside[0]))
            with np.load(source, allow_pickle=False) as held:
                return {name: held[name] for name in held.files}
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise DataError(f"{path} is not a readable .npz file: {error}.") from error
        except ValueError as error:  # arrays of Python objects are pickles
            raise DataError(f"{path} holds Python objects, which are not read: {error}.") from error

    def _part(self, arrays: dict[str, NDArray[Any]], part: str) -> TensorExamples:
        config = self.config
        found: list[NDArray[Any]] = []
        for name in (config.x, config.y):
            array = arrays.get(f"{name}_{part}", arrays.get(name))
            if array is None:
                raise DataError(f"{config.root} has no array {name!r} or '{name}_{part}'.{did_you_mean(name, arrays)}")
            found.append(array)
        x, y = found
        if len(x) != len(y):
            raise DataError(f"{config.root}: {config.x} has {len(x)} rows, {config.y} has {len(y)}.")
        if x.dtype == np.uint8 and x.ndim in (3, 4):
            columns = {"image": _pictures(x)}
        else:
            columns = {"numeric": _numeric(x, config.x), "categories": torch.zeros(len(x), 0, dtype=torch.int64)}
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim != 1 or y.dtype.kind not in "iufb":
            raise DataError(f"{config.root}: {config.y} must be numbers [N], got {y.dtype} {list(y.shape)}.")
        classes = config.target_kind == "class" or (
            config.target_kind == "auto" and y.dtype.kind in "iub" and len(np.unique(y)) <= config.limit_classes
        )
        if classes:
            if y.dtype.kind == "f" and not bool((y == np.round(y)).all()):
                raise DataError(f"data.target_kind=class: {config.y} has values that are no whole numbers.")
            columns["labels"] = torch.from_numpy(y.astype(np.int64))
        else:
            columns["target"] = torch.from_numpy(y.astype(np.float64))
        return TensorExamples(columns)


def _pictures(x: NDArray[Any]) -> torch.Tensor:
    """uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] -> [N, C, H, W]; C is 1 or 3."""
    if x.ndim == 3:
        return torch.from_numpy(np.ascontiguousarray(x[:, None]))
    if x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    if x.shape[1] not in (1, 3):
        raise DataError(f"Pictures must have one or three channels, got an array of {list(x.shape)}.")
    return torch.from_numpy(np.ascontiguousarray(x))


def _numeric(x: NDArray[Any], name: str) -> torch.Tensor:
    if x.ndim != 2 or x.dtype.kind not in "iufb":
        raise DataError(f"{name} must be numbers [N, F] or pictures of uint8, got {x.dtype} {list(x.shape)}.")
    return torch.from_numpy(x.astype(np.float32))


DATASETS = {"npz": NpzConfig()}
