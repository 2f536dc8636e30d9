"""Pictures in tar files, for sets far larger than memory: the layout of WebDataset (https://github.com/webdataset).

    shards/train/00000.tar   a.jpg a.cls b.png b.json ...      a.cls: a class name or number
    shards/val/00000.tar                                       b.json: {"label": ...} or {"cls": ...}

Files of one example share the name up to its first dot. Examples are decoded for every batch, and the order of an epoch
pools the examples of 16 tar files at a time (`ops.random.windowed_permutation`), a pure function of seed and epoch.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from layerwise.core.config import PictureSize
from layerwise.core.errors import DataError
from layerwise.core.suggest import did_you_mean
from layerwise.data.examples import Splits
from layerwise.data.files import TarTree
from layerwise.data.image_folder import SPLIT_NAMES, ImageFolder, ImageFolderConfig, Part
from layerwise.data.pictures import SUFFIXES


@dataclass(frozen=True, kw_only=True)
class ImageShardsConfig(ImageFolderConfig):
    """Pictures and their classes in tar files: `root` is a folder of them, or of train / val / test folders of them.

    Args:
        test, val: a share of train, or a path to another folder of tar files.
        size: height and width that pictures are brought to; None looks at every picture first.
    """

    size: PictureSize | None = (224, 224)


class ImageShards(ImageFolder):
    """`image` uint8 [C, H, W], `labels` in order of the sorted class names; numbers are sorted as numbers."""

    def splits(self) -> Splits:
        """List the tar files' members and read the classes.

        Raises:
            DataError: no tar files, a damaged one, a picture without a class, one class, a class that train lacks.
        """
        if self.config.root is None:
            raise DataError("data.root is needed: a folder of tar files with pictures and their classes.")
        root = Path(self.config.root).expanduser()
        found = {SPLIT_NAMES[f.name.lower()]: f for f in _folders(root) if f.name.lower() in SPLIT_NAMES}
        places = found if "train" in found else {"train": root}
        for name in ("val", "test"):
            if isinstance(asked := getattr(self.config, name), str):
                places[name] = Path(asked).expanduser()
        parts = {name: self._part(places[name]) for name in ("train", "val", "test") if name in places}
        names = sorted(
            set(parts["train"].classes), key=lambda name: (0, int(name), "") if _whole(name) else (1, 0, name)
        )
        if len(names) < 2:
            raise DataError(f"{places['train']} has pictures of one class only, {names[0]!r}.")
        for part_name, part in parts.items():
            if strange := sorted(set(part.classes) - set(names)):
                near = did_you_mean(strange[0], names)
                raise DataError(f"{part.tree.where}: {part_name} has the class {strange[0]!r}, train has not.{near}")
        return self.made(parts, names)

    def _part(self, folder: Path) -> Part:
        shards = sorted(folder.glob("*.tar")) if folder.is_dir() else []
        if not shards:
            raise DataError(f"{folder} has no tar files (.tar), or is no folder.")
        tree = TarTree(folder, shards)
        by_key: dict[str, dict[str, str]] = {}
        for name in tree.files:
            path = PurePosixPath(name)
            key, _, suffix = path.name.partition(".")
            by_key.setdefault(str(path.parent / key), {})[f".{suffix.lower()}"] = name
        names: list[str] = []
        classes: list[str] = []
        for files in by_key.values():
            if picture := next((name for suffix, name in files.items() if suffix in SUFFIXES), None):
                names.append(picture)
                classes.append(_class(tree, picture, files))
        if not names:
            raise DataError(f"{folder}: its {len(shards)} tar files have no pictures ({', '.join(SUFFIXES[:2])}, ...).")
        return Part(tree, names, classes)


def _class(tree: TarTree, picture: str, files: dict[str, str]) -> str:
    """The class name that lies beside a picture."""
    name = files.get(".cls") or files.get(".json")
    if name is None:
        raise DataError(f"{tree.path(picture)} has no class: a file of the same name with .cls or .json is needed.")
    try:
        content = tree.read(name).decode().strip()
        if name == files.get(".cls"):
            found = content
        else:
            told = json.loads(content)
            found = str(told.get("label", told.get("cls", ""))) if isinstance(told, dict) else ""
    except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON
        raise DataError(f"{tree.path(name)} cannot be read: {error}.") from error
    if not found:
        raise DataError(f"{tree.path(name)} names no class: text in .cls, label or cls in .json.")
    return found


def _whole(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


DATASETS = {"image_shards": ImageShardsConfig()}
