"""The command as a person runs it: its exit code and what it printed, in this process for speed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerwise.cli.main import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def layerwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`layerwise(*arguments)` in a temporary working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERWISE_OFFLINE", "1")

    def run(*arguments: object, **environment: str) -> Done:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err, err
        return Done(code, out, err)

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
