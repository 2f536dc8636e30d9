"""A folder as people have it, from training to predictions: what is no picture is named, all else is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Command = Callable[..., Any]  # see conftest

SHORT = ("data.size=[32,32]", "epochs=1", "batch_size=8")


def scores(rows: list[dict[str, Any]]) -> list[list[float]]:
    return [list(row["scores"].values()) for row in rows]


def test_folder_with_everything_in_it_trains_and_predicts(layerwise: Command, photos: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    upright = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    new = tmp_path / "new" / "été"
    new.mkdir(parents=True)
    for folder in (photos / "red", new):
        upright.save(folder / "a upright.png")
        upright.transpose(Image.Transpose.ROTATE_90).save(folder / "b turned.png", exif=exif)
        upright.save(folder / "c moving.GIF", save_all=True, append_images=[Image.new("RGB", (60, 40))])
        (folder / "d cut.jpg").write_bytes((photos / "red" / "3.jpg").read_bytes()[:300])
        (folder / "e empty.png").write_bytes(b"")
        (folder / "Thumbs.db").write_bytes(b"x")
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / "self").symlink_to(folder)
    train = ("train", "lenet5", "data=image_folder", f"data.root={photos}", *SHORT, "--run", "r")
    stopped = layerwise(*train)
    assert stopped.code == 2
    assert "d cut.jpg" in stopped.err
    assert "e empty.png" in stopped.err
    done = layerwise(*train[:-1], "whole", "data.on_error=skip")
    assert done.code == 0, done.err
    assert (done.out + done.err).count("c moving.GIF") == 1

    found = layerwise("predict", "whole", tmp_path / "new", "--json")
    assert found.code == 0, found.err
    rows = json.loads(found.out)
    assert [Path(row["input"]).name for row in rows] == ["a upright.png", "b turned.png", "c moving.GIF"]
    assert scores(rows)[0] == scores(rows)[1]
    for name in ("c moving.GIF", "d cut.jpg", "e empty.png"):
        assert found.err.count(name) == 1
    assert "Thumbs.db" not in found.err

    named = layerwise("predict", "whole", new / "a upright.png", new / "d cut.jpg")
    assert named.code == 2
    assert "d cut.jpg cannot be read as a picture" in named.err


def test_test_time_views_count_in_eval_and_predict_alike(layerwise: Command, photos: Path, tmp_path: Path) -> None:
    train = ("train", "lenet5", "data=image_folder", f"data.root={photos}", *SHORT)
    assert layerwise(*train, "--run", "plain").code == 0
    assert layerwise(*train, "task.test_time=flip", "--run", "flip", "eval.monitor=last").code == 0
    Image.open(photos / "red" / "0.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("mirrored.png")
    inputs = (photos / "red" / "0.png", "mirrored.png", "--json")
    rows = scores(json.loads(layerwise("predict", "flip", *inputs).out))
    assert rows[0] == pytest.approx(rows[1], abs=1e-6)  # resizing is symmetric but for rounding of pixels
    plain = scores(json.loads(layerwise("predict", "plain", *inputs).out))
    assert plain[0] != plain[1]

    def loss(*arguments: str) -> float:
        return json.loads(layerwise("eval", *arguments, "--json").out)["metrics"]["test/loss"]

    assert loss("plain") != loss("plain", "task.test_time=flip")
    assert loss("flip") != loss("flip", "task.test_time=")
    other = layerwise("eval", "plain", "task=image_regression")
    assert other.code == 2
    assert "was trained for task=image_classification" in other.err
