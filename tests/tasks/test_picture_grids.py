"""Grids and animations, read back with Pillow."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.core.errors import DataError
from layerwise.tasks.picture_grids import animate, chosen_evenly, save_grid


def make_frames(folder: Path, count: int, channels: int = 1) -> list[Path]:
    paths = [folder / f"frame-{i:03d}.png" for i in range(count)]
    for i, path in enumerate(paths):
        generator = torch.Generator().manual_seed(i)
        save_grid(torch.randint(0, 256, (6, channels, 4, 5), generator=generator, dtype=torch.uint8), path, columns=3)
    return paths


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_shows_every_frame_as_it_is(tmp_path: Path, channels: int) -> None:
    frames = make_frames(tmp_path, 4, channels)
    with Image.open(animate(frames, tmp_path / "all.png")) as moving:
        assert getattr(moving, "n_frames") == 4  # noqa: B009
        assert moving.info["loop"] == 0
        for i, path in enumerate(frames):
            moving.seek(i)
            with Image.open(path) as frame:
                assert np.array_equal(np.asarray(moving.convert("RGB")), np.asarray(frame.convert("RGB")))


def test_two_equal_frames_stay_two_steps(tmp_path: Path) -> None:
    first, second = make_frames(tmp_path, 2)
    with Image.open(animate([first, first, second], tmp_path / "all.png")) as moving:
        shown = getattr(moving, "n_frames")  # noqa: B009
        total = 0.0
        for i in range(shown):
            moving.seek(i)
            total += moving.info["duration"]
    assert total == 400 + 400 + 2000


def test_long_courses_are_thinned_with_both_ends_kept(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(11)]
    assert [path.name for path in chosen_evenly(paths, 6)] == ["0", "2", "4", "6", "8", "10"]
    assert chosen_evenly(paths, 20) == paths


def test_other_channels_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 channels"):
        save_grid(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), tmp_path / "x.png")
