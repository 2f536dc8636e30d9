"""A folder (or zip) of pictures without classes, as deep as it may be: what a generative model learns from."""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.examples import Batch, Examples, Splits
from layerwise.data.files import FileTree, open_tree
from layerwise.data.image_folder import ImageFolder, ImageFolderConfig, Part
from layerwise.data.pictures import SUFFIXES

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class PictureFolderConfig(ImageFolderConfig):
    """A person's pictures: `root` is a folder or zip of them, in folders or not. Parts are a share of it, or a path of
    their own (`data.val=./others`).
    """


class Unlabelled(Examples):
    """Another split's pictures alone."""

    def __init__(self, pictures: Examples) -> None:
        self.pictures, self.decodes = pictures, pictures.decodes

    def __len__(self) -> int:
        return len(self.pictures)

    def collate(self, indices: Tensor) -> Batch:
        return {name: value for name, value in self.pictures.collate(indices).items() if name != "labels"}

    def shards(self) -> Tensor | None:
        return self.pictures.shards()

    def fingerprint(self) -> str:
        return self.pictures.fingerprint()


class PictureFolder(ImageFolder):
    """`image` uint8 [C, H, W] of every picture below the root, in order of name."""

    def __init__(self, config: PictureFolderConfig) -> None:
        super().__init__(config)

    def splits(self) -> Splits:
        """List, check and decode the pictures.

        Raises:
            DataError: no pictures, unreadable ones.
        """
        parts = {"train": self._pictures(open_tree(self.config.root, "a folder or zip of pictures"))}
        for name in ("val", "test"):
            asked = getattr(self.config, name)
            if isinstance(asked, str):
                parts[name] = self._pictures(open_tree(asked, "a folder or zip of pictures"))
        made = self.made(parts, ["picture"])
        found = {
            name: None if split is None else Unlabelled(split)
            for name, split in (("train", made.train), ("val", made.val), ("test", made.test))
        }
        facts = {name: value for name, value in made.facts.items() if name != "num_classes"}
        return replace(made, **found, facts=facts, class_names=None)

    def _pictures(self, tree: FileTree) -> Part:
        names = [name for name in tree.files if PurePosixPath(name).suffix.lower() in SUFFIXES]
        if not names:
            raise DataError(f"{tree.where} has no pictures ({', '.join(SUFFIXES[:2])}, ...).")
        if others := sorted(set(tree.files) - set(names)):
            shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
            self.warnings.append(f"{tree.where}: {len(others)} files are no pictures and are left out: {shown}.")
        return Part(tree, names, ["picture"] * len(names))


DATASETS = {"pictures": PictureFolderConfig()}
