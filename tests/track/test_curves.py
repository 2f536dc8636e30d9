"""Curves of several runs in one picture."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from layerwise.core.errors import ConfigError
from layerwise.track.curves import chosen, curves_of, draw_courses, read_course, thinned
from layerwise.track.run_directory import RunDirectory

LINES: list[dict[str, Any]] = [
    {"step": 1, "epoch": 0.5, "train/accuracy": 0.25, "lr": 0.1},
    {"step": 2, "epoch": 1.0, "val/accuracy": 0.5, "val/loss": math.inf},
    {"step": 3, "epoch": 1.5, "train/accuracy": 0.75, "lr": 0.1},
]


def made(folder: Path, name: str, lines: list[dict[str, Any]]) -> str:
    run = RunDirectory(folder / name)
    run.create("model: lenet5\n")
    log = run.metrics_log()
    for line in lines:
        log.append(line)
    log.close()
    return str(run.path)


def test_finite_values_of_training_and_validation_are_curves() -> None:
    assert curves_of(LINES) == {"train/accuracy": [(1, 0.25), (3, 0.75)], "val/accuracy": [(2, 0.5)]}


def test_thinning_takes_means_of_neighbours_and_keeps_the_last_step() -> None:
    points = [(float(step), float(step % 2)) for step in range(1, 101)]
    few = thinned(points, 25)
    assert len(few) == 25
    assert few[-1] == (100.0, 0.5)  # four neighbours: two ones and two zeros
    assert thinned(points[:7], 25) == points[:7]
    assert thinned([], 25) == []


def test_error_is_what_accuracy_leaves(tmp_path: Path) -> None:
    course = read_course(made(tmp_path, "one", LINES))
    assert course.name == "one"
    assert chosen(course, "error") == {"train": [(1, 0.75), (3, 0.25)], "val": [(2, 0.5)]}
    own = read_course(made(tmp_path, "own", [*LINES, {"step": 4, "val/error": 9.0}]))
    assert chosen(own, "error") == {"val": [(4, 9.0)]}


def test_a_run_and_a_results_file_are_drawn_together(tmp_path: Path) -> None:
    run = made(tmp_path, "run", LINES)
    results = tmp_path / "kept.json"
    results.write_text(json.dumps({"recipe": "kept", "runs": [{"curves": {"val/accuracy": [[1, 0.1], [2, 0.9]]}}]}))
    for ending in ("png", "svg", "pdf"):
        draw_courses([read_course(run), read_course(str(results))], "accuracy", tmp_path / f"both.{ending}")
    with Image.open(tmp_path / "both.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20
    drawing = (tmp_path / "both.svg").read_text()
    assert "stroke-dasharray" in drawing  # the training curve
    again = tmp_path / "again.png"
    draw_courses([read_course(run), read_course(str(results))], "accuracy", again)
    assert again.read_bytes() == (tmp_path / "both.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is no results file"),
        ("{}", "is no results file"),
        ('{"recipe": "old", "runs": [{"seed": 0}]}', "has no curves: `layerwise reproduce old` writes them"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_course(str(tmp_path / "x.json"))


def test_a_mistake_names_what_there_is(tmp_path: Path) -> None:
    course = read_course(made(tmp_path, "one", LINES))
    with pytest.raises(ConfigError, match=r"metric=acuracy: one has none.*accuracy"):
        draw_courses([course], "acuracy", tmp_path / "x.png")
    with pytest.raises(ConfigError, match=r"x\.docx: expected"):
        draw_courses([course], "accuracy", tmp_path / "x.docx")
    with pytest.raises(ConfigError, match="nowhere"):
        read_course(str(tmp_path / "nowhere"))
