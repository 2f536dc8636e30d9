"""MNIST, Fashion-MNIST and other sets in the idx format (four big-endian header words, then bytes; usually gzipped).

Format and MNIST: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/ (1998). Fashion-MNIST: H. Xiao, K.
Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms", 2017,
https://arxiv.org/abs/1708.07747
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.config import NonNegativeInt
from layerwise.core.errors import DataError
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.source import DataConfig

_PARTS = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_UBYTE = 0x08


@dataclass(frozen=True, kw_only=True)
class MNISTConfig(DataConfig):
    """MNIST.

    Args:
        pad: black pixels added on every side: 2 makes pictures of 32 x 32.
    """

    pad: NonNegativeInt = 0


@dataclass(frozen=True, kw_only=True)
class FashionMNISTConfig(DataConfig):
    """Fashion-MNIST.

    Args:
        pad: black pixels added on every side: 2 makes pictures of 32 x 32.
    """

    pad: NonNegativeInt = 0


@dataclass(frozen=True, kw_only=True)
class IdxConfig(DataConfig):
    """Any set of pictures in idx files: `root` is a folder with files named as MNIST's, gzipped or not (KMNIST,
    EMNIST-like).
    """


def read_idx(path: Path) -> Tensor:
    """An idx file of unsigned bytes, gzipped or not, as uint8 tensor.

    Raises:
        DataError: truncated, damaged, or not an idx file of bytes.
    """
    raw = path.read_bytes()
    try:
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except EOFError as error:
        raise DataError(f"{path} is truncated: its compressed data ends early. Delete it and get it again.") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Delete it and get it again.") from error
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DataError(f"{path} is not an idx file.")
    kind, dimensions = data[2], data[3]
    if kind != _UBYTE:
        raise DataError(f"{path} has idx type 0x{kind:02x}; only unsigned bytes (0x08) are read.")
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise DataError(f"{path} is truncated: it ends within its header.")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{path} is damaged: {len(data) - start} bytes follow its header, {math.prod(shape)} were announced."
        )
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def _read_pair(images_path: Path, labels_path: Path, pad: int = 0) -> TensorExamples:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dim() != 3 or labels.dim() != 1:
        raise DataError(
            f"{images_path} has {images.dim()} dimensions and {labels_path} {labels.dim()}; expected 3 and 1."
        )
    if len(images) != len(labels):
        raise DataError(f"{images_path} has {len(images)} pictures, {labels_path} {len(labels)} labels.")
    return TensorExamples({"image": F.pad(images[:, None], [pad] * 4), "labels": labels.long()})


def _splits(
    paths: Sequence[Path], class_names: list[str] | None, normalisation: dict[str, list[float]] | None, pad: int = 0
) -> Splits:
    train, test = _read_pair(paths[0], paths[1], pad), _read_pair(paths[2], paths[3], pad)
    height, width = train.columns["image"].shape[-2:]
    names = class_names or [str(label) for label in range(int(train.columns["labels"].max()) + 1)]
    return Splits(
        train=train,
        test=test,
        facts={
            "num_classes": len(names),
            "in_channels": 1,
            "image_size": (height, width),
            "in_features": height * width,
        },
        class_names=names,
        extras={"pad": pad},
        normalisation=None if pad else normalisation,  # published for the pictures as they are
    )


def _remote(folder: str, base: str, parts: Sequence[tuple[str, int]]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"images/{folder}/{name}", base + name, sha256, size)
        for name, (sha256, size) in zip(_PARTS, parts, strict=True)
    )


class MNIST:
    """60,000 training and 10,000 test digits: `image` uint8 [1, 28, 28], `labels` 0..9."""

    def __init__(self, config: MNISTConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the four files, from `root`, $LAYERWISE_DATA, the cache, or downloaded (11.6 MB)."""
        files = _remote(
            "mnist",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            (
                ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422),
                ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881),
                ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877),
                ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542),
            ),
        )
        found = locate("mnist", files, self.config.root)
        names = [str(digit) for digit in range(10)]
        return _splits([found[f.path] for f in files], names, {"mean": [0.1307], "std": [0.3081]}, self.config.pad)


class FashionMNIST:
    """60,000 training and 10,000 test pictures of clothes: `image` uint8 [1, 28, 28], `labels` 0..9."""

    def __init__(self, config: FashionMNISTConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the four files, from `root`, $LAYERWISE_DATA, the cache, or downloaded (30.9 MB)."""
        files = _remote(
            "fashion-mnist",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            (
                ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880),
                ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515),
                ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102),
                ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148),
            ),
        )
        found = locate("fashion_mnist", files, self.config.root)
        names = [
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ]
        return _splits([found[f.path] for f in files], names, {"mean": [0.2860], "std": [0.3530]}, self.config.pad)


class Idx:
    """A person's own idx files; class names are the numbers."""

    def __init__(self, config: IdxConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the four files of `root`.

        Raises:
            DataError: `root` is not given or lacks a file.
        """
        if self.config.root is None:
            raise DataError("data.root is needed: the folder with the idx files.")
        root = Path(self.config.root).expanduser()
        paths: list[Path] = []
        for part in _PARTS:
            choices = [root / part, root / part.removesuffix(".gz")]
            path = next((choice for choice in choices if choice.is_file()), None)
            if path is None:
                raise DataError(f"data.root={root}: there is no {part} (or {part.removesuffix('.gz')}).")
            paths.append(path)
        return _splits(paths, None, None)


DATASETS = {"mnist": MNISTConfig(), "fashion_mnist": FashionMNISTConfig(), "idx": IdxConfig()}
