"""Pictures of every size and mode below a folder, with nothing said of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.errors import DataError
from layerwise.data.picture_folder import PictureFolder, PictureFolderConfig


def write_pictures(folder: Path, count: int = 6) -> None:
    generator = np.random.default_rng(0)
    (folder / "deep" / "er").mkdir(parents=True)
    for i in range(count):
        pixels = generator.integers(0, 256, (20 + i, 26, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / ("deep/er" if i % 2 else ".") / f"{i}.png")


def test_every_picture_counts_however_deep_and_has_no_class(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    splits = PictureFolder(PictureFolderConfig(root=str(tmp_path), size=(16, 12))).splits()
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(6))
    assert set(batch) == {"image", "sample_ids"}
    assert batch["image"].shape == (6, 3, 16, 12)
    assert splits.train.labels() is None
    assert splits.class_names is None
    assert "num_classes" not in splits.facts
    assert any("notes.txt" in warning for warning in splits.warnings)


def test_pictures_too_many_for_memory_are_decoded_alike(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    kept, anew = (
        PictureFolder(PictureFolderConfig(root=str(tmp_path), size=(16, 12), memory_gb=gb)).splits().train
        for gb in (1.0, 1e-9)
    )
    assert kept is not None
    assert anew is not None
    assert (kept.decodes, anew.decodes) == (False, True)
    assert torch.equal(kept.collate(torch.arange(6))["image"], anew.collate(torch.arange(6))["image"])


def test_other_folder_for_validation(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a")
    write_pictures(tmp_path / "b", 3)
    config = PictureFolderConfig(root=str(tmp_path / "a"), val=str(tmp_path / "b"), size=(16, 12))
    splits = PictureFolder(config).splits()
    assert splits.train is not None
    assert splits.val is not None
    assert (len(splits.train), len(splits.val)) == (6, 3)


def test_unreadable_pictures_are_named_or_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(DataError, match=r"broken\.png"):
        PictureFolder(PictureFolderConfig(root=str(tmp_path), size=(16, 12))).splits()
    splits = PictureFolder(PictureFolderConfig(root=str(tmp_path), size=(16, 12), on_error="skip")).splits()
    assert splits.train is not None
    assert len(splits.train) == 6
    assert any("broken.png" in warning for warning in splits.warnings)


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no pictures"):
        PictureFolder(PictureFolderConfig(root=str(tmp_path))).splits()
