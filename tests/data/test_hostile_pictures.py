"""Picture files as people have them: turned, moving, damaged, mislabelled, linked in circles."""

import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from layerwise.core.config import parse_component
from layerwise.core.errors import DataError
from layerwise.data.checks_files import _headers
from layerwise.data.examples import Splits
from layerwise.data.fit import Fit
from layerwise.data.image_folder import ImageFolder, ImageFolderConfig
from layerwise.data.pictures import UnreadablePicture, decode_image, probe_image
from layerwise.data.splits import describe, prepare

RNG = np.random.default_rng(0)


def noise(height: int = 8, width: int = 8) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def smooth(height: int, width: int) -> Image.Image:
    """Red grows to the right, green downwards: JPEG keeps it, and every turn of it is another picture."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, np.zeros_like(red)], -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)  # type: ignore[arg-type]
    return out.getvalue()


def turned(image: Image.Image, orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


def moving(kind: str, colours: tuple[str, ...] = ("red", "lime", "blue")) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in colours]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels, by its header."""
    data = bytearray(encoded(noise(), "PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def fill(root: Path, per_class: int = 3, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            noise().save(root / name / f"{i}.png")


def load(root: Path, **options: object) -> Splits:
    return ImageFolder(ImageFolderConfig(root=str(root), **options)).splits()  # type: ignore[arg-type]


def read_all(splits: Splits) -> None:
    assert splits.train is not None
    splits.train.collate(torch.arange(len(splits.train)))


def files_of(splits: Splits) -> list[str]:
    return splits.extras["files"]["train"]


# ------------------------------------------------------------------------------------------------------------- turned


@pytest.mark.parametrize("size", [None, Fit(size=(16, 16)), Fit(size=(16, 16), resize=(20, 20))])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_jpegs_are_decoded_upright(orientation: int, size: Fit | None) -> None:
    """Against Pillow's own turning of the same file, and a scaled decoding of the turned pixels."""
    data = turned(smooth(48, 96), orientation)
    upright = encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), "PNG")
    difference = (decode_image(data, size).int() - decode_image(upright, size).int()).abs()
    assert difference.max() <= (0 if size is None else 3)  # JPEG is decoded at a fraction of its size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_headers_tell_the_upright_size_in_training_and_check_alike(orientation: int, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(turned(smooth(48, 96), orientation))
    expected = (48, 96) if orientation < 5 else (96, 48)
    header = _headers([str(tmp_path / "a.jpg")])[0]
    assert probe_image(tmp_path / "a.jpg")[:2] == (header.height, header.width) == expected
    assert tuple(decode_image(tmp_path / "a.jpg").shape[1:]) == expected


def test_turned_and_upright_pictures_are_of_one_size_in_a_folder(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "upright.jpg").write_bytes(turned(smooth(48, 96), 1))
        (tmp_path / name / "turned.jpg").write_bytes(turned(smooth(96, 48), 6))
    splits = load(tmp_path)
    assert splits.facts["image_size"] == (48, 96)
    assert splits.warnings == []


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    data = turned(smooth(8, 16), orientation, "PNG")
    assert np.array_equal(decode_image(data).permute(1, 2, 0).numpy(), np.asarray(smooth(8, 16)))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as pictures.py does once; pytest begins anew for every test
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0no", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\x7f"])
def test_damaged_metadata_do_not_spoil_the_pixels(exif: bytes, kind: str) -> None:
    with_exif, without = encoded(smooth(8, 16), kind, exif=exif), encoded(smooth(8, 16), kind)
    assert torch.equal(decode_image(with_exif), decode_image(without))
    assert probe_image(with_exif) == probe_image(without)


# ------------------------------------------------------------------------------------------------------------- moving


@pytest.mark.parametrize("options", [{}, {"size": (8, 8), "channels": "rgb"}])
@pytest.mark.parametrize(("kind", "suffix"), [("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png"), ("TIFF", "tiff")])
def test_first_of_several_pictures_is_taken_and_told_once(
    kind: str, suffix: str, options: dict[str, object], tmp_path: Path
) -> None:
    fill(tmp_path)
    for i in range(7):
        (tmp_path / "cat" / f"moving{i}.{suffix}").write_bytes(moving(kind))
    splits = load(tmp_path, **options)
    assert splits.train is not None
    last = splits.train.collate(torch.tensor([9]))["image"][0]
    assert last[:, 4, 4].tolist() == [255, 0, 0]
    said = [text for text in splits.warnings if "several pictures" in text]
    assert len(said) == 1
    assert said[0].startswith("7 files hold")
    assert "moving4" in said[0]
    assert "moving5" not in said[0]


def test_files_of_one_picture_are_not_told(tmp_path: Path) -> None:
    fill(tmp_path)
    for kind, suffix in (("GIF", "gif"), ("WEBP", "webp"), ("TIFF", "tiff")):
        (tmp_path / "dog" / f"still.{suffix}").write_bytes(encoded(noise(), kind))
    assert load(tmp_path).warnings == []


def test_animation_cut_off_after_its_first_frame_is_read() -> None:
    whole = moving("GIF")
    second = whole.index(b"\x2c", whole.index(b"\x2c") + 1)  # image descriptor
    assert decode_image(whole[: second + 12])[:, 4, 4].tolist() == [255, 0, 0]


# ------------------------------------------------------------------------------------------------- damaged, mislabelled


def hostile() -> dict[str, bytes]:
    return {
        "empty.png": b"",
        "text.jpg": b"not a picture",
        "page.png": b"<html><body>404</body></html>",
        "cut.png": encoded(noise(64, 64), "PNG")[:4000],
        "cut.jpg": encoded(noise(64, 64), "JPEG")[:900],
        "cut.gif": encoded(noise(64, 64), "GIF")[:500],
        "cut.webp": encoded(noise(64, 64), "WEBP")[:300],
        "cut.tif": encoded(noise(64, 64), "TIFF")[:300],
        "cut.bmp": encoded(noise(64, 64), "BMP")[:300],
        "head.png": encoded(noise(64, 64), "PNG")[:20],
        "bomb.png": bomb(),
    }


