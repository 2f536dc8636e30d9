"""A stranger's folder of pictures trains a generator with no code: mixed sizes and modes, unreadable files named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SMALL = ("data.size=16", "model.channel_base=64", "model.channel_max=8", "model.latent_size=8", "model.style_size=8")


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """200 pictures of several sizes and modes, some in folders."""
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
        name = f"{i:03d}.{'jpg' if mode == 'CMYK' else 'png'}"
        picture.save(folder / ("more" if i % 3 == 0 else ".") / name)
    return folder


def test_mixed_pictures_train_a_generator_that_makes_new_ones(layerwise: Any, mixed: Path, tmp_path: Path) -> None:
    done = layerwise(
        "train", "image_generation", f"data.root={mixed}", *SMALL, "max_steps=4", "batch_size=8",
        "eval.every_steps=4", "--run", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "frechet_distance" in done.out
    assert f"layerwise generate {tmp_path / 'run'} -n 16 -o samples.png" in done.err
    assert (tmp_path / "run" / "report.html").is_file()
    first, again, one = tmp_path / "out.png", tmp_path / "again.png", tmp_path / "out"
    for out, count in ((first, 64), (again, 64), (one, 3)):
        done = layerwise("generate", tmp_path / "run", "-n", count, "--seed", 0, "-o", out)
        assert done.code == 0, done.err
    done = layerwise("generate", tmp_path / "run", "--temperature", 0.8, "--top-k", 3)
    assert (done.code, "--temperature, --top-k: task=image_generation makes no texts" in done.err) == (2, True)
    assert first.read_bytes() == again.read_bytes()
    with Image.open(first) as grid, Image.open(one / "00002.png") as third:
        assert grid.size == (8 * 18 - 2, 8 * 18 - 2)
        assert third.size == (16, 16)
        assert np.array_equal(np.asarray(grid)[:16, 36:52], np.asarray(third))


def test_unreadable_pictures_are_named(layerwise: Any, mixed: Path, tmp_path: Path) -> None:
    (mixed / "broken.jpg").write_bytes(b"\xff\xd8 this is no picture")
    done = layerwise("train", "image_generation", f"data.root={mixed}", *SMALL, "--run", tmp_path / "run")
    assert done.code == 2
    assert "broken.jpg" in done.err
    assert "data.on_error=skip" in done.err
    done = layerwise(
        "train", "image_generation", f"data.root={mixed}", "data.on_error=skip", *SMALL, "max_steps=1", "batch_size=4",
        "--run", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "broken.jpg" in done.out + done.err
