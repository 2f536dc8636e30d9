"""A folder (or zip) of class folders with pictures in them, with or without train, val and test folders above the
classes.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.config import Fraction, PictureSize, PositiveFloat
from layerwise.core.errors import DataError
from layerwise.core.suggest import did_you_mean
from layerwise.data.examples import Batch, Examples, Splits, TensorExamples, Windows
from layerwise.data.files import FileTree, TarTree, open_tree
from layerwise.data.fit import Fit, FitMode, Interpolation
from layerwise.data.pictures import (
    MAY_MOVE,
    SUFFIXES,
    Header,
    OpenPicture,
    UnreadablePicture,
    decode_image,
    moving_note,
    probe_image,
)
from layerwise.data.source import DataConfig

__all__ = ["DATASETS", "ImageFolder", "ImageFolderConfig", "decode_image"]

SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_LARGEST_NATIVE, _LARGEST_CHOSEN = 512, 224
_SHOWN = 5
_HASHED_BYTES = 1 << 16
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class ImageFolderConfig(DataConfig):
    """A person's pictures: `root` is a folder or zip of class folders, or of train / val / test folders with class
    folders in them.

    Args:
        test: test data: a share of train, or a path to files of the same layout; None takes the test folder, else a
            tenth of train (0: no test).
        size: height and width that pictures are brought to (shorter side resized, centre cut out). None keeps their
            size where all have the same and no side is over 512; otherwise takes a square of the median shorter side,
            at most 224.
        resize: height and width that pictures are resized to before `size` is cut out of their middle, proportions
            kept; None: no more is cut off than proportions ask for.
        interpolation: of the resizing, with antialiasing (but for "nearest").
        fit: "crop" keeps proportions and cuts; "squash" gives up proportions and loses nothing.
        channels: "grey", "rgb", or "auto": grey where all pictures are.
        on_error: "error" stops at unreadable pictures and names them, "skip" leaves them out and names them.
        memory_gb: decoded pictures are kept in memory up to this; above it they are decoded anew for every batch.
    """

    test: Fraction | str | None = None
    size: PictureSize | None = None
    resize: PictureSize | None = None
    interpolation: Interpolation = "bilinear"
    fit: FitMode = "crop"
    channels: Literal["auto", "grey", "rgb"] = "auto"
    on_error: Literal["error", "skip"] = "error"
    memory_gb: PositiveFloat = 2.0


class Part:
    """One part's pictures: names in a tree and the class name of each, in order of name."""

    def __init__(self, tree: FileTree, names: list[str], classes: list[str]) -> None:
        self.tree, self.names, self.classes = tree, names, classes


class PictureFiles(Examples):
    """Pictures that stay encoded and are decoded for every batch by a pool of threads; the pixels equal those kept in
    memory.

    Args:
        part: the files.
        labels: int64 [N].
        fit, channels: see `decode_image`.
    """

    decodes = True  # collating takes time: the feed does it ahead

    def __init__(self, part: Part, labels: Tensor, fit: Fit, channels: int) -> None:
        self.part, self.fit, self.channels = part, fit, channels
        self._labels = labels
        self._digest_cache: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self) -> Tensor:
        return self._labels

    def shards(self) -> Tensor | None:
        tree = self.part.tree
        return torch.tensor([tree.shard(name) for name in self.part.names]) if isinstance(tree, TarTree) else None

    def collate(self, indices: Tensor) -> Batch:
        images = _threaded(lambda i: _decode(self.part, self.part.names[i], self.fit, self.channels), indices.tolist())
        return {
            "image": torch.stack(images),
            "labels": self._labels.index_select(0, indices),
            "sample_ids": indices.clone(),
        }

    def collate_windows(self, indices: Tensor, windows: Windows, size: tuple[int, int] | None) -> Batch:
        names = [self.part.names[i] for i in indices.tolist()]
        opened = _threaded(lambda name: _open(self.part, name), names)
        boxes = windows(indices, torch.tensor([[each.height, each.width] for each in opened]).view(-1, 2)).tolist()
        wanted = size or self.fit.size
        # Pixel by pixel in memory, as they are decoded and as convolutions take them.
        layout = torch.channels_last
        images = torch.empty(len(names), self.channels, *wanted, dtype=torch.uint8, memory_format=layout)

        def cut(place: int) -> None:
            try:
                images[place] = opened[place].window(boxes[place], wanted, self.channels)
            except UnreadablePicture as error:
                raise _named(error, self.part, names[place]) from error

        _threaded(cut, range(len(names)))
        return {
            "image": images,
            "labels": self._labels.index_select(0, indices),
            "sample_ids": indices.clone(),
        }

    def fingerprint(self) -> str:
        """Hash of names, decoded size and each file's length and first bytes (reading all of a large set would take
        minutes).
        """
        digest = hashlib.sha256(f"{self.fit}{self.channels}{self._labels.tolist()}".encode())
        for name, content in zip(self.part.names, self._digests(), strict=True):
            digest.update(name.encode() + content)
        return digest.hexdigest()[:32]

    def content_keys(self) -> NDArray[np.int64]:
        """From each file's length and first bytes, [N]: a copied file is found, another encoding of the same pixels is
        not.
        """
        return np.frombuffer(b"".join(digest[:8] for digest in self._digests()), np.int64)

    def _digests(self) -> list[bytes]:
        tree = self.part.tree
        if self._digest_cache is None:

            def digest(name: str) -> bytes:
                try:
                    return hashlib.sha256(f"{tree.size(name)} ".encode() + tree.read(name, _HASHED_BYTES)).digest()
                except OSError as error:  # a link to nothing, no permission
                    raise UnreadablePicture(f"{tree.path(name)} cannot be read: {error}.") from error

            self._digest_cache = _threaded(digest, self.part.names)
        return self._digest_cache


