"""OpenMoji: drawings on white, captions, sub-groups."""

import gzip
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.config import parse_component
from layerwise.core.errors import DataError, UnsupportedError
from layerwise.data.openmoji import WORDS, OpenMoji, OpenMojiConfig
from layerwise.data.splits import prepare
from layerwise.data.texts import unpack_texts

ROWS = (  # code, group, sub-group, skin tone, annotation, tags, own tags
    ("1F600", "smileys", "face", "", "grinning face", "smile, happy", "happy, teeth"),
    ("1F431", "animals", "mammal", "", "cat face", "cat", ""),
    ("1F44B", "people", "hand", "1F3FB", "waving hand: light skin tone", "", ""),
    ("E000", "extras-openmoji", "brand", "", "a brand", "", ""),
)


def write_set(folder: Path, *, archive: bool) -> None:
    keys = ("hexcode", "group", "subgroups", "skintone", "annotation", "tags", "openmoji_tags")
    folder.mkdir(parents=True)
    entries = json.dumps([dict(zip(keys, row, strict=True)) for row in ROWS]).encode()
    (folder / "openmoji.json.gz").write_bytes(gzip.compress(entries))
    inside = folder / "png"
    inside.mkdir()
    for i, row in enumerate(ROWS):
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[:, 4:] = (200, 10 * i, 0, 255)  # the left half is transparent black
        Image.fromarray(pixels).save(inside / f"{row[0]}.png")
    if archive:
        with zipfile.ZipFile(folder / "drawings.zip", "w") as opened:
            for row in ROWS:
                opened.write(inside / f"{row[0]}.png", f"128x128/{row[0]}.png")
                (inside / f"{row[0]}.png").unlink()


@pytest.mark.parametrize("archive", [False, True])
def test_drawings_lie_on_white_and_have_captions_and_sub_groups(archive: bool, tmp_path: Path) -> None:
    write_set(tmp_path / "set", archive=archive)
    splits = OpenMoji(OpenMojiConfig(root=str(tmp_path / "set"), size=(8, 8))).splits()
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(len(splits.train)))
    assert [text.decode() for text in unpack_texts(batch["text"])] == ["grinning face", "cat face"]
    assert splits.class_names == ["face", "mammal"]
    assert batch["labels"].tolist() == [0, 1]
    assert batch["image"].shape == (2, 3, 8, 8)
    assert (batch["image"][:, :, :, :4] == 255).all()
    assert batch["image"][1, :, 0, 7].tolist() == [200, 10, 0]


def test_tags_may_stand_in_the_caption_each_once(tmp_path: Path) -> None:
    write_set(tmp_path / "set", archive=True)
    splits = OpenMoji(OpenMojiConfig(root=str(tmp_path / "set"), caption="annotation_and_tags")).splits()
    assert splits.train is not None
    assert splits.train.texts == ["grinning face, smile, happy, teeth", "cat face, cat"]
    assert splits.train.collate(torch.arange(2))["image"].shape == (2, 3, 64, 64)


def test_drawings_that_are_missing_are_named(tmp_path: Path) -> None:
    write_set(tmp_path / "set", archive=False)
    (tmp_path / "set/png/1F431.png").unlink()
    with pytest.raises(DataError, match="lacks 1 of 2 drawings: 1F431"):
        OpenMoji(OpenMojiConfig(root=str(tmp_path / "set"))).splits()


def test_without_the_drawings_the_error_says_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAYERWISE_DATA", raising=False)
    with pytest.raises(UnsupportedError, match=r"LAYERWISE_DATA is not set.*openmoji-bitmaps.*data\.root=FOLDER"):
        OpenMoji(OpenMojiConfig()).splits()


def test_a_damaged_list_is_named(tmp_path: Path) -> None:
    write_set(tmp_path / "set", archive=True)
    (tmp_path / "set/openmoji.json.gz").write_bytes(b"[]{")
    with pytest.raises(DataError, match=r"openmoji\.json\.gz is damaged"):
        OpenMoji(OpenMojiConfig(root=str(tmp_path / "set"))).splits()


@pytest.mark.skipif(
    not (Path(os.environ.get("LAYERWISE_DATA", "")) / WORDS.path).is_file(), reason="LAYERWISE_DATA has no openmoji"
)
def test_the_set_itself_holds_a_tenth_back_by_the_seed() -> None:
    first, other = (prepare(parse_component("data", {"name": "openmoji", "size": 16, "val": 0.0}, "data"), seed)
                    for seed in (0, 1))  # fmt: skip
    assert first.train is not None
    assert first.test is not None
    assert other.test is not None
    assert (len(first.train), len(first.test), first.facts["num_classes"]) == (1723, 191, 98)
    assert first.train.texts is not None
    assert first.test.texts is not None
    assert not set(first.train.texts) & set(first.test.texts)
    assert first.test.texts != other.test.texts
