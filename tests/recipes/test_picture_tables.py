"""The recipes for pictures with a CSV file learn what it holds, through the loop and with no code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from layerwise.api.configure import configure
from layerwise.core.errors import DataError
from layerwise.train.build import build

SIZE = 24


def trained(recipe: str, overrides: dict[str, object]) -> dict[str, float]:
    """Test metrics of the weights that validation chose."""
    session = build(configure(recipe, overrides.items()).recipe)
    trainer = session.trainer(0, 0, ())
    trainer.fit()
    if trainer.best is not None:
        session.network.load_state_dict(trainer.best["weights"])
    with torch.no_grad():
        return session.evaluate("test", session.network.eval())[0]


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """240 grey pictures of a bright disc somewhere; sizes.csv has its diameter, 4 to 16 pixels."""
    rng = np.random.default_rng(0)
    rows = ["file,diameter_px"]
    y, x = np.mgrid[:SIZE, :SIZE]
    for k in range(240):
        radius, (cy, cx) = rng.uniform(2, 8), rng.uniform(8, 16, 2)
        disc = (np.hypot(y - cy, x - cx) <= radius) * 200 + rng.integers(0, 40, (SIZE, SIZE))
        Image.fromarray(disc.astype(np.uint8)).save(tmp_path / f"{k}.png")
        rows.append(f"{k}.png,{2 * radius:.3f}")
    (tmp_path / "sizes.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """240 colour pictures with a red square, a blue bar and a green frame, each in half of them; tags.csv lists
    which.
    """
    rng = np.random.default_rng(0)
    rows = ["picture,tags"]
    for k in range(240):
        image = rng.integers(0, 60, (SIZE, SIZE, 3)).astype(np.uint8)
        square, bar, frame = rng.random(3) < 0.5
        top, left = rng.integers(2, SIZE - 9, 2)
        if square:
            image[top : top + 7, left : left + 7, 0] = 230
        if bar:
            image[:, left : left + 3, 2] = 230
        if frame:
            image[[0, -1], :, 1] = image[:, [0, -1], 1] = 230
        Image.fromarray(image).save(tmp_path / f"p{k}.png")
        tags = [n for n, there in (("square", square), ("bar", bar), ("frame", frame)) if there]
        rows.append(f"p{k},{'|'.join(tags)}")
    (tmp_path / "tags.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_regression_measures_discs_to_half_a_pixel(blobs: Path) -> None:
    """Diameters have a standard deviation of 3.5 pixels."""
    values = trained(
        "image_regression",
        {"data.root": str(blobs), "data.labels": "sizes.csv", "data.test": 0.2, "epochs": 10},
    )
    assert values["rmse"] < 0.7
    assert values["r2"] > 0.95


def test_multi_label_finds_what_is_in_the_picture(shapes: Path) -> None:
    values = trained(
        "image_multi_label",
        {"data.root": str(shapes), "data.labels": "tags.csv", "data.test": 0.2, "epochs": 10},
    )
    assert values["map"] > 0.95
    assert values["macro_f1"] > 0.85


def test_the_wrong_kind_of_target_is_refused_with_the_remedy(blobs: Path, shapes: Path) -> None:
    with pytest.raises(DataError, match=r"task=image_multi_label needs pictures with labels.*target_kind=labels"):
        trained("image_multi_label", {"data.root": str(blobs), "data.labels": "sizes.csv"})
    with pytest.raises(DataError, match=r"task=image_regression needs pictures with numbers.*target_kind=number"):
        trained("image_regression", {"data.root": str(shapes), "data.labels": "tags.csv"})
