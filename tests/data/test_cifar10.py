"""CIFAR-10's binary archive, and the subset that comes as PNG files."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.errors import ConfigError, DataError, UnsupportedError
from layerwise.data.cifar10 import CIFAR10, CLASS_NAMES, CIFAR10Config, CIFAR10Subset, CIFAR10SubsetConfig, ClassName
from layerwise.data.examples import Examples

FILES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


def write_batches(folder: Path) -> dict[str, np.ndarray]:
    """Six files of three records each, as the set's own page describes them: label, then red, green and blue planes by
    rows.
    """
    rng = np.random.default_rng(0)
    made = {}
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(FILES):
        pictures = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
        content = b"".join(
            bytes([(place + k) % 10]) + b"".join(picture[:, :, c].tobytes() for c in range(3))
            for k, picture in enumerate(pictures)
        )
        (folder / name).write_bytes(content)
        made[name] = pictures
    return made


def columns(examples: Examples | None) -> dict[str, torch.Tensor]:
    assert examples is not None
    return examples.collate(torch.arange(len(examples)))


def archived(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for name in FILES:
            archive.add(folder / name, f"cifar-10-batches-bin/{name}")
    return target


@pytest.mark.parametrize("form", ["files", "folder above", "archive", "folder of the archive"])
def test_records_are_read_from_files_and_from_the_archive(form: str, tmp_path: Path) -> None:
    files = tmp_path / "x" / "cifar-10-batches-bin"
    pictures = write_batches(files)
    archive = archived(files, tmp_path / "cifar-10-binary.tar.gz")
    root = {"files": files, "folder above": tmp_path / "x", "archive": archive, "folder of the archive": tmp_path}[form]
    splits = CIFAR10(CIFAR10Config(root=str(root))).splits()
    train, test = columns(splits.train), columns(splits.test)
    expected = np.concatenate([pictures[name] for name in FILES[:5]])
    assert np.array_equal(train["image"].permute(0, 2, 3, 1).numpy(), expected)
    assert train["labels"].tolist() == [(place + k) % 10 for place in range(5) for k in range(3)]
    assert np.array_equal(test["image"].permute(0, 2, 3, 1).numpy(), pictures["test_batch.bin"])
    assert test["labels"].tolist() == [5, 6, 7]
    assert splits.facts["num_classes"] == len(splits.class_names or ()) == 10


def test_some_classes_are_taken_and_numbered_anew(tmp_path: Path) -> None:
    pictures = write_batches(tmp_path)
    splits = CIFAR10(CIFAR10Config(root=str(tmp_path), classes=("frog", "bird"))).splits()
    train, test = columns(splits.train), columns(splits.test)
    assert (splits.class_names, splits.facts["num_classes"]) == (["frog", "bird"], 2)
    assert train["labels"].tolist() == [1, 1, 1, 0]  # birds (2) in files 1, 2 and 3, a frog (6) in file 5
    assert np.array_equal(train["image"][3].permute(1, 2, 0).numpy(), pictures["data_batch_5.bin"][2])
    assert test["labels"].tolist() == [0]  # 5, 6, 7
    twice: list[tuple[ClassName, ...]] = [("frog",), ("frog", "frog")]
    for wrong in twice:
        with pytest.raises(ConfigError, match="two or more are needed, each once"):
            CIFAR10Config(classes=wrong)


@pytest.mark.parametrize("size", [(64, 64), (40, 48), (32, 32)])
def test_enlarged_pictures_are_pillows_to_one_grey_level(size: tuple[int, int], tmp_path: Path) -> None:
    pictures = write_batches(tmp_path)
    splits = CIFAR10(CIFAR10Config(root=str(tmp_path), size=size)).splits()
    images = columns(splits.test)["image"]
    assert splits.facts["image_size"] == size
    for ours, picture in zip(images, pictures["test_batch.bin"], strict=True):
        theirs = np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))
        assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    write_batches(tmp_path)
    whole = (tmp_path / "data_batch_3.bin").read_bytes()
    (tmp_path / "data_batch_3.bin").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin has 9218 bytes: expected a multiple of 3073"):
        CIFAR10(CIFAR10Config(root=str(tmp_path))).splits()
    (tmp_path / "data_batch_3.bin").write_bytes(bytes([10]) + whole[1:])
    with pytest.raises(DataError, match=r"data_batch_3\.bin has the label 10"):
        CIFAR10(CIFAR10Config(root=str(tmp_path))).splits()
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing"):
        CIFAR10(CIFAR10Config(root=str(tmp_path))).splits()


def test_another_file_than_the_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "python.tar.gz").write_bytes(b"\x1f\x8b no archive")
    with pytest.raises(DataError, match=r"python\.tar\.gz cannot be read as an archive"):
        CIFAR10(CIFAR10Config(root=str(tmp_path / "python.tar.gz"))).splits()
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(DataError, match=r"has no data_batch_1\.bin: it is not CIFAR-10's binary archive"):
        CIFAR10(CIFAR10Config(root=str(tmp_path / "other.tar.gz"))).splits()


def test_cifar10_is_not_downloaded_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    with pytest.raises(UnsupportedError, match=r"170\.1 MB, https://www\.cs\.toronto\.edu"):
        CIFAR10(CIFAR10Config()).splits()


# ------------------------------------------------------------------------------------------------------------- subset


def test_the_subset_has_its_published_size(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 and 1,000 pictures, equally many of each class, of CIFAR-10's colours."""
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    splits = CIFAR10Subset(CIFAR10SubsetConfig()).splits()
    train, test = columns(splits.train), columns(splits.test)
    assert train["image"].shape == (4000, 3, 32, 32)
    assert train["labels"].bincount().tolist() == [400] * 10
    assert test["labels"].bincount().tolist() == [100] * 10
    assert splits.class_names == CLASS_NAMES
    assert splits.normalisation is not None
    mean = train["image"].double().mean((0, 2, 3)) / 255
    # The subset's own mean differs from the 50,000 pictures' by the spread of 4,000 pictures' means, about 0.002.
    assert mean.tolist() == pytest.approx(splits.normalisation["mean"], abs=0.008)


def test_the_subset_may_be_a_zip_elsewhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "cifar10_train4000_test1000_png.zip", "w") as archive:
        for part in ("train", "test"):
            for name in CLASS_NAMES:
                handle = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(handle, "PNG")
                archive.writestr(f"{part}/{name}/0.png", handle.getvalue())
    for root in (tmp_path, tmp_path / "cifar10_train4000_test1000_png.zip"):
        splits = CIFAR10Subset(CIFAR10SubsetConfig(root=str(root))).splits()
        assert columns(splits.train)["labels"].tolist() == list(range(10))
        assert splits.facts["in_channels"] == 3


def test_other_pictures_are_not_taken_for_the_subset(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cats", "dogs"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / part / name / "0.png")
    with pytest.raises(DataError, match="is not the CIFAR-10 subset"):
        CIFAR10Subset(CIFAR10SubsetConfig(root=str(tmp_path))).splits()


def test_an_absent_subset_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    with pytest.raises(UnsupportedError, match=r"LAYERWISE_DATA \(.*\) has no images/cifar10-subset/.*data\.root"):
        CIFAR10Subset(CIFAR10SubsetConfig()).splits()
    monkeypatch.delenv("LAYERWISE_DATA")
    with pytest.raises(UnsupportedError, match="LAYERWISE_DATA is not set"):
        CIFAR10Subset(CIFAR10SubsetConfig()).splits()
