"""`layerwise explain` as a person runs it, and what the report says each layer learned."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from layerwise.cli.main import main
from layerwise.core.config import parse_component
from layerwise.data.splits import prepare

Command = Callable[..., Any]  # see conftest


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of LeNet-5 on the bundled digits, and two pictures beside it."""
    folder = tmp_path_factory.mktemp("digits")
    assert main(["train", "lenet5", "epochs=4", "--quiet", "--run", str(folder / "run")]) == 0
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(draw.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table where one number and one category decide, and the table."""
    folder = tmp_path_factory.mktemp("table")
    draw = np.random.default_rng(0)
    lines = ["size,noise,colour,kind"]
    for _ in range(240):
        size, noise, colour = draw.normal(), draw.normal(), draw.choice(["red", "blue", "green"])
        kind = "yes" if size + (1.5 if colour == "red" else -1.0) > 0 else "no"
        lines.append(f"{size:.3f},{noise:.3f},{colour},{kind}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    (folder / "two.csv").write_text("\n".join(lines[:3]) + "\n")
    arguments = ["tabular_classification", f"data.root={folder / 'table.csv'}", "data.target=kind", "epochs=25"]
    arguments += ["optimizer.lr=0.01", "task.numbers=standard"]
    assert main(["train", *arguments, "--quiet", "--run", str(folder / "run")]) == 0
    return folder


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency", "occlusion", "grad_cam"])
def test_pictures_are_explained_by_each_method(layerwise: Command, digits: Path, tmp_path: Path, method: str) -> None:
    inputs = [digits / "a.png", digits / "b.png"]
    done = layerwise("explain", digits / "run", *inputs, "--method", method, "-o", "why.png", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert [row["input"] for row in rows] == [str(path) for path in inputs]
    assert all(row["method"] == method and row["label"] == row["target"] for row in rows)
    assert all(0.1 <= row["score"] == row["target_score"] <= 1 for row in rows)
    pixels = np.asarray(Image.open(tmp_path / "why.png"), dtype=int)
    assert pixels.shape[0] == 2 * (224 + 24)  # a row an input
    heat = pixels[12:236, 248:472]
    assert (abs(heat[..., 0] - heat[..., 2]) > 30).any()  # coloured
    assert (pixels[12:236, 12:236].std(-1) == 0).all()  # the digit itself is grey
    if method == "integrated_gradients":
        assert all(abs(row["completeness_gap"]) < 0.05 * max(1, abs(row["sum"])) for row in rows)


def test_the_same_call_writes_the_same_bytes(layerwise: Command, digits: Path, tmp_path: Path) -> None:
    call = ("explain", digits / "run", digits / "a.png", "--method", "saliency", "--samples", "4", "-o")
    assert layerwise(*call, "one.png").code == layerwise(*call, "two.png").code == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_folder_gets_a_picture_of_each_input(layerwise: Command, digits: Path, tmp_path: Path) -> None:
    done = layerwise("explain", digits / "run", digits / "a.png", digits / "b.png", digits / "a.png", "-o", "out/")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-2.png", "a.png", "b.png"]


def test_another_class_is_explained_when_asked_for(layerwise: Command, digits: Path) -> None:
    plain = json.loads(layerwise("explain", digits / "run", digits / "a.png", "--json").out)[0]
    other = "3" if plain["label"] != "3" else "4"
    done = layerwise("explain", digits / "run", digits / "a.png", "--target", other, "--json")
    row = json.loads(done.out)[0]
    assert (row["label"], row["target"]) == (plain["label"], other)
    assert row["target_score"] < row["score"] == plain["score"]
    text = layerwise("explain", digits / "run", digits / "a.png", "--target", other).out
    assert f"explained: {other}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "grad-cam"), "method=grad-cam: there is none. Did you mean 'grad_cam'?"),
        (("--target", "cat"), "target=cat: the model knows no such class"),
        (("--layer", "conv1"), "layer=conv1 has no effect on method=integrated_gradients; it belongs to grad_cam"),
        (("--method", "grad_cam", "--layer", "conv7"), "the layers with maps are conv1, conv2"),
        (("--samples", "5"), "samples=5 has no effect on method=integrated_gradients"),
        (("--baseline", "pink"), "baseline=pink: it is one of black, white, mean"),
        (("-o", "why.jpg"), "-o why.jpg: pictures are written as .png"),
    ],
)
def test_mistakes_are_named(layerwise: Command, digits: Path, arguments: tuple[str, ...], message: str) -> None:
    done = layerwise("explain", digits / "run", digits / "a.png", *arguments)
    assert done.code == 2
    assert message in done.err
    assert not Path("explain.png").exists()


def test_layers_show_filters_and_maps_below_the_picture(layerwise: Command, digits: Path, tmp_path: Path) -> None:
    call = ("explain", digits / "run", digits / "a.png", "--method", "layers", "-o")
    done = layerwise(*call, "one.png", "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    plain = json.loads(layerwise("explain", digits / "run", digits / "a.png", "--json").out)[0]
    assert (row["label"], row["score"]) == (plain["label"], pytest.approx(plain["score"], abs=1e-6))
    one = np.asarray(Image.open(tmp_path / "one.png"), dtype=int)
    assert layerwise("explain", digits / "run", digits / "b.png", "--method", "layers", "-o", "other.png").code == 0
    other = np.asarray(Image.open(tmp_path / "other.png"), dtype=int)
    assert one.shape == other.shape
    same = (one == other).all((1, 2))
    picture = slice(30, 30 + 96)  # below its caption
    assert not same[picture].any()  # the pictures differ
    coloured = (one.max(-1) - one.min(-1) > 60).any(1)
    assert (coloured & same).any()  # rows of filters, the same for both
    assert (coloured & ~same).sum() > 100  # maps, which are not
    assert layerwise("explain", digits / "run", digits / "a.png", digits / "b.png", "--method", "layers").code == 0
    with Image.open("explain.png") as both:
        assert both.height == 2 * one.shape[0]


def test_a_training_picture_is_its_own_nearest(layerwise: Command, digits: Path, tmp_path: Path) -> None:
    """Of few training pictures all are searched; the nearest to one of them is itself, with cosine one."""
    few = ("train", "lenet5", "max_steps=3", "data.limit=8", "data.augment=[]", "--quiet", "--run", "few")
    assert layerwise(*few).code == 0
    train = prepare(
        parse_component("data", yaml.safe_load(Path("few/config.yaml").read_text())["data"], "data"), 0
    ).train
    assert train is not None
    raw = train.collate(torch.tensor([5]))
    Image.fromarray(raw["image"][0, 0].numpy()).save("five.png")
    done = layerwise("explain", "few", "five.png", "--method", "nearest", "-o", "near.png", "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert row["nearest"][0] == {"label": str(int(raw["labels"][0])), "cosine": pytest.approx(1, abs=1e-6)}
    assert len(row["nearest"]) == 8
    cosines = [one["cosine"] for one in row["nearest"]]
    assert cosines == sorted(cosines, reverse=True)
    assert (tmp_path / "near.png").exists()
    assert "nearest: " in layerwise("explain", "few", "five.png", "--method", "nearest").out


def test_nearest_needs_a_run_and_a_network_with_features(layerwise: Command, digits: Path) -> None:
    done = layerwise("explain", digits / "run" / "model", digits / "a.png", "--method", "nearest")
    assert done.code == 2
    assert "searches the training pictures of a run" in done.err
    done = layerwise("explain", digits / "run", digits / "a.png", "--method", "nearest", "--target", "3")
    assert done.code == 2
    assert "target=3 has no effect on method=nearest" in done.err


def test_a_vit_is_explained_by_roll_out_and_a_network_without_attention_is_refused(
    layerwise: Command, digits: Path, tmp_path: Path
) -> None:
    run = ("train", "lenet5", "model=vit-tiny", "max_steps=2", "--quiet", "--run", "vit")
    assert layerwise(*run).code == 0
    call = ("--method", "attention_rollout", "-o", "why.png")
    done = layerwise("explain", "vit", digits / "a.png", *call, "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert row["method"] == "attention_rollout"
    assert row["strongest"] > 1
    assert (tmp_path / "why.png").exists()
    other = layerwise("explain", "vit", digits / "a.png", *call, "--target", "3")
    assert other.code == 2
    assert "target=3 has no effect on method=attention_rollout" in other.err
    refused = layerwise("explain", digits / "run", digits / "a.png", *call)
    assert refused.code == 3
    assert "attention_rollout needs a model with attention_maps, a ViT; LeNet5 has none" in refused.err


def test_rows_of_a_table_are_explained_by_column(layerwise: Command, table: Path, tmp_path: Path) -> None:
    done = layerwise("explain", table / "run", table / "table.csv", "--json", "-o", "why.png")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert len(rows) == 240
    assert set(rows[0]["contributions"]) == {"size", "noise", "colour"}
    for row in rows:
        assert abs(row["completeness_gap"]) < 0.05 * max(1, math.fsum(map(abs, row["contributions"].values())))
    share = {name: math.fsum(abs(row["contributions"][name]) for row in rows) for name in ("size", "noise", "colour")}
    assert share["size"] > 2 * share["noise"]  # what decides has the larger share
    assert share["colour"] > share["noise"]
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.format == "PNG"
    text = layerwise("explain", table / "run", table / "two.csv").out
    assert "mean size of the contribution over 2 rows" in text
    assert re.search(r"^  size +\d", text, re.MULTILINE)


def test_what_does_not_fit_a_table_is_said(layerwise: Command, table: Path) -> None:
    done = layerwise("explain", table / "run", table / "two.csv", "--method", "occlusion")
    assert done.code == 2
    assert "rows of a table are explained by integrated_gradients" in done.err


def test_the_report_of_pictures_says_what_each_layer_learned(digits: Path) -> None:
    page = (digits / "run" / "report.html").read_text()
    for title in ("What each layer learned", "Each layer&#x27;s features in two dimensions", "First-layer filters",
                  "Feature maps of an example"):  # fmt: skip
        assert f"<h2>{title}</h2>" in page
    tree = json.loads((digits / "run" / "report.json").read_text())
    rows = {row["layer"]: row for row in tree["learned"]["probe"]["rows"]}
    assert list(rows) == ["pixels", "conv1", "conv2", "conv3", "fc1", "network"]
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in rows.values())
    assert tree["learned"]["probe"]["train"] == 1000
    assert rows["conv3"]["accuracy"] > 0.85
    assert [layer["layer"] for layer in tree["learned"]["maps"]["layers"]] == list(rows)[:-1]
    assert "could not be made" not in page
    assert "samples per second" in page.lower()


def test_the_worst_mistakes_are_shown_beside_the_nearest_training_examples(digits: Path) -> None:
    tree = json.loads((digits / "run" / "report.json").read_text())
    wrong = [row for row in tree["tables"]["most_wrong"] if row["label"] != row["prediction"]]
    assert wrong, "a network that makes no mistake shows none: make the task harder"
    assert len(tree["nearest"]) == min(6, len(wrong))
    for (caption, name), row in zip(tree["nearest"], wrong, strict=False):
        match = re.fullmatch(rf"is {row['label']}, taken for {row['prediction']}; nearest: (.*)", caption)
        assert match is not None
        cosines = [float(value) for value in re.findall(r"\d \((-?\d\.\d\d)\)", match[1])]
        assert len(cosines) == 5
        assert cosines == sorted(cosines, reverse=True)
        with Image.open(digits / "run" / name) as picture:
            assert picture.size == (6 * 128 + 5 * 8, 128)  # six pictures at four times their size
    page = (digits / "run" / "report.html").read_text()
    assert "<h2>Nearest training examples</h2>" in page


def test_the_report_of_a_table_has_a_probe_and_maps_but_no_pictures(table: Path) -> None:
    tree = json.loads((table / "run" / "report.json").read_text())
    assert [row["layer"] for row in tree["learned"]["probe"]["rows"]] == ["columns", "blocks.0", "blocks.1", "network"]
    assert set(tree["learned"]) == {"probe", "maps"}


def test_the_worst_mistakes_on_a_table_are_shown_with_the_columns_behind_them(table: Path) -> None:
    tables = json.loads((table / "run" / "report.json").read_text())["tables"]
    wrong = [row for row in tables["most_wrong"] if row["label"] != row["prediction"]]
    data = [line.split(",") for line in (table / "table.csv").read_text().splitlines()[1:]]
    for row in wrong:
        told = dict(part.split(" ") for part in row["the answer rests on"].split(", "))
        assert set(told) == {"size", "noise", "colour"}
        same = [cells for cells in data if float(cells[0]) == pytest.approx(float(told["size"]), abs=1e-6)]
        assert told["colour"] in {cells[2] for cells in same}
        assert row["label"] in {cells[3] for cells in same}
    assert wrong, "a network that makes no mistake shows none: make the task harder"
