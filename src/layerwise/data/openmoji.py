"""OpenMoji: 1,914 small drawings with captions, in 98 sub-groups.

OpenMoji, the open-source emoji and icon project, version 17.0.0, https://openmoji.org (CC BY-SA 4.0). Every entry
without a skin tone outside the groups extras-openmoji, extras-unicode and component; transparency is laid on white.
"""

import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch

from layerwise.core.config import Fraction, PictureSize
from layerwise.core.errors import DataError, UnsupportedError
from layerwise.data.captions import CaptionedPictures
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.files import FileTree, open_tree
from layerwise.data.fit import Fit
from layerwise.data.pictures import decode_image
from layerwise.data.source import DataConfig
from layerwise.data.texts import TextExamples

WORDS = RemoteFile(
    "image-text/openmoji/openmoji.json.gz",
    "https://raw.githubusercontent.com/hfg-gmuend/openmoji.org/f37a0a5ff5cd695fd6214c67662bbc3f705d9bc2/docs/data/"
    "openmoji.json.gz",
    "138f99391baa76e6c15345e0f9b2ac479277dcdeb1ccdba8b327a3cf91aa8f92",
    144_051,
)
_PICTURES = "image-text/openmoji/openmoji_17.0.0_128x128_png32_1914.zip"
_WHERE = (
    "https://github.com/nataliakeniganti/openmoji-bitmaps has them in 128x128_png32/, and https://openmoji.org offers "
    "its own as a zip"
)
_OTHER_GROUPS = ("extras-openmoji", "extras-unicode", "component")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class OpenMojiConfig(DataConfig):
    """Drawings with captions.

    Args:
        root: a folder with a zip or folders of the PNG files, named by their code (1F600.png), and `openmoji.json` or
            `openmoji.json.gz`; where that is missing it is taken from elsewhere, see `data.root` of other sets.
        test: share of the drawings held back, with their captions, by the seed, of each sub-group its share.
        size: height and width that drawings are resized to.
        caption: the annotation ("grinning face"), or it and the tags, or no text.
    """

    test: Fraction = 0.1
    size: PictureSize = (64, 64)
    caption: Literal["annotation", "annotation_and_tags", "none"] = "annotation"


class OpenMoji:
    """`image` uint8 [3, *size], `labels` (the sub-group), `text` (the caption)."""

    def __init__(self, config: OpenMojiConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read drawings and words.

        Raises:
            UnsupportedError: the drawings are not on this machine; there is no one address for them.
            DataError: a file is damaged, or drawings are missing.
        """
        config = self.config
        tree = _pictures(config.root)
        entries = [entry for entry in _words(config.root) if _is_one(entry)]
        files = {PurePosixPath(name).stem: name for name in tree.files if name.lower().endswith(".png")}
        if lost := [entry["hexcode"] for entry in entries if entry["hexcode"] not in files]:
            shown = ", ".join(lost[:_SHOWN]) + (", ..." if len(lost) > _SHOWN else "")
            raise DataError(f"{tree.where} lacks {len(lost)} of {len(entries)} drawings: {shown}. {_WHERE}.")
        names = [files[entry["hexcode"]] for entry in entries]
        fit = Fit(size=config.size)
        image = torch.stack([decode_image(tree.read(name), fit, channels=3) for name in names])
        classes = sorted({entry["subgroups"] for entry in entries})
        position = {name: label for label, name in enumerate(classes)}
        labels = torch.tensor([position[entry["subgroups"]] for entry in entries])
        if config.caption == "none":
            train: Any = TensorExamples({"image": image, "labels": labels})
        else:
            texts = TextExamples([_caption(entry, config.caption) for entry in entries], {"labels": labels})
            train = CaptionedPictures(TensorExamples({"image": image}), texts)
        return Splits(
            train=train,
            facts={
                "num_classes": len(classes),
                "in_channels": 3,
                "image_size": fit.size,
                "in_features": 3 * config.size[0] * config.size[1],
            },
            class_names=classes,
            extras={"files": {"train": [tree.path(name) for name in names]}, "fit": fit},
        )


def _is_one(entry: dict[str, Any]) -> bool:
    return not entry["skintone"] and entry["group"] not in _OTHER_GROUPS


def _caption(entry: dict[str, Any], kind: str) -> str:
    if kind == "annotation":
        return str(entry["annotation"])
    tags = [tag.strip() for key in ("tags", "openmoji_tags") for tag in str(entry[key]).split(",")]
    return ", ".join(dict.fromkeys([entry["annotation"], *filter(None, tags)]))


def _words(root: str | None) -> list[dict[str, Any]]:
    """The entries of openmoji.json."""
    path = None
    if root is not None:
        folder = Path(root).expanduser()
        beside = folder if folder.is_dir() else folder.parent
        path = next((file for name in ("openmoji.json", "openmoji.json.gz") if (file := beside / name).is_file()), None)
    path = path or locate("openmoji", (WORDS,))[WORDS.path]
    content = path.read_bytes()
    try:
        entries = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        keys = ("hexcode", "group", "subgroups", "annotation", "tags", "openmoji_tags", "skintone")
        return [{key: entry[key] for key in keys} for entry in entries]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged, or not OpenMoji's list: {error!r}. Delete it and get it again.") from error


def _pictures(root: str | None) -> FileTree:
    """The zip of drawings, or the folder that they lie in."""
    name = Path(_PICTURES).name
    if root is not None:
        given = Path(root).expanduser()
        zips = sorted(given.glob("*.zip")) if given.is_dir() else []
        return open_tree(str(given / name if (given / name).is_file() else zips[0] if zips else given), "drawings")
    own = os.environ.get("LAYERWISE_DATA")
    if own and (path := Path(own).expanduser() / _PICTURES).is_file():
        return open_tree(str(path), "drawings")
    where = f"$LAYERWISE_DATA ({own}) has no {_PICTURES}" if own else "LAYERWISE_DATA is not set"
    raise UnsupportedError(
        f"openmoji's drawings are not on this machine: {where}. {_WHERE}: put them into a folder and give "
        "data.root=FOLDER."
    )


DATASETS = {"openmoji": OpenMojiConfig()}
