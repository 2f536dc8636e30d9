"""The command as a person runs it: a fresh process, its exit code, what it printed."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SOURCE = Path(__file__).resolve().parents[2] / "src"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def layerwise(tmp_path: Path) -> Command:
    """`layerwise(*arguments)` in a temporary working directory."""

    def run(*arguments: object, cwd: Path | None = None, **environment: str) -> Done:
        env = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "LAYERWISE_OFFLINE": "1", **environment}
        command = [sys.executable, "-m", "layerwise", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, cwd=cwd or tmp_path, timeout=240, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folders of class folders with grey, palette, RGBA, CMYK, 16-bit and colour pictures of several sizes."""
    generator = np.random.default_rng(0)
    for name, colour in (("red", (220, 40, 30)), ("blue", (30, 50, 220))):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(np.array(colour) + generator.normal(0, 40, (36 + i, 34, 3)), 0, 255).astype("uint8")
            picture = Image.fromarray(pixels)
            if i == 3:
                picture.convert("CMYK").save(folder / f"{i}.jpg")
                continue
            if i == 4:
                picture = Image.fromarray(pixels[..., 0].astype("uint16") * 200)
            mode = {1: "P", 2: "RGBA", 5: "L"}.get(i)
            (picture.convert(mode) if mode else picture).save(folder / f"{i}.png")
    return tmp_path / "photos"
