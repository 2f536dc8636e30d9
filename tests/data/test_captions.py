"""Captions of a person's pictures: text files beside them, or a column of a CSV file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.errors import DataError
from layerwise.data.examples import Examples
from layerwise.data.picture_folder import PictureFolder, PictureFolderConfig
from layerwise.data.texts import unpack_texts


def write_pictures(folder: Path, names: tuple[str, ...]) -> None:
    """Pictures of one grey each: the i-th is 10 i."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(folder / name)


def read(folder: Path, **options: object) -> tuple[Examples, list[str]]:
    config = PictureFolderConfig(root=str(folder), size=(8, 8), **options)  # type: ignore[arg-type]
    splits = PictureFolder(config).splits()
    assert splits.train is not None
    return splits.train, splits.warnings


def pairs(examples: Examples) -> dict[int, str]:
    """Grey level of each picture, and its text."""
    batch = examples.collate(torch.arange(len(examples)))
    texts = [text.decode() for text in unpack_texts(batch["text"])]
    return dict(zip(batch["image"][:, 0, 0, 0].tolist(), texts, strict=True))


def test_a_text_file_beside_each_picture_is_its_caption(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("a.png", "deep/b.png"))
    (tmp_path / "a.txt").write_text("\ufeffa kite \n over the sea\n", encoding="utf-8")
    (tmp_path / "deep/b.txt").write_text("né", encoding="utf-8")
    examples, warnings = read(tmp_path)
    assert pairs(examples) == {0: "a kite over the sea", 10: "né"}
    assert examples.texts == ["a kite over the sea", "né"]
    assert warnings == []


def test_a_column_of_a_csv_file_holds_the_captions(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("a.png", "deep/b.png", "c.png"))
    (tmp_path / "captions.csv").write_text('file,caption\ndeep/b.png,"two, and"\na,one\nc.png,three\n')
    examples, _ = read(tmp_path)
    assert pairs(examples) == {0: "one", 10: "two, and", 20: "three"}


def test_the_csv_file_and_its_columns_may_be_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", ("a.png", "b.png"))
    (tmp_path / "words.csv").write_text("id,picture,title,note\n1,a.png,x,long x\n2,b.png,y,long y\n")
    examples, _ = read(tmp_path / "p", captions=str(tmp_path / "words.csv"), text="note")
    assert pairs(examples) == {0: "long x", 10: "long y"}
    with pytest.raises(DataError, match=r"data\.text=COLUMN of id, title, note"):
        read(tmp_path / "p", captions=str(tmp_path / "words.csv"))
    with pytest.raises(DataError, match=r"data\.text=nope: .*words\.csv has no such column"):
        read(tmp_path / "p", captions=str(tmp_path / "words.csv"), text="nope")
    with pytest.raises(DataError, match=r"data\.captions=other\.csv: .* has no such file"):
        read(tmp_path / "p", captions="other.csv")


def test_missing_captions_are_named_or_their_pictures_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("a.png", "b.png", "c.png"))
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "c.txt").write_text(" \n")
    with pytest.raises(DataError, match=r"2 pictures have no caption: b\.png, c\.png"):
        read(tmp_path)
    examples, warnings = read(tmp_path, on_error="skip")
    assert pairs(examples) == {0: "one"}
    assert any("b.png, c.png" in warning for warning in warnings)
    plain, _ = read(tmp_path, captions="none")
    assert len(plain) == 3
    assert plain.texts is None


def test_rows_without_a_picture_are_named_and_repeated_ones_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("a.png", "b.png"))
    (tmp_path / "captions.csv").write_text("file,caption\na.png,one\nb.png,two\na.png,again\ngone.png,three\n")
    with pytest.raises(DataError, match=r"1 rows name no picture: line 5: file='?gone\.png"):
        read(tmp_path)
    examples, warnings = read(tmp_path, on_error="skip")
    assert pairs(examples) == {0: "one", 10: "two"}
    assert any("name a picture again" in warning for warning in warnings)


def test_captions_stay_with_their_pictures_when_one_cannot_be_read(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("a.png", "b.png", "c.png"))
    (tmp_path / "b.png").write_bytes(b"\x89PNG nothing")
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"it is {name}")
    examples, _ = read(tmp_path, on_error="skip")
    assert pairs(examples) == {0: "it is a", 20: "it is c"}


def test_pictures_too_many_for_memory_have_the_same_captions(tmp_path: Path) -> None:
    write_pictures(tmp_path, ("a.png", "b.png", "c.png", "d.png"))
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(name)
    kept, anew = (read(tmp_path, memory_gb=gb)[0] for gb in (1.0, 1e-12))
    assert (kept.decodes, anew.decodes) == (False, True)
    assert pairs(kept) == pairs(anew) == {0: "a", 10: "b", 20: "c", 30: "d"}


def test_another_folder_for_validation_has_captions_of_its_own(tmp_path: Path) -> None:
    write_pictures(tmp_path / "t", ("a.png", "b.png"))
    write_pictures(tmp_path / "v", ("a.png",))
    (tmp_path / "t/captions.csv").write_text("file,caption\na.png,one\nb.png,two\n")
    with pytest.raises(DataError, match=r"/v has no captions"):
        read(tmp_path / "t", val=str(tmp_path / "v"))
    (tmp_path / "v/a.txt").write_text("three")
    config = PictureFolderConfig(root=str(tmp_path / "t"), val=str(tmp_path / "v"), size=(8, 8))
    splits = PictureFolder(config).splits()
    assert splits.val is not None
    assert pairs(splits.val) == {0: "three"}
