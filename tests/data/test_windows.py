"""Windows cut out of picture files while they are decoded: torchvision's pixels, draws of the sample alone."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from layerwise.core.config import parse
from layerwise.core.errors import ConfigError, DataError, LayerwiseError
from layerwise.data.examples import Examples, Splits, Subset, TensorExamples
from layerwise.data.feed import Feed
from layerwise.data.image_folder import ImageFolder, ImageFolderConfig
from layerwise.data.pictures import OpenPicture, UnreadablePicture
from layerwise.data.transforms import RandomResizedCrop, RandomResizedCropConfig


def smooth(height: int, width: int, seed: int = 0) -> Image.Image:
    """A colourful picture without fine detail, as a photograph is at its pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def content(picture: Image.Image, path: Path, **options: Any) -> bytes:
    picture.save(path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("box", [(0, 0, 90, 120), (11, 7, 50, 61), (3, 80, 32, 40), (89, 119, 1, 1), (20, 30, 40, 24)])
def test_window_is_torchvisions_resized_crop(torchvision: ModuleType, tmp_path: Path, box: Any) -> None:
    functional = __import__("torchvision.transforms.functional", fromlist=["resized_crop"])
    picture = smooth(90, 120)
    found = OpenPicture(content(picture, tmp_path / "a.png")).window(box, (40, 24), 3)
    theirs = torch.from_numpy(np.array(functional.resized_crop(picture, *box, [40, 24]))).permute(2, 0, 1)
    assert found.shape == theirs.shape
    assert int((found.int() - theirs.int()).abs().max()) <= 1  # rounding between two passes


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_jpeg_at_a_fraction_gives_nearly_the_same_pixels(tmp_path: Path, scale: int) -> None:
    # The whole picture is decoded where the result has the window's own size, a fraction where it is `scale` smaller.
    data = content(smooth(480, 640), tmp_path / "a.jpg", quality=92)
    box = (16, 40, 32 * 8, 48 * 8)
    size = (32 * 8 // scale, 48 * 8 // scale)
    opened = OpenPicture(data)
    found = opened.window(box, size, 3)
    assert opened._opened.size == (640 // scale, 480 // scale)
    full = Image.open(tmp_path / "a.jpg").convert("RGB").crop((40, 16, 40 + box[3], 16 + box[2]))
    wanted = torch.from_numpy(np.array(full.resize(size[::-1], Image.Resampling.BILINEAR))).permute(2, 0, 1)
    difference = (found.int() - wanted.int()).abs().float()
    # A mean over squares against a triangle twice as wide: two levels of 255 on a picture without fine detail.
    assert float(difference.mean()) < 2
    assert float(difference.quantile(0.99)) < 8


def test_turned_and_grey_pictures(tmp_path: Path) -> None:
    picture = smooth(60, 80)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    opened = OpenPicture(content(picture, tmp_path / "a.png", exif=exif))
    assert (opened.height, opened.width) == (80, 60)
    upright = picture.transpose(Image.Transpose.ROTATE_270)
    found = opened.window((10, 20, 30, 16), (30, 16), 3)
    assert torch.equal(found, torch.from_numpy(np.array(upright.crop((20, 10, 36, 40)))).permute(2, 0, 1))
    grey = OpenPicture(content(picture.convert("L"), tmp_path / "b.png")).window((0, 0, 60, 80), (60, 80), 1)
    assert torch.equal(grey[0], torch.from_numpy(np.array(picture.convert("L"))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(12):
        place = tmp_path / "photos" / ("one" if k % 2 else "two")
        place.mkdir(parents=True, exist_ok=True)
        smooth(70 + 7 * k, 90 + k, seed=k).save(place / f"{k:02}.jpg", quality=90)
    return tmp_path / "photos"


def splits(root: Path, **options: Any) -> Splits:
    crop = {"name": "random_resized_crop", "source": "file"}
    tree = {"root": str(root), "size": [32, 32], "augment": [crop], **options}
    return ImageFolder(parse(ImageFolderConfig, tree)).splits()


def examples(root: Path) -> Examples:
    train = splits(root).train
    assert train is not None
    return train


def feed(data: Examples, **options: Any) -> Feed:
    crop = RandomResizedCrop(RandomResizedCropConfig(source="file", scale=(0.2, 1.0)))
    return Feed(data, lambda batch: batch, transforms=[crop], **options)


def by_id(source: Feed, steps: int) -> dict[int, Tensor]:
    batches = [batch for _ in range(steps) for batch in source.next_step()]
    ids = torch.cat([batch["sample_ids"] for batch in batches]).tolist()
    return dict(zip(ids, torch.cat([batch["image"] for batch in batches]), strict=True))


def test_window_is_that_of_the_sample_whatever_the_batch(folder: Path) -> None:
    whole = by_id(feed(examples(folder), batch_size=12), 1)
    parts = by_id(feed(examples(folder), batch_size=6, micro_batch_size=2), 2)
    some = by_id(feed(Subset(examples(folder), torch.tensor([7, 2, 11])), batch_size=3), 1)
    assert len(whole) == 12
    assert all(torch.equal(parts[k], whole[k]) for k in whole)
    assert set(some) == {7, 2, 11}
    assert all(torch.equal(some[k], whole[k]) for k in some)
    again = feed(examples(folder), batch_size=12)
    again.position = 1  # the next epoch draws otherwise
    assert not any(torch.equal(value, whole[k]) for k, value in by_id(again, 1).items())


def test_result_has_the_size_asked_for_and_other_columns(folder: Path) -> None:
    crop = RandomResizedCrop(RandomResizedCropConfig(source="file", size=(20, 28)))
    source = Feed(examples(folder), lambda batch: batch, batch_size=5, transforms=[crop])
    (batch,) = source.next_step()
    assert batch["image"].shape == (5, 3, 20, 28)
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(batch["labels"], source.examples.collate(batch["sample_ids"])["labels"])


def test_only_training_pictures_are_decoded_anew(folder: Path) -> None:
    found = splits(folder, val=str(folder))
    assert found.train is not None
    assert found.train.decodes
    assert isinstance(found.val, TensorExamples)


def test_file_that_breaks_later_is_named(folder: Path) -> None:
    data = examples(folder)
    victim = folder / "two" / "04.jpg"
    victim.write_bytes(victim.read_bytes()[:600])
    with pytest.raises(UnreadablePicture, match=r"two/04\.jpg cannot be read as a picture"):
        feed(data, batch_size=12).next_step()


def test_data_without_files_and_late_windows_are_refused(folder: Path) -> None:
    held = TensorExamples({"image": torch.zeros(4, 3, 8, 8, dtype=torch.uint8)})
    with pytest.raises(DataError, match="source=file"):
        feed(held, batch_size=2).next_step()
    crop = RandomResizedCrop(RandomResizedCropConfig(source="file"))
    plain = RandomResizedCrop(RandomResizedCropConfig())
    with pytest.raises(ConfigError, match="name it first"):
        Feed(held, lambda batch: batch, batch_size=2, transforms=[plain, crop])
    assert issubclass(UnreadablePicture, LayerwiseError)
