"""A folder (or zip) of pictures without classes, as deep as it may be, with captions or without: what a generative
model learns from.
"""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.captions import CaptionedPictures, FoundCaptions, find_captions, some
from layerwise.data.examples import Batch, Examples, Splits
from layerwise.data.files import FileTree, open_tree
from layerwise.data.image_folder import ImageFolder, ImageFolderConfig, Part
from layerwise.data.pictures import SUFFIXES
from layerwise.data.texts import TextExamples

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class PictureFolderConfig(ImageFolderConfig):
    """A person's pictures: `root` is a folder or zip of them, in folders or not. Parts are a share of it, or a path of
    their own (`data.val=./others`).

    Args:
        captions: "auto" takes a text file beside each picture (a.jpg, a.txt) where there are any, else `captions.csv`
            in the root where there is one; "none" takes none; else a CSV file, in the root or by a path of its own.
            `on_error` decides on pictures without a caption where others have one.
        file: the CSV file's column of file names; None takes the one that names pictures.
        text: its column of captions; None takes the only other one, or one called caption, text or description.
    """

    captions: str = "auto"
    file: str | None = None
    text: str | None = None


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
    """`image` uint8 [C, H, W] of every picture below the root, in order of name; `text` where they have captions."""

    def __init__(self, config: PictureFolderConfig) -> None:
        super().__init__(config)
        self.folder_config = config
        self.captions: dict[str, str] = {}  # by a picture's path; empty: there are none

    def splits(self) -> Splits:
        """List, check and decode the pictures; find their captions.

        Raises:
            DataError: no pictures, unreadable ones, some without a caption where others have one.
        """
        parts = {"train": self._pictures(open_tree(self.config.root, "a folder or zip of pictures"))}
        captioned = bool(self.captions)
        for name in ("val", "test"):
            asked = getattr(self.config, name)
            if isinstance(asked, str):
                parts[name] = self._pictures(open_tree(asked, "a folder or zip of pictures"), wanted=captioned)
        made = self.made(parts, ["picture"])
        found = {
            name: None if split is None else self._finished(split, made.extras["files"][name], captioned)
            for name, split in (("train", made.train), ("val", made.val), ("test", made.test))
        }
        facts = {name: value for name, value in made.facts.items() if name != "num_classes"}
        return replace(made, **found, facts=facts, class_names=None)

    def _finished(self, pictures: Examples, paths: list[str], captioned: bool) -> Examples:
        if not captioned:
            return Unlabelled(pictures)
        return CaptionedPictures(pictures, TextExamples([self.captions[path] for path in paths], {}))

    def _pictures(self, tree: FileTree, wanted: bool | None = None) -> Part:
        """The pictures of a tree; those that lack a caption are named, and left out if need be.

        Args:
            wanted: whether captions are needed; None: where there are any.
        """
        config = self.folder_config
        names = [name for name in tree.files if PurePosixPath(name).suffix.lower() in SUFFIXES]
        if not names:
            raise DataError(f"{tree.where} has no pictures ({', '.join(SUFFIXES[:2])}, ...).")
        found = None
        if wanted is not False:
            found = find_captions(tree, names, config.captions, file=config.file, text=config.text)
        if wanted and found is None:
            raise DataError(f"{tree.where} has no captions, and the training pictures have some.")
        if others := sorted(set(tree.files) - set(names) - (found.files if found else set())):
            shown = ", ".join(others[:_SHOWN]) + (", ..." if len(others) > _SHOWN else "")
            self.warnings.append(f"{tree.where}: {len(others)} files are no pictures and are left out: {shown}.")
        if found is not None:
            names = self._captioned(tree, names, found)
        return Part(tree, names, ["picture"] * len(names))

    def _captioned(self, tree: FileTree, names: list[str], found: FoundCaptions) -> list[str]:
        """The pictures that have a caption, which is kept."""
        lacking = [name for name in names if name not in found.texts]
        problems = [
            f"{len(which)} {what}: {some(which)}."
            for which, what in ((lacking, "pictures have no caption"), (found.lost, "rows name no picture"))
            if which
        ]
        if problems:
            message = f"{tree.where}: {' '.join(problems)}"
            if self.config.on_error == "error" or len(lacking) == len(names):
                raise DataError(
                    f"{message} Write or mend them, leave them out with data.on_error=skip, or do without captions "
                    "with data.captions=none."
                )
            self.warnings.append(f"{message} They are left out.")
        if found.repeated:
            again = f"{len(found.repeated)} rows name a picture again"
            self.warnings.append(f"{tree.where}: {again}; the first caption is taken: {some(found.repeated)}.")
        self.captions |= {tree.path(name): text for name, text in found.texts.items()}
        return [name for name in names if name in found.texts]


DATASETS = {"pictures": PictureFolderConfig()}