def _decode(part: Part, name: str, fit: Fit, channels: int) -> Tensor:
    try:
        return decode_image(part.tree.read(name), fit, channels)
    except (OSError, UnreadablePicture) as error:
        raise _named(error, part, name) from error


def _open(part: Part, name: str) -> OpenPicture:
    try:
        return OpenPicture(part.tree.read(name))
    except (OSError, UnreadablePicture) as error:
        raise _named(error, part, name) from error


def _named(error: Exception, part: Part, name: str) -> UnreadablePicture:
    """The error with the file's path."""
    reason = str(error).removeprefix("the picture cannot be read as a picture: ").removesuffix(".")
    return UnreadablePicture(f"{part.tree.path(name)} cannot be read as a picture: {reason}.")


def _threaded(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`work` of every item in order; decoders and files let go of Python's lock."""
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)
    if len(items) < 4 or workers == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items, chunksize=8))


class ImageFolder:
    """`image` uint8 [C, H, W], `labels` in order of the sorted class names; every picture of a class folder counts,
    however deep.
    """

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config
        self.warnings: list[str] = []
        self.unreadable: list[str] = []  # what is wrong with each picture that was left out

    def splits(self) -> Splits:
        """List, check and decode the pictures.

        Raises:
            DataError: no pictures, an empty class folder, one class, a class that train lacks, unreadable pictures.
        """
        tree = open_tree(self.config.root, "a folder or zip with a folder of pictures for each class")
        parts = self._parts(tree)
        for name in ("val", "test"):
            asked = getattr(self.config, name)
            if isinstance(asked, str):
                other = self._parts(open_tree(asked, "pictures in class folders"), only=name)
                parts[name] = other.get(name) or other["train"]
        names = sorted(set(parts["train"].classes))
        if len(names) < 2:
            raise DataError(
                f"{tree.where} has pictures of one class only, {names[0]!r}: put each class into a folder of its own."
            )
        for part_name, part in parts.items():
            if strange := sorted(set(part.classes) - set(names)):
                raise DataError(
                    f"{part.tree.where}: {part_name} has the class {strange[0]!r}, train has "
                    f"not.{did_you_mean(strange[0], names)}"
                )
        return self.made(parts, names)

    def made(self, parts: dict[str, Part], names: list[str]) -> Splits:
        """Parts decoded, or ready to be; labels in order of `names`."""
        size, channels = self._size_and_channels(list(parts.values()))
        fit = Fit(size=size, resize=self.config.resize, interpolation=self.config.interpolation, mode=self.config.fit)
        in_memory = (
            sum(len(part.names) for part in parts.values()) * channels * size[0] * size[1]
            <= self.config.memory_gb * 2**30
        )
        made, kept = self._decode_all(parts, names, fit, channels, in_memory)
        return Splits(
            train=made["train"],
            val=made.get("val"),
            test=made.get("test"),
            facts={
                "num_classes": len(names),
                "in_channels": channels,
                "image_size": size,
                "in_features": channels * size[0] * size[1],
            },
            class_names=names,
            extras={
                "files": {name: [part.tree.path(file) for file in part.names] for name, part in kept.items()},
                "fit": fit,
                "unreadable": self.unreadable,
            },
            warnings=self.warnings,
        )

    # ------------------------------------------------------------------------------------------------------- listing

    def _parts(self, tree: FileTree, only: str | None = None) -> dict[str, Part]:
        """train, and val and test where there are such folders; `only` takes a plain folder as that part."""
        prefix = _descend(tree)
        folders = _subfolders(tree, prefix)
        roles: dict[str, str] = {}
        for folder in folders:
            if role := SPLIT_NAMES.get(folder.lower()):
                if role in roles:
                    raise DataError(f"{tree.where} has two folders for {role}: {roles[role]!r} and {folder!r}.")
                roles[role] = folder
        if "train" in roles and (len(roles) > 1 or len(folders) == 1):
            if others := sorted(set(folders) - set(roles.values())):
                self.warnings.append(f"{tree.where}: the folders {_some(others)} beside train are left out.")
            return {
                role: self._classes(tree, f"{prefix}{roles[role]}/")
                for role in ("train", "val", "test")
                if role in roles
            }
        return {only or "train": self._classes(tree, prefix)}

    def _classes(self, tree: FileTree, prefix: str) -> Part:
        where = tree.path(prefix.rstrip("/")) if prefix else tree.where
        inside = [name for name in tree.files if name.startswith(prefix)]
        pictures = [name for name in inside if PurePosixPath(name).suffix.lower() in SUFFIXES]
        if not pictures:
            raise DataError(
                f"{where} has no pictures ({', '.join(SUFFIXES[:2])}, ...). It should hold a folder of pictures for "
                f"each class."
            )
        if others := [name for name in inside if PurePosixPath(name).suffix.lower() not in SUFFIXES]:
            self.warnings.append(f"{where}: {len(others)} files are no pictures and are left out: {_some(others)}.")
        nested = [name for name in pictures if "/" in name[len(prefix) :]]
        if not nested:
            raise DataError(
                f"{where} has {len(pictures)} pictures and no class folders: put each class into a folder of its own."
            )
        if len(nested) < len(pictures):
            loose = [name for name in pictures if "/" not in name[len(prefix) :]]
            self.warnings.append(
                f"{where}: {len(loose)} pictures are in no class folder and are left out: {_some(loose)}."
            )
        classes = [name[len(prefix) :].split("/")[0] for name in nested]
        if empty := sorted(set(_subfolders(tree, prefix)) - set(classes)):
            raise DataError(f"{where}: the class folder {empty[0]!r} has no pictures. Fill or remove it.")
        return Part(tree, nested, classes)

    # ------------------------------------------------------------------------------------------------------ decoding

    def _size_and_channels(self, parts: list[Part]) -> tuple[tuple[int, int], int]:
        given = {"grey": 1, "rgb": 3}.get(self.config.channels)
        asked = self.config.size is not None and given is not None
        headers: dict[str, Header] = {}
        for part in parts:
            names = [name for name in part.names if not asked or name.lower().endswith(MAY_MOVE)]

            def probe(name: str, part: Part = part) -> Header | None:
                try:
                    return probe_image(part.tree.read(name))
                except (OSError, UnreadablePicture):
                    return None  # decoding names it

            found = zip(names, _threaded(probe, names), strict=True)
            headers |= {part.tree.path(name): header for name, header in found if header is not None}
        if note := moving_note([name for name, header in headers.items() if header.moves]):
            self.warnings.append(note)
        if self.config.size is not None and given is not None:
            return self.config.size, given
        probed = list(headers.values())
        if not probed:
            raise DataError(
                f"{parts[0].tree.where}: none of the {len(parts[0].names)} pictures can be read, e.g. "
                f"{_some(parts[0].names[:1])}."
            )
        channels = given or (1 if all(header.grey for header in probed) else 3)
        sizes = {(header.height, header.width) for header in probed}
        if self.config.size is not None:
            return self.config.size, channels
        if len(sizes) == 1 and max(next(iter(sizes))) <= _LARGEST_NATIVE:
            return next(iter(sizes)), channels
        side = min(int(median(min(header.height, header.width) for header in probed)), _LARGEST_CHOSEN)
        side = side - side % 8 if side >= 16 else side
        heights, widths = [h for h, _ in sizes], [w for _, w in sizes]
        self.warnings.append(
            f"Pictures are {min(heights)} to {max(heights)} high and {min(widths)} to {max(widths)} wide; each is "
            f"resized to {side} x {side} "
            f"(shorter side, centre cut out). data.size={side} says so, other numbers change it."
        )
        return (side, side), channels

    def _decode_all(
        self, parts: dict[str, Part], class_names: list[str], fit: Fit, channels: int, in_memory: bool
    ) -> tuple[dict[str, Examples], dict[str, Part]]:
        """Examples of every part, and the parts that are left.

        Every picture is decoded once, unless they are too many for memory and an unreadable one shall stop training
        when it is met.
        """
        position = {name: label for label, name in enumerate(class_names)}
        made: dict[str, Examples] = {}
        kept: dict[str, Part] = {}
        broken: list[str] = []
        cut_anew = any(getattr(transform.config, "source", None) == "file" for transform in self.config.augment)
        for name, part in parts.items():
            held = in_memory and not (name == "train" and cut_anew)
            pixels = torch.empty(len(part.names) if held else 0, channels, *fit.size, dtype=torch.uint8)

            def decode(place: int, part: Part = part, pixels: Tensor = pixels, held: bool = held) -> str | None:
                try:
                    image = _decode(part, part.names[place], fit, channels)
                except UnreadablePicture as error:
                    return str(error)
                if held:
                    pixels[place] = image
                return None

            looked_at = range(len(part.names)) if held or self.config.on_error == "skip" else range(0)
            wrong = {
                place: problem for place, problem in enumerate(_threaded(decode, looked_at)) if problem is not None
            }
            broken += wrong.values()
            good = [place for place in range(len(part.names)) if place not in wrong]
            kept[name] = Part(part.tree, [part.names[i] for i in good], [part.classes[i] for i in good])
            labels = torch.tensor([position[c] for c in kept[name].classes], dtype=torch.int64)
            if held:
                made[name] = TensorExamples({"image": pixels[good] if wrong else pixels, "labels": labels})
            else:
                made[name] = PictureFiles(kept[name], labels, fit, channels)
        if broken:
            self._report_broken(broken, kept)
        return made, kept

    def _report_broken(self, broken: list[str], parts: dict[str, Part]) -> None:
        more = f" (and {len(broken) - _SHOWN} more)" if len(broken) > _SHOWN else ""
        message = f"{len(broken)} picture{'s' * (len(broken) > 1)} cannot be read{more}: " + " ".join(broken[:_SHOWN])
        if self.config.on_error == "error":
            raise DataError(f"{message} Remove or mend them, or leave them out with data.on_error=skip.")
        if empty := [name for name, part in parts.items() if not part.names]:
            raise DataError(f"{message} Nothing is left of {empty[0]}.")
        self.unreadable += broken
        self.warnings.append(f"{message} They are left out.")


def _subfolders(tree: FileTree, prefix: str) -> list[str]:
    """Names of the folders directly below a prefix."""
    inside = [name[len(prefix) :] for name in tree.folders if name.startswith(prefix)]
    return [name for name in inside if "/" not in name]


def _descend(tree: FileTree) -> str:
    """Prefix below a single wrapper folder (a zip of one folder), '' if there is none: down while the only folder
    holds folders only.
    """
    prefix = ""
    while True:
        inside = [name[len(prefix) :] for name in tree.files if name.startswith(prefix)]
        tops = {name.split("/")[0] for name in inside}
        if len(tops) != 1 or any(name.count("/") < 2 for name in inside):
            return prefix
        if prefix + next(iter(tops)) in tree.folders and next(iter(tops)).lower() in SPLIT_NAMES:
            return prefix
        prefix += next(iter(tops)) + "/"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


DATASETS = {"image_folder": ImageFolderConfig()}
