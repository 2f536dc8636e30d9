"""Digits that come with the install, and pictures in idx files."""

import gzip
import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.core.config import Component, parse_component
from layerwise.core.errors import DataError
from layerwise.data.digits import Digits, DigitsConfig
from layerwise.data.idx import MNIST, FashionMNIST, FashionMNISTConfig, Idx, IdxConfig, MNISTConfig, read_idx


def idx_bytes(array: np.ndarray, kind: int = 0x08) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist_like(folder: Path, *, zipped: bool, labels: int = 7) -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 4, 3))
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(labels) % 3)):
            data = idx_bytes(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(data) if zipped else data)
    return images


@pytest.mark.parametrize("zipped", [True, False])
def test_own_idx_files_are_read_gzipped_or_not(tmp_path: Path, zipped: bool) -> None:
    images = write_mnist_like(tmp_path, zipped=zipped)
    splits = Idx(IdxConfig(root=str(tmp_path))).splits()
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(7))
    assert batch["image"].shape == (7, 1, 4, 3)
    assert np.array_equal(batch["image"][:, 0].numpy(), images)
    assert batch["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert splits.facts == {"num_classes": 3, "in_channels": 1, "image_size": (4, 3), "in_features": 12}


def test_truncated_gzip_says_truncated(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (50, 9, 9))))[:-200])
    with pytest.raises(DataError, match=r"x\.gz is truncated"):
        read_idx(path)


def test_damaged_gzip_says_damaged(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (50, 9, 9)))))
    data[-6] ^= 0xFF  # the checksum
    (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.gz is damaged"):
        read_idx(tmp_path / "x.gz")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an idx file"),
        (b"PNG!....", "is not an idx file"),
        (idx_bytes(np.zeros((2, 3)))[:7], "ends within its header"),
        (idx_bytes(np.zeros((2, 3)))[:-1], "5 bytes follow its header, 6 were announced"),
        (idx_bytes(np.zeros((2, 3))) + b"\0", "7 bytes follow its header, 6 were announced"),
        (idx_bytes(np.zeros((2, 3)), kind=0x0D), "type 0x0d"),
    ],
)
def test_other_content_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x")


def test_pictures_and_labels_of_other_number_are_an_error(tmp_path: Path) -> None:
    write_mnist_like(tmp_path, zipped=False, labels=6)
    with pytest.raises(DataError, match=r"7 pictures, .* 6 labels"):
        Idx(IdxConfig(root=str(tmp_path))).splits()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        Idx(IdxConfig(root=str(tmp_path))).splits()
    with pytest.raises(DataError, match=r"data\.root is needed"):
        Idx(IdxConfig()).splits()


def test_mnist_is_the_published_set(datasets_folder: Path) -> None:
    splits = MNIST(MNISTConfig(root=str(datasets_folder / "images" / "mnist"))).splits()
    assert splits.train is not None
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (60_000, 10_000)
    batch = splits.train.collate(torch.arange(60_000))
    assert batch["labels"][:5].tolist() == [5, 0, 4, 1, 9]  # the first five of every description of MNIST
    counts = np.bincount(batch["image"].numpy().ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    std = float(((counts * (levels - mean) ** 2).sum() / counts.sum()) ** 0.5)
    assert splits.normalisation is not None
    assert mean == pytest.approx(splits.normalisation["mean"][0], abs=1e-4)
    assert std == pytest.approx(splits.normalisation["std"][0], abs=1e-4)


def test_fashion_mnist_is_the_published_set(datasets_folder: Path) -> None:
    splits = FashionMNIST(FashionMNISTConfig(root=str(datasets_folder / "images" / "fashion-mnist"))).splits()
    assert splits.train is not None
    labels = splits.train.labels()
    assert labels is not None
    assert labels.bincount().tolist() == [6000] * 10
    assert splits.class_names is not None
    assert splits.class_names[int(labels[0])] == "Ankle boot"  # as in the set's own README


def test_digits_are_scikit_learns_in_their_order_of_split() -> None:
    """Every picture, undone to dots, is one of scikit-learn's with its label; sample ids are its row."""
    code = (
        "import sys, numpy; from sklearn.datasets import load_digits; d = load_digits();"
        "numpy.savez(sys.stdout.buffer, x=d.images, y=d.target)"
    )
    raw = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
    with np.load(io.BytesIO(raw)) as theirs:
        x, y = theirs["x"], theirs["y"]
    loaded = "sklearn" in sys.modules
    splits = Digits(DigitsConfig()).splits()
    assert ("sklearn" in sys.modules) == loaded  # its file is read, its code is not run
    seen: list[int] = []
    for part in (splits.train, splits.val, splits.test):
        assert part is not None
        batch = part.collate(torch.arange(len(part)))
        rows = batch["sample_ids"].numpy()
        seen += rows.tolist()
        assert np.array_equal(np.round(batch["image"][:, 0].double().numpy() * 16 / 255), x[rows])
        assert np.array_equal(batch["labels"].numpy(), y[rows])
    assert sorted(seen) == list(range(1797))
    assert len(splits.test or []) == round(0.2 * 1797)


def test_digits_split_does_not_follow_the_seed() -> None:
    first, second = (Digits(DigitsConfig()).splits().test for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.fingerprint() == second.fingerprint()


def test_digits_can_be_enlarged() -> None:
    train = Digits(DigitsConfig(size=(24, 24))).splits().train
    assert train is not None
    assert train.collate(torch.tensor([0]))["image"].shape == (1, 1, 24, 24)


def test_wrong_file_for_digits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "digits.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match=r"is not scikit-learn's digits\.csv\.gz"):
        Digits(DigitsConfig(root=str(tmp_path))).splits()


def test_names_resolve_to_components() -> None:
    for name in ("digits", "mnist", "fashion_mnist", "idx"):
        assert isinstance(parse_component("data", name, "data"), Component)


def test_padded_pictures_are_the_same_with_a_black_rim(datasets_folder: Path) -> None:
    root = str(datasets_folder / "images" / "mnist")
    plain, padded = (MNIST(MNISTConfig(root=root, pad=pad)).splits() for pad in (0, 2))
    assert plain.test is not None
    assert padded.test is not None
    wanted = plain.test.collate(torch.arange(20))["image"]
    found = padded.test.collate(torch.arange(20))["image"]
    assert padded.facts["image_size"] == (32, 32)
    assert torch.equal(found[..., 2:30, 2:30], wanted)
    assert int(found.sum(dtype=torch.int64)) == int(wanted.sum(dtype=torch.int64))
