"""Pictures in tar files: the same pictures as in a folder, in an order that reads few archives at a time."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.config import parse_component
from layerwise.core.errors import DataError
from layerwise.data.checks_files import _headers
from layerwise.data.examples import Splits, Subset
from layerwise.data.feed import Feed
from layerwise.data.image_folder import PictureFiles
from layerwise.data.image_shards import ImageShards, ImageShardsConfig
from layerwise.data.splits import prepare
from layerwise.ops.random import windowed_permutation


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def picture(value: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def fill(root: Path, shards: int = 40, each: int = 5) -> None:
    """Picture i is of grey value i, of class dog where i is odd; classes by .cls and .json in turn."""
    for shard in range(shards):
        files: dict[str, bytes] = {}
        for i in range(shard * each, (shard + 1) * each):
            name = ("cat", "dog")[i % 2]
            files[f"x/{i:05}.png"] = picture(i)
            files |= (
                {f"x/{i:05}.cls": name.encode()} if i % 3 else {f"x/{i:05}.json": json.dumps({"label": name}).encode()}
            )
        write_tar(root / f"{shard:03}.tar", files)


def load(root: Path, **options: object) -> Splits:
    options = {"size": (8, 8), "channels": "rgb", "memory_gb": 1e-9, **options}
    return ImageShards(ImageShardsConfig(root=str(root), **options)).splits()  # type: ignore[arg-type]


@pytest.mark.parametrize("memory_gb", [1e-9, 1.0])
def test_pictures_and_classes_are_those_of_the_archives(memory_gb: float, tmp_path: Path) -> None:
    fill(tmp_path, 4)
    splits = load(tmp_path, memory_gb=memory_gb)
    assert splits.train is not None
    batch = splits.train.collate(torch.tensor([19, 0, 7]))
    assert batch["image"][:, 0, 0, 0].tolist() == [19, 0, 7]
    assert [(splits.class_names or [])[k] for k in batch["labels"].tolist()] == ["dog", "cat", "dog"]


def test_split_folders_and_numbers_as_classes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        files = {f"{i}.png": picture(i) for i in range(12)} | {f"{i}.cls": str(i).encode() for i in range(12)}
        write_tar(tmp_path / part / "0.tar", files)
    splits = load(tmp_path)
    assert splits.class_names == [str(i) for i in range(12)]
    assert len(splits.val or []) == 12


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": b"x"}, r"0\.tar/a\.png has no class"),
        ({"a.png": b"x", "a.json": b"{"}, r"0\.tar/a\.json cannot be read"),
        ({"a.png": b"x", "a.json": b"{}"}, r"0\.tar/a\.json names no class"),
        ({"a.png": b"x", "a.cls": b"\xff"}, r"0\.tar/a\.cls cannot be read"),
        ({"a.txt": b"x"}, "1 tar files have no pictures"),
        ({"a.png": b"x", "a.cls": b"cat"}, "one class only, 'cat'"),
    ],
)
def test_what_is_wrong_in_an_archive_is_named(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", files)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_damaged_and_absent_archives_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no tar files"):
        load(tmp_path)
    fill(tmp_path, 2)
    whole = (tmp_path / "001.tar").read_bytes()
    for damaged in (b"no tar file" * 100, whole[: len(whole) // 3 + 100]):
        (tmp_path / "001.tar").write_bytes(damaged)
        with pytest.raises(DataError, match=r"001\.tar"):
            read_all(load(tmp_path))


def read_all(splits: Splits) -> None:
    assert splits.train is not None
    splits.train.collate(torch.arange(len(splits.train)))


def test_check_reads_the_headers_inside(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    headers = _headers(load(tmp_path).extras["files"]["train"])
    assert [(header.kind, header.width, header.height) for header in headers] == [("PNG", 8, 8)] * 10


# -------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("window", [1, 3, 16, 100])
def test_order_holds_every_example_once_and_reads_a_window_of_shards_at_a_time(window: int) -> None:
    shards = torch.arange(200) // 5
    order = windowed_permutation(shards, window, 0, "epoch", 3)
    assert order.sort().values.tolist() == list(range(200))
    pools = [set(shards[pool].tolist()) for pool in order.split(5 * window)]
    assert sum(len(pool) for pool in pools) == 40  # no shard is in two pools
    assert all(len(pool) <= window for pool in pools)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    shards = torch.arange(200) // 5
    first, again = (windowed_permutation(shards, 4, 0, "epoch", 3) for _ in range(2))
    assert torch.equal(first, again)
    for seed, epoch in ((1, 3), (0, 4)):
        assert not torch.equal(first, windowed_permutation(shards, 4, seed, "epoch", epoch))


def test_every_example_is_likely_to_be_first() -> None:
    """20 examples in 4 shards, 4,000 orders: each is first in 200 of them, with a deviation of 13.8."""
    shards = torch.arange(20) // 5
    first = torch.tensor([int(windowed_permutation(shards, 2, seed)[0]) for seed in range(4000)])
    assert (first.bincount(minlength=20) - 200).abs().max() < 5 * 13.8


def test_feed_reads_sixteen_archives_at_a_time_and_goes_on_where_it_was(tmp_path: Path) -> None:
    fill(tmp_path)
    options = {"name": "image_shards", "root": str(tmp_path), "size": "8,8", "channels": "rgb", "memory_gb": 1e-9}
    train = prepare(parse_component("data", options, "data"), seed=0).train
    assert isinstance(train, Subset)  # without validation and test pictures
    assert isinstance(train.parent, PictureFiles)

    def feed() -> Feed:
        return Feed(train, lambda batch: batch, batch_size=10, seed=7)

    whole = feed()
    seen = [torch.cat([part["sample_ids"] for part in whole.next_step(torch.nn.Identity())]) for _ in range(20)]
    epoch = torch.cat(seen[: whole.steps_per_epoch])
    assert len(set(epoch.tolist())) == len(train)
    assert len(set((epoch[:40] // 5).tolist())) <= 16
    resumed = feed()
    part = feed()
    for _ in range(11):
        part.next_step(torch.nn.Identity())
    resumed.load(part.state())
    for expected in seen[11:]:
        found = torch.cat([each["sample_ids"] for each in resumed.next_step(torch.nn.Identity())])
        assert torch.equal(found, expected)
