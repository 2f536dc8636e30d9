"""CIFAR-10: its official binary archive, and the subset of 4,000 training and 1,000 test pictures that comes as PNG
files.

A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf. A record of the binary archive is one byte of label and
three planes (red, green, blue) of 32 x 32 bytes. The subset has, of each class, the 400 training and 100 test pictures
whose file names have the smallest SHA-256.
"""

import os
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.config import Range, Square
from layerwise.core.errors import ConfigError, DataError, UnsupportedError
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.image_folder import ImageFolder, ImageFolderConfig
from layerwise.data.source import DataConfig

ClassName = Literal["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CLASS_NAMES: list[str] = list(get_args(ClassName))
_AtLeast32 = Annotated[int, Range(32)]
_TRAIN, _TEST = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",)
_SIDE, _CHANNELS = 32, 3
_CHUNK = 1000  # pictures that are enlarged at once, as float32
_RECORD = 1 + _CHANNELS * _SIDE * _SIDE
_MEAN, _STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]  # of the 50,000 training pictures
_ARCHIVE = RemoteFile(
    "images/cifar-10/cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
)
_SUBSET = "images/cifar10-subset/cifar10_train4000_test1000_png.zip"


@dataclass(frozen=True, kw_only=True)
class CIFAR10Config(DataConfig):
    """CIFAR-10: `root` may be the archive, or a folder with the archive or its six `.bin` files.

    Args:
        classes: only pictures of these, in this order of label; None takes all ten.
        size: height and width that pictures are enlarged to, bilinearly. None keeps 32 x 32.
    """

    classes: tuple[ClassName, ...] | None = None
    size: Annotated[tuple[_AtLeast32, _AtLeast32], Square()] | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise ConfigError(f"classes={list(self.classes)}: two or more are needed, each once.")


@dataclass(frozen=True, kw_only=True)
class CIFAR10SubsetConfig(CIFAR10Config):
    """The subset: `root` may be its zip, or a folder with the zip or with what is in it (train and test folders).

    Args:
        classes, size: as for all of CIFAR-10.
    """


class CIFAR10:
    """50,000 training and 10,000 test pictures in ten classes: `image` uint8 [3, 32, 32], `labels` 0..9."""

    def __init__(self, config: CIFAR10Config) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the six files, from `root`, $LAYERWISE_DATA, the cache, or downloaded (170.1 MB).

        Raises:
            DataError: a file is missing, damaged, or no such file.
        """
        train, test = _open_batches(self.config.root)
        return _splits(_examples(train), _examples(test), self.config)


class CIFAR10Subset:
    """4,000 training and 1,000 test pictures in ten classes: `image` uint8 [3, 32, 32], `labels` 0..9."""

    def __init__(self, config: CIFAR10SubsetConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the PNG files of `root` or of $LAYERWISE_DATA; there is no download.

        Raises:
            UnsupportedError: it is not on this machine.
            DataError: other pictures or classes than it should have.
        """
        root = _subset(self.config.root)
        splits = ImageFolder(ImageFolderConfig(root=str(root), channels="rgb")).splits()
        if splits.class_names != CLASS_NAMES or splits.facts["image_size"] != (_SIDE, _SIDE) or splits.test is None:
            raise DataError(
                f"{root} is not the CIFAR-10 subset: expected train and test folders with 32 x 32 pictures in the "
                f"classes {', '.join(CLASS_NAMES)}. Other pictures are read with data=image_folder."
            )
        assert isinstance(splits.train, TensorExamples)
        assert isinstance(splits.test, TensorExamples)
        return _splits(splits.train, splits.test, self.config, splits.extras["files"])


def _subset(root: str | None) -> Path:
    """The zip, or the folder with what is in it."""
    name = Path(_SUBSET).name
    if root is not None:
        given = Path(root).expanduser()
        return given / name if (given / name).is_file() else given
    own = os.environ.get("LAYERWISE_DATA")
    if own and (path := Path(own).expanduser() / _SUBSET).is_file():
        return path
    where = f"$LAYERWISE_DATA ({own}) has no {_SUBSET}" if own else "LAYERWISE_DATA is not set"
    raise UnsupportedError(
        f"cifar10_subset is not on this machine: {where}, and nobody offers it for download. Give data.root=FOLDER "
        f"with {name} in it, or take all of CIFAR-10 with data=cifar10."
    )


