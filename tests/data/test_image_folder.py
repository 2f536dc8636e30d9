"""Pictures of every kind in folders and zips, whole and broken."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.config import parse_component
from layerwise.core.errors import DataError
from layerwise.data.examples import Examples, Splits, TensorExamples
from layerwise.data.image_folder import ImageFolder, ImageFolderConfig, PictureFiles
from layerwise.data.pictures import UnreadablePicture, decode_image, probe_image
from layerwise.data.splits import prepare

RNG = np.random.default_rng(0)


def noise(height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def png(array: np.ndarray, mode: str | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(out, "PNG", **options)  # type: ignore[arg-type]
    return out.getvalue()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)  # type: ignore[arg-type]
    return out.getvalue()


def fill(root: Path, per_class: int = 3, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            (root / name / f"{i}.png").write_bytes(png(noise()))


def load(root: Path, **options: object) -> Splits:
    return ImageFolder(ImageFolderConfig(root=str(root), **options)).splits()  # type: ignore[arg-type]


def whole(part: Examples | None) -> dict[str, torch.Tensor]:
    assert part is not None
    return part.collate(torch.arange(len(part)))


# ------------------------------------------------------------------------------------------------------- one picture


def test_rgb_pixels_are_those_of_the_file() -> None:
    array = noise(5, 7)
    assert np.array_equal(decode_image(png(array)).permute(1, 2, 0).numpy(), array)


def test_grey_stays_grey_and_becomes_rgb_when_asked() -> None:
    array = noise(5, 7, 1)
    assert np.array_equal(decode_image(png(array))[0].numpy(), array)
    colour = decode_image(png(array), channels=3)
    assert all(np.array_equal(plane.numpy(), array) for plane in colour)


def test_rgb_becomes_grey_by_luma() -> None:
    array = noise(5, 7)
    luma = array.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode_image(png(array), channels=1)[0].numpy() - luma).max() <= 1


def test_transparency_is_laid_on_white() -> None:
    array = noise(4, 4, 4)
    array[0, 0, 3], array[1, 1, 3] = 0, 255
    alpha = array[..., 3:].astype(np.float64) / 255
    expected = array[..., :3] * alpha + 255 * (1 - alpha)
    got = decode_image(png(array)).permute(1, 2, 0).numpy()
    assert np.abs(got - expected).max() <= 1
    assert got[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(got[1, 1], array[1, 1, :3])


def test_grey_with_transparency_is_laid_on_white() -> None:
    array = noise(4, 4, 2)
    alpha = array[..., 1].astype(np.float64) / 255
    got = decode_image(png(array))
    assert got.shape[0] == 1
    assert np.abs(got[0].numpy() - (array[..., 0] * alpha + 255 * (1 - alpha))).max() <= 1


def test_palette_gives_its_colours() -> None:
    image = Image.fromarray(noise(16, 16)).quantize(8)
    assert np.array_equal(
        decode_image(encoded(image, "PNG")).permute(1, 2, 0).numpy(), np.asarray(image.convert("RGB"))
    )


def test_palette_with_transparent_colour_is_laid_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    got = decode_image(encoded(image, "PNG", transparency=0))
    assert got[:, 0, 0].tolist() == [255, 255, 255]
    assert got[:, 0, 1].tolist() == [200, 100, 50]


def test_bilevel_is_black_and_white() -> None:
    got = decode_image(encoded(Image.fromarray(np.array([[True, False]])), "PNG"))
    assert got.tolist() == [[[255, 0]]]


def test_sixteen_bits_are_scaled_and_rounded() -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65407, 65535]], dtype=np.uint16)
    expected = np.round(values / 65535 * 255).astype(int)
    for kind in ("PNG", "TIFF"):
        assert np.array_equal(decode_image(encoded(Image.fromarray(values), kind))[0].numpy(), expected)


def test_floating_point_pixels_in_unit_range_are_scaled_and_others_refused() -> None:
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    assert decode_image(encoded(Image.fromarray(values), "TIFF")).tolist() == [[[0, 128, 255]]]
    with pytest.raises(UnreadablePicture, match=r"not all in \[0, 1\]"):
        decode_image(encoded(Image.fromarray(values * 300), "TIFF"))


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    red, green, blue = decode_image(encoded(image, "JPEG", quality=100))[:, 4, 4].tolist()
    assert red > 200
    assert green < 60
    assert blue < 60


def test_exif_rotation_is_applied() -> None:
    image = Image.fromarray(noise(6, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    data = encoded(image, "PNG", exif=exif)
    assert probe_image(data)[:2] == (10, 6)
    assert np.array_equal(decode_image(data).permute(1, 2, 0).numpy(), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decode_image(data)[:, 3, 3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_formats_are_read(kind: str) -> None:
    grey = np.full((8, 8, 3), 77, dtype=np.uint8)
    assert (decode_image(encoded(Image.fromarray(grey), kind)).int() - 77).abs().max() <= 2


def test_size_keeps_the_middle_and_the_shape_of_things() -> None:
    """A wide picture, left third red, middle green, right third blue: the centre square is green."""
    array = np.zeros((20, 60, 3), dtype=np.uint8)
    array[:, :20, 0] = array[:, 20:40, 1] = array[:, 40:, 2] = 255
    got = decode_image(png(array), (10, 10))
    assert got.shape == (3, 10, 10)
    assert (got[1, :, 1:9] == 255).all()  # the outermost columns see a little of the neighbours
    assert (got[[0, 2], :, 1:9] == 0).all()


def test_halving_averages_as_a_triangle_filter() -> None:
    """Bilinear with antialiasing at half size: weights 1/8, 3/8, 3/8, 1/8 in the inside."""
    row = RNG.integers(0, 256, 16).astype(np.float64)
    array = np.repeat(row[None].astype(np.uint8), 16, 0)
    got = decode_image(png(array), (8, 8))[0, 4].numpy()
    expected = [(row[2 * i - 1] + 3 * row[2 * i] + 3 * row[2 * i + 1] + row[2 * i + 2]) / 8 for i in range(1, 7)]
    assert np.abs(got[1:7] - np.array(expected)).max() <= 1


def test_large_jpeg_is_decoded_at_a_fraction_with_nearly_the_same_pixels() -> None:
    smooth = np.linspace(0, 255, 512)[None, :, None] * np.ones((512, 1, 3))
    data = encoded(Image.fromarray(smooth.astype(np.uint8)), "JPEG", quality=95)
    got = decode_image(data, (32, 32))[0, 16].double().numpy()
    assert np.abs(got - (np.arange(32) + 0.5) * 255 / 32).max() < 3


@pytest.mark.parametrize("damage", ["empty", "text", "truncated png", "truncated jpeg"])
def test_broken_files_are_named(tmp_path: Path, damage: str) -> None:
    data = {
        "empty": b"",
        "text": b"this is not a picture",
        "truncated png": png(noise(64, 64))[:3000],
        "truncated jpeg": encoded(Image.fromarray(noise(64, 64)), "JPEG")[:800],
    }[damage]
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(UnreadablePicture, match=r"x\.png cannot be read as a picture"):
        decode_image(tmp_path / "x.png")


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        decode_image(tmp_path / "nothing.png")


# ------------------------------------------------------------------------------------------------------------ folders


def test_classes_are_the_sorted_folder_names(tmp_path: Path) -> None:
    fill(tmp_path, classes=("zebra", "ant", "Bee"))
    splits = load(tmp_path)
    assert splits.class_names == ["Bee", "ant", "zebra"]
    batch = whole(splits.train)
    assert batch["labels"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    first = np.asarray(Image.open(tmp_path / "ant" / "0.png"))
    assert np.array_equal(batch["image"][3].permute(1, 2, 0).numpy(), first)
    assert splits.facts == {"num_classes": 3, "in_channels": 3, "image_size": (8, 8), "in_features": 192}


def test_split_folders_are_recognised(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("Valid", 2), ("test", 1)):
        fill(tmp_path / part, count)
    splits = load(tmp_path)
    assert [len(part or []) for part in (splits.train, splits.val, splits.test)] == [8, 4, 2]


def test_zip_with_a_wrapper_folder_reads_as_its_folder(tmp_path: Path) -> None:
    fill(tmp_path / "mine" / "train")
    fill(tmp_path / "mine" / "test", 1)
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in sorted((tmp_path / "mine").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("__MACOSX/mine/train/cat/._0.png", b"litter")
    zipped, plain = load(tmp_path / "mine.zip"), load(tmp_path / "mine")
    for part in ("train", "test"):
        ours, theirs = whole(getattr(zipped, part)), whole(getattr(plain, part))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_litter_is_ignored_and_other_files_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("x")
    splits = load(tmp_path)
    assert len(splits.train or []) == 6
    assert len(splits.warnings) == 1
    assert "notes.txt" in splits.warnings[0]


def test_pictures_outside_class_folders_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "loose.png").write_bytes(png(noise()))
    splits = load(tmp_path)
    assert len(splits.train or []) == 6
    assert "loose.png" in splits.warnings[0]


def test_deeper_folders_belong_to_the_class_above(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "cat" / "more").mkdir()
    (tmp_path / "cat" / "more" / "x.PNG").write_bytes(png(noise()))
    assert whole(load(tmp_path).train)["labels"].tolist() == [0] * 4 + [1] * 3


def test_empty_class_folder_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "bird").mkdir()
    with pytest.raises(DataError, match="'bird' has no pictures"):
        load(tmp_path)


def test_one_class_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, classes=("cat",))
    with pytest.raises(DataError, match="one class only, 'cat'"):
        load(tmp_path)


def test_folder_without_pictures_or_classes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no pictures"):
        load(tmp_path)
    (tmp_path / "a.png").write_bytes(png(noise()))
    with pytest.raises(DataError, match="no class folders"):
        load(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        load(tmp_path / "a.png")


def test_class_that_train_lacks_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("cat", "dogs"))
    with pytest.raises(DataError, match=r"test has the class 'dogs', train has not\. Did you mean 'dog'\?"):
        load(tmp_path)


def test_mixed_modes_become_one_batch_of_colour(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    (tmp_path / "cat" / "grey.png").write_bytes(png(noise(channels=1)))
    (tmp_path / "cat" / "palette.png").write_bytes(encoded(Image.fromarray(noise()).quantize(4), "PNG"))
    (tmp_path / "dog" / "alpha.png").write_bytes(png(noise(channels=4)))
    (tmp_path / "dog" / "print.jpg").write_bytes(encoded(Image.new("CMYK", (8, 8)), "JPEG"))
    wide = RNG.integers(0, 65536, (8, 8)).astype(np.uint16)
    (tmp_path / "dog" / "wide.png").write_bytes(encoded(Image.fromarray(wide), "PNG"))
    assert whole(load(tmp_path).train)["image"].shape == (7, 3, 8, 8)
    assert whole(load(tmp_path, channels="grey").train)["image"].shape == (7, 1, 8, 8)


def test_all_grey_gives_one_channel(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(noise(channels=1)))
        (tmp_path / name / "w.png").write_bytes(encoded(Image.fromarray(np.ones((8, 8), np.uint16)), "PNG"))
    assert load(tmp_path).facts["in_channels"] == 1


def test_sizes_that_differ_become_a_square_and_are_told(tmp_path: Path) -> None:
    for name, size in (("a", (40, 30)), ("b", (24, 60))):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.png").write_bytes(png(noise(*size)))
    splits = load(tmp_path)
    assert splits.facts["image_size"] == (24, 24)  # median of 30, 30, 30, 24, 24, 24 is 27, down to a multiple of 8
    assert "data.size=24 " in splits.warnings[0]
    assert load(tmp_path, size=(12, 16)).facts["image_size"] == (12, 16)


def test_unreadable_pictures_stop_and_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    for i in range(7):
        (tmp_path / "cat" / f"broken{i}.png").write_bytes(png(noise(64, 64))[:2000])
    with pytest.raises(DataError, match=r"7 pictures cannot be read \(and 2 more\)") as caught:
        load(tmp_path)
    assert sum(f"broken{i}.png" in str(caught.value) for i in range(7)) == 5
    assert "data.on_error=skip" in str(caught.value)


def test_unreadable_pictures_are_skipped_when_asked_and_named(tmp_path: Path) -> None:
    fill(tmp_path)
    plain = whole(load(tmp_path).train)
    (tmp_path / "cat" / "0a.png").write_bytes(b"no")
    for memory_gb in (2.0, 1e-9):
        splits = load(tmp_path, on_error="skip", memory_gb=memory_gb)
        found = whole(splits.train)
        assert torch.equal(found["image"], plain["image"])
        assert torch.equal(found["labels"], plain["labels"])
        assert "0a.png" in splits.warnings[0]


def test_nothing_left_after_skipping_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 2 pictures can be read"):
        load(tmp_path, on_error="skip")
    with pytest.raises(DataError, match="Nothing is left of train"):
        load(tmp_path, on_error="skip", size=(8, 8), channels="rgb")


def test_pictures_decoded_by_batch_equal_those_in_memory(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(6):
            (tmp_path / name / f"{i}.jpg").write_bytes(encoded(Image.fromarray(noise(30 + i, 40)), "JPEG"))
    memory, lazy = load(tmp_path), load(tmp_path, memory_gb=1e-9)
    assert isinstance(memory.train, TensorExamples)
    assert isinstance(lazy.train, PictureFiles)
    order = torch.tensor([7, 0, 11, 3, 3])
    ours, theirs = lazy.train.collate(order), memory.train.collate(order)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert set(ours) == set(theirs)


def test_picture_that_breaks_later_is_named_by_the_batch(tmp_path: Path) -> None:
    fill(tmp_path)
    lazy = load(tmp_path, memory_gb=1e-9).train
    (tmp_path / "dog" / "1.png").write_bytes(png(noise())[:60])
    assert lazy is not None
    with pytest.raises(DataError, match=r"dog/1\.png"):
        lazy.collate(torch.arange(6))


@pytest.mark.parametrize("memory_gb", [2.0, 1e-9])
def test_copied_file_in_test_is_found(tmp_path: Path, memory_gb: float) -> None:
    fill(tmp_path / "train", 12)
    fill(tmp_path / "test", 2)
    (tmp_path / "test" / "cat" / "copy.png").write_bytes((tmp_path / "train" / "dog" / "4.png").read_bytes())
    options = {"name": "image_folder", "root": str(tmp_path), "memory_gb": memory_gb}
    warnings = prepare(parse_component("data", options, "data"), seed=0).warnings
    assert [text for text in warnings if "1 of 5 examples of test are exact copies" in text]


def test_validation_folder_elsewhere_is_read(tmp_path: Path) -> None:
    fill(tmp_path / "here")
    fill(tmp_path / "there", 2)
    splits = load(tmp_path / "here", val=str(tmp_path / "there"))
    assert len(splits.val or []) == 4
