"""Use: journeys that need no code, and mistakes that get the right exit code and one plain message."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SOURCE = Path(__file__).resolve().parents[2] / "src"
Command = Callable[..., Any]  # see conftest

SHORT = ("data.size=[32,32]", "epochs=3", "batch_size=8")


def test_a_folder_of_pictures_trains_predicts_and_evaluates(layerwise: Command, photos: Path, tmp_path: Path) -> None:
    done = layerwise("train", "lenet5", "data=image_folder", f"data.root={photos}", *SHORT, "--run", "r")
    assert done.code == 0, done.err
    assert "layerwise train r epochs=..." in done.err
    for name in (
        "config.yaml",
        "metrics.jsonl",
        "model/config.json",
        "model/model.safetensors",
        "env.json",
        "data.json",
        "report.html",
        "card.md",
    ):
        assert (tmp_path / "r" / name).is_file(), name
    rows = json.loads(
        layerwise("predict", "r", photos / "red" / "0.png", photos / "blue", f"{photos}/red/1*.png", "--json").out
    )
    assert len(rows) == 1 + 12 + 3
    assert set(rows[0]) >= {"input", "label", "scores"}
    assert set(rows[0]["scores"]) == {"red", "blue"}
    assert sum(rows[0]["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert layerwise("predict", "r", photos, "--csv", "out.csv").code == 0
    table = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert len(table) == 24
    assert set(table[0]) == {"input", "label", "score_blue", "score_red"}
    metrics = json.loads(layerwise("eval", "r", "--json").out)
    assert metrics["run"] == "r"
    assert any(name.endswith("/accuracy") for name in metrics["metrics"])
    again = layerwise("train", "lenet5", "data=image_folder", f"data.root={photos}", *SHORT, "--run", "r")
    assert again.code == 0
    assert "is finished" in again.err
    changed = layerwise("train", "r", "optimizer.lr=0.5")
    assert changed.code == 2
    assert "optimizer.lr" in changed.err
    longer = layerwise("train", "r", "epochs=4")
    assert longer.code == 0, longer.err


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("lenet5", "LeNet5 cannot be frozen for inference, its forward depends on what it is given"),  # checks the size
        ("mlp", ""),  # has nothing to freeze
    ],
)
def test_a_network_that_cannot_be_prepared_for_inference_says_why(
    layerwise: Command, photos: Path, model: str, said: str
) -> None:
    data = ("data=image_folder", f"data.root={photos}", "data.size=32")
    done = layerwise("train", "lenet5", f"model={model}", *data, "max_steps=1", "--run", "r")
    assert done.code == 0, done.err
    assert "layerwise train r max_steps=..." in done.err  # what ended it; the recipe's epochs did not
    for verb in (("predict", "r", photos / "red" / "0.png"), ("eval", "r")):
        done = layerwise(*verb)
        assert done.code == 0, done.err
        assert said in done.err
        assert ("runs as it was trained: the same results, slower" in done.err) == bool(said)


def test_a_truncated_picture_is_named(layerwise: Command, photos: Path) -> None:
    whole = (photos / "red" / "6.png").read_bytes()
    (photos / "red" / "broken.png").write_bytes(whole[: len(whole) // 2])
    done = layerwise("train", "lenet5", "data=image_folder", f"data.root={photos}", *SHORT)
    assert done.code == 2
    assert "broken.png" in done.err
    assert (
        layerwise("train", "lenet5", "data=image_folder", f"data.root={photos}", "data.on_error=skip", *SHORT).code == 0
    )


def test_one_class_an_empty_and_a_missing_folder_are_told_apart(
    layerwise: Command, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("L", (32, 32)).save(tmp_path / "empty.png")
    for name, word in (("one", "one class"), ("empty", "no pictures"), ("missing", "missing")):
        if name == "one":
            (tmp_path / "one").mkdir()
            (photos / "red").rename(tmp_path / "one" / "red")
        done = layerwise("train", "lenet5", "data=image_folder", f"data.root={name}")
        assert done.code == 2
        assert word in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("train", "lenet6"), 2, "'lenet5'"),
        (("train", "nowhere.yaml"), 2, "no such file"),
        (("train", "lenet5", "optimizer.learning_rate=1"), 2, "Known: amsgrad"),
        (("train", "lenet5", "epohcs=3"), 2, "'epochs'"),
        (("train", "lenet5", "epochs"), 2, "not an override"),
        (("train", "lenet5", "epochs=0"), 2, "epochs=0"),
        (("train", "lenet5", "batch_size=many"), 2, "whole number"),
        (("train", "lenet5", "model.num_classes=7"), 2, "conflicts with the data"),
        (("train", "lenet5", "data=image_folder"), 2, "data.root"),
        (("train", "lenet5", "device=cuda"), 3, "device=cuda"),
        (("train", "lenet5_mnist"), 3, "LAYERWISE_OFFLINE"),
        (("train",), 2, "See: layerwise train --help"),
        (("trian",), 2, "'train'? See: layerwise --help"),
        (("train", "lenet5", "--rnu", "x"), 2, "--run"),
        (("predict", "nowhere", "x.png"), 2, "nowhere"),
        (("eval", "nowhere"), 2, "nowhere"),
        (("report", "nowhere"), 2, "nowhere"),
        (("runs", "diff", "a"), 2, "diff A B"),
        (("runs", "draw"), 2, "name the runs"),
        (("runs", "draw", "nowhere"), 2, "nowhere"),
        (("runs", "--metric", "loss"), 2, "runs draw"),
        (("show", "lenet6"), 2, "'lenet5'"),
        (("list", "modles"), 2, "'models'"),
    ],
)
def test_a_mistake_gets_its_exit_code_and_one_plain_message(
    layerwise: Command, arguments: tuple[str, ...], code: int, word: str
) -> None:
    done = layerwise(*arguments, LAYERWISE_DATA="", XDG_CACHE_HOME="/nonexistent")
    assert done.code == code, done.err
    assert word.lower() in done.err.lower()
    assert len([line for line in done.err.splitlines() if line.startswith("error")]) == 1


def test_a_corrupt_model_and_state_are_named(layerwise: Command, tmp_path: Path) -> None:
    assert layerwise("train", "lenet5", "max_steps=4", "keep.every_steps=2", "--run", "r", "--quiet").code == 0
    states = sorted((tmp_path / "r" / "state").iterdir())
    assert len(states) == 2
    tensors = states[-1] / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    done = layerwise("train", "r", "max_steps=6")
    assert done.code == 0, done.err
    assert "damaged" in done.err
    assert "step 4" in done.err
    weights = tmp_path / "r" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    for verb in (("eval", "r"), ("predict", "r", str(SOURCE / "layerwise" / "__init__.py"))):
        done = layerwise(*verb)
        assert done.code == 2
        assert "model.safetensors" in done.err


def test_a_locked_run_names_its_writer(layerwise: Command, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        [sys.executable, "-m", "layerwise", "train", "lenet5", "epochs=2000", "--run", "r", "--quiet"],
        cwd=tmp_path,
        env=env,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            if (tmp_path / "r" / "status.json").exists():
                break
            time.sleep(0.1)
        done = layerwise("train", "r")
        assert done.code == 3
        assert str(first.pid) in done.err
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 75
    finally:
        first.kill()
        first.wait()
    assert json.loads((tmp_path / "r" / "status.json").read_text())["status"] == "stopped"


def test_a_read_only_directory_is_a_plain_error(layerwise: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = layerwise("train", "lenet5", "--run", "file/run")
    assert done.code == 3
    assert "file" in done.err


def test_help_of_every_verb_has_an_example(layerwise: Command) -> None:
    verbs = [
        line.split()[1]
        for line in layerwise("--help", COLUMNS="200").out.splitlines()
        if line.startswith("│ ") and not line.startswith("│ -")
    ]
    assert {"train", "eval", "predict", "generate", "check", "report", "runs", "reproduce", "list", "show"} <= set(
        verbs
    )
    for verb in (
        "train",
        "eval",
        "predict",
        "generate",
        "check",
        "baseline",
        "report",
        "runs",
        "reproduce",
        "list",
        "show",
    ):
        assert "Example: layerwise" in layerwise(verb, "--help").out, verb


def test_a_dry_run_writes_nothing_and_print_config_runs_again(layerwise: Command, tmp_path: Path) -> None:
    done = layerwise("train", "lenet5", "--dry-run")
    assert done.code == 0, done.err
    assert "model.num_classes: 10 (from the data)" in done.out
    assert list(tmp_path.iterdir()) == []
    text = layerwise("train", "lenet5", "optimizer=Muon", "--print-config").out
    (tmp_path / "mine.yaml").write_text(text)
    assert layerwise("train", "mine.yaml", "--print-config").out == text


def test_a_run_that_failed_before_its_first_step_takes_another_configuration(layerwise: Command, photos: Path) -> None:
    (photos / "red" / "cut.png").write_bytes((photos / "red" / "0.png").read_bytes()[:100])
    wanted = ("train", "image_classification", f"data.root={photos}", "max_steps=2", "--run", "mine")
    assert layerwise(*wanted).code == 2
    done = layerwise(*wanted, "data.on_error=skip")
    assert done.code == 0, done.err
    assert "nothing was trained there yet" in done.out + done.err
    refused = layerwise(*wanted, "data.on_error=skip", "seed=3")
    assert refused.code == 2
    assert "begun with another configuration" in refused.err