@pytest.mark.parametrize("name", hostile())
@pytest.mark.parametrize("memory_gb", [2.0, 1e-9])
def test_unreadable_file_is_named_or_left_out(name: str, memory_gb: float, tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "cat" / name).write_bytes(hostile()[name])
    with pytest.raises(DataError, match=rf"cat/{name} cannot be read as a picture: \w") as caught:
        read_all(load(tmp_path, memory_gb=memory_gb))
    assert " object at 0x" not in str(caught.value)
    splits = load(tmp_path, memory_gb=memory_gb, on_error="skip")
    assert len(splits.train or []) == 6
    assert sum(name in text for text in splits.warnings) == 1


def test_picture_too_large_to_decode_says_so() -> None:
    with pytest.raises(UnreadablePicture, match=r"too large \(3600000000 pixels\)"):
        decode_image(bomb())


def test_picture_over_pillows_first_limit_is_read_without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow warns between its limit and double that; so many pixels come out of cameras."""
    data = encoded(noise(30, 40), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # as pictures.py does once
        assert decode_image(data).shape == (3, 30, 40)
    assert said == []
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(UnreadablePicture, match="too large"):
        decode_image(data)


def test_strip_that_would_grow_beyond_memory_is_refused() -> None:
    data = encoded(Image.new("L", (60_000, 1)), "PNG")
    with pytest.raises(UnreadablePicture, match="60000 x 1 is too long a strip"):
        decode_image(data, Fit(size=(224, 224), resize=(256, 256)))
    assert decode_image(data, (224, 224)).shape == (1, 224, 224)


def test_content_counts_and_not_the_name(tmp_path: Path) -> None:
    fill(tmp_path)
    picture = noise()
    (tmp_path / "cat" / "a.jpg").write_bytes(encoded(picture, "PNG"))
    splits = load(tmp_path)
    assert splits.train is not None
    found = splits.train.collate(torch.tensor([3]))["image"][0]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(picture))


def test_formats_that_need_another_program_are_refused_whatever_their_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(noise(), "EPS"))  # Pillow would start Ghostscript
    with pytest.raises(UnreadablePicture, match="none of PNG, JPEG"):
        decode_image(tmp_path / "a.jpg")


# -------------------------------------------------------------------------------------------------- names and folders


@pytest.mark.parametrize("zipped", [False, True])
def test_names_of_every_script_are_read(zipped: bool, tmp_path: Path) -> None:
    root = tmp_path / "fotos"
    fill(root, classes=("кошка", "犬 & chien"))
    picture = noise()
    picture.save(root / "кошка" / "été 😀.PNG")
    if zipped:
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for path in sorted(root.rglob("*.*")):
                archive.write(path, path.relative_to(root))
    splits = load(tmp_path / "all.zip" if zipped else root)
    assert splits.class_names == ["кошка", "犬 & chien"]
    assert splits.train is not None
    place = next(i for i, name in enumerate(files_of(splits)) if name.endswith("été 😀.PNG"))
    found = splits.train.collate(torch.tensor([place]))["image"][0]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(picture))


def test_upper_case_suffixes_nested_folders_and_litter(tmp_path: Path) -> None:
    fill(tmp_path)
    deep = tmp_path / "dog" / "2024" / "summer"
    deep.mkdir(parents=True)
    for kind, name in (("JPEG", "A.JPG"), ("JPEG", "B.Jpeg"), ("PNG", "C.PNG"), ("TIFF", "D.TIF"), ("GIF", "E.GIF")):
        (deep / name).write_bytes(encoded(noise(), kind))
    for name in (".DS_Store", "Thumbs.db", "._A.JPG", "desktop.ini"):
        (deep / name).write_bytes(b"x")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "a.png").write_bytes(encoded(noise(), "PNG"))
    splits = load(tmp_path)
    assert [Path(name).name for name in files_of(splits)[6:]] == ["A.JPG", "B.Jpeg", "C.PNG", "D.TIF", "E.GIF"]
    assert splits.warnings == []


def test_links_in_a_circle_end_and_add_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "dog" / "self").symlink_to(tmp_path / "dog")
    splits = load(tmp_path)
    assert splits.class_names == ["cat", "dog"]
    assert len(files_of(splits)) == 6


def test_linked_class_folders_and_files_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere")
    (tmp_path / "here" / "cat").mkdir(parents=True)
    (tmp_path / "here" / "cat" / "x.png").symlink_to(tmp_path / "elsewhere" / "cat" / "0.png")
    (tmp_path / "here" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    splits = load(tmp_path / "here")
    assert splits.class_names == ["cat", "dog"]
    assert len(files_of(splits)) == 4


@pytest.mark.parametrize("memory_gb", [2.0, 1e-9])
def test_links_to_nothing_and_to_themselves_are_named(memory_gb: float, tmp_path: Path) -> None:
    fill(tmp_path, 4)
    (tmp_path / "cat" / "dead.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "dog" / "self.png").symlink_to(tmp_path / "dog" / "self.png")
    options = {"name": "image_folder", "root": str(tmp_path), "memory_gb": memory_gb}
    with pytest.raises(DataError, match=r"dead\.png"):
        describe(prepare(parse_component("data", options, "data"), seed=0))
    splits = load(tmp_path, on_error="skip", memory_gb=memory_gb)
    assert len(files_of(splits)) == 8
    assert "self.png" in splits.warnings[0]
