"""A folder of pictures with captions trains a generator with no code that draws what is asked for in words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SMALL = (
    "data.size=16", "model.vae={name: autoencoder-kl-tiny, latent_channels: 4, in_channels: null}",
    "model.unet=latent-unet-tiny", "model.text_encoder={name: clip-text-tiny, vocab_size: null, max_seq_len: 32}",
    "task.sampler.steps=3", "task.evaluated=8", "stages.autoencoder.epochs=0.2", "stages.diffusion.epochs=0.2",
    "batch_size=8",
)  # fmt: skip


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """200 pictures of several sizes and modes, one turned by its camera, with a text file each; one that is no picture
    and one without a byte.
    """
    folder, generator = tmp_path / "mine", np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    for i in range(200):
        pixels = np.full((24 + i % 13, 20 + i % 17, 3), 40, np.uint8)
        pixels[4 : 12 + i % 8, 6:16] = generator.integers(100, 255, 3)
        picture = Image.fromarray(pixels)
        mode = {0: "P", 1: "RGBA", 2: "L", 3: "1", 4: "CMYK", 5: "LA", 6: "I;16"}.get(i % 10)
        if mode == "I;16":
            picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
        elif mode is not None:
            picture = picture.convert(mode)
        exif = Image.Exif()
        if i % 10 == 7:
            exif[0x0112] = 6
        path = folder / ("more" if i % 3 == 0 else ".") / f"{i:03d}.{'jpg' if i % 10 in (4, 7) else 'png'}"
        picture.save(path, exif=exif)
        path.with_suffix(".txt").write_text(f"a patch number {i % 20} in a picture", encoding="utf-8")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 this is no picture")
    (folder / "empty.png").write_bytes(b"")
    for name in ("broken", "empty"):
        (folder / f"{name}.txt").write_text("nothing")
    return folder


@pytest.mark.slow
def test_captioned_pictures_train_a_generator_that_draws_what_is_asked(
    layerwise: Any, captioned: Path, tmp_path: Path
) -> None:
    train = ("train", "latent_diffusion", f"data.root={captioned}", *SMALL)
    stopped = layerwise(*train, "--run", "stopped")
    assert stopped.code == 2
    assert "broken.jpg" in stopped.err
    assert "empty.png" in stopped.err
    done = layerwise(*train, "data.on_error=skip", "--run", "run")
    assert done.code == 0, done.err
    assert "layerwise generate run -n 16 -o samples.png --prompt" in done.err
    assert "layerwise train run stages.diffusion.epochs=..." in done.err
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Pictures of training captions" in page
    assert "Pictures of held-out captions" in page
    makes: dict[str, tuple[object, ...]] = {
        "plain": ("--prompt", "a patch number 3"),
        "again": ("--prompt", "a patch number 3", "-n", 3),
        "other": ("--prompt", "a patch number 4", "--guidance", 6),
        "between": ("--prompt", "a patch number 3", "-n", 4, "--interpolate"),
        "from": ("--prompt", "a patch", "--image", captioned / "001.png", "--strength", 0.5),
        "away": ("--prompt", "a patch", "--negative", "a picture", "--sampler", "ddim", "--steps", 2),
        "wide": ("--size", "16,32", "--tile", 16),
    }
    for name, options in makes.items():
        done = layerwise("generate", "run", *options, "--seed", 1, "-o", name)
        assert done.code == 0, done.err
    drawn = {name: np.asarray(Image.open(tmp_path / name / "00000.png").convert("RGB")) for name in makes}
    assert np.array_equal(drawn["plain"], drawn["again"])
    assert drawn["plain"].shape == (16, 16, 3)
    assert drawn["wide"].shape == (16, 32, 3)
    lost = captioned / "more" / "003.txt"
    lost.unlink()
    stopped = layerwise(*train, "data.on_error=error", "--run", "stopped2")
    assert stopped.code == 2
    assert "1 pictures have no caption: more/003.png" in stopped.err


def test_pictures_without_captions_are_an_error_that_says_where_captions_go(layerwise: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for i in range(20):
        Image.new("RGB", (16, 16), (i, i, i)).save(tmp_path / "mine" / f"{i}.png")
    done = layerwise("train", "latent_diffusion", "data.root=mine", *SMALL, "--run", "run")
    assert done.code == 2
    assert "a.jpg, a.txt" in done.err
    assert "data.captions=FILE" in done.err