def _splits(
    train: TensorExamples, test: TensorExamples, config: CIFAR10Config, names: Mapping[str, list[str]] | None = None
) -> Splits:
    """The parts as the options ask; `names` are the files of each part, where pictures have one each."""
    classes = list(config.classes or CLASS_NAMES)
    size = config.size or (_SIDE, _SIDE)
    parts: dict[str, TensorExamples] = {}
    files: dict[str, list[str]] = {}
    for name, whole in (("train", train), ("test", test)):
        label = torch.tensor([classes.index(c) if c in classes else -1 for c in CLASS_NAMES])[whole.columns["labels"]]
        kept = (label >= 0).nonzero().squeeze(1)
        image = whole.columns["image"].index_select(0, kept)
        if size != (_SIDE, _SIDE):
            image = torch.cat([_enlarged(part, size) for part in image.split(_CHUNK)])
        parts[name] = TensorExamples({"image": image, "labels": label.index_select(0, kept)})
        files[name] = [names[name][place] for place in kept.tolist()] if names is not None else []
    return Splits(
        train=parts["train"],
        test=parts["test"],
        facts={
            "num_classes": len(classes),
            "in_channels": _CHANNELS,
            "image_size": size,
            "in_features": _CHANNELS * size[0] * size[1],
        },
        class_names=classes,
        normalisation={"mean": _MEAN, "std": _STD},
        extras={"files": files} if names is not None else {},
    )


def _enlarged(image: Tensor, size: tuple[int, int]) -> Tensor:
    wide = F.interpolate(image.float(), size, mode="bilinear", align_corners=False)
    return wide.round_().clamp_(0, 255).to(torch.uint8)


def _open_batches(root: str | None) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """(what messages call it, bytes) of the training files and of the test file."""
    folder = Path(root).expanduser() if root is not None else None
    if folder is not None and folder.is_dir():
        for place in (folder, folder / "cifar-10-batches-bin"):
            if (place / _TEST[0]).is_file():
                return _all(lambda name, place=place: (str(place / name), _from_folder(place / name)))
    archive = locate("cifar10", (_ARCHIVE,), root)[_ARCHIVE.path]
    try:
        with tarfile.open(archive) as opened:
            return _all(lambda name: (f"{archive}/{name}", _from_archive(opened, archive, name)))
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"{archive} cannot be read as an archive: {error}. Delete it and get it again.") from error


def _all(read: Callable[[str], tuple[str, bytes]]) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    return [read(name) for name in _TRAIN], [read(name) for name in _TEST]


def _from_folder(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{path} is missing: cifar10 has {', '.join(_TRAIN + _TEST)}.")
    return path.read_bytes()


def _from_archive(opened: tarfile.TarFile, archive: Path, name: str) -> bytes:
    member = next((m for m in opened.getmembers() if Path(m.name).name == name and m.isfile()), None)
    handle = opened.extractfile(member) if member is not None else None
    if handle is None:
        raise DataError(f"{archive} has no {name}: it is not CIFAR-10's binary archive ({_ARCHIVE.url}).")
    return handle.read()


def _examples(files: list[tuple[str, bytes]]) -> TensorExamples:
    records: list[np.ndarray] = []
    for name, content in files:
        if not content or len(content) % _RECORD:
            raise DataError(f"{name} has {len(content)} bytes: expected a multiple of {_RECORD}. Get it again.")
        records.append(np.frombuffer(content, np.uint8).reshape(-1, _RECORD))
        if (largest := int(records[-1][:, 0].max())) >= len(CLASS_NAMES):
            raise DataError(f"{name} has the label {largest}: expected 0 to {len(CLASS_NAMES) - 1}. Get it again.")
    rows = torch.from_numpy(np.concatenate(records))
    images = rows[:, 1:].reshape(-1, _CHANNELS, _SIDE, _SIDE).contiguous()
    return TensorExamples({"image": images, "labels": rows[:, 0].long()})


DATASETS = {"cifar10": CIFAR10Config(), "cifar10_subset": CIFAR10SubsetConfig()}
