"""`layerwise baseline` as a person runs it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]  # see conftest


def test_a_folder_of_pictures_of_all_modes_and_sizes(layerwise: Command, photos: Path) -> None:
    done = layerwise("baseline", "image_folder", f"data.root={photos}", "data.test=0.25", "--methods", "svm,histogram")
    assert done.code == 0, done.err
    head, *lines = done.out.splitlines()
    assert head.split() == ["method", "accuracy", "95", "%", "interval", "AUC", "to", "train", "an", "example"]
    assert {line.split("  ")[0] for line in lines} == {
        "pixels + SVM",
        "HOG + SVM",
        "histogram + SVM",
        "histogram + logistic regression",
        "histogram + random forest",
    }
    assert "training" in done.err
    assert done.err.count(" after ") == 5  # progress: a line as each method ends


def test_json_is_all_that_is_on_stdout_and_quiet_says_nothing(layerwise: Command) -> None:
    done = layerwise("baseline", "digits", "--methods", "pixels + svm", "--json", "--quiet")
    assert done.code == 0, done.err
    assert done.err == ""
    (row,) = json.loads(done.out)
    assert set(row) == {
        "name", "features", "method", "settings", "metric", "value", "interval", "correct", "count", "metrics",
        "part", "train_examples", "trained_on", "fit_s", "predict_ms", "note", "line",
    }  # fmt: skip


def test_fewer_examples_for_the_svm_are_said_in_its_row(layerwise: Command) -> None:
    done = layerwise("baseline", "digits", "--methods", "pixels + svm", "--examples", "300", "-q")
    assert done.out.splitlines()[1].endswith("trained on 300 of 1,258")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits", "--methods", "boost"), "no method on this data has that in its name"),
        (("image_folder",), "data.root is needed"),
        (("image_folder", "data.root=nowhere"), "there is no such file or folder"),
        (("digts",), "digits"),
        (("digits", "data.sise=3"), "size"),
    ],
)
def test_mistakes_get_one_plain_line(layerwise: Command, arguments: tuple[str, ...], message: str) -> None:
    done = layerwise("baseline", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert message in done.err
    assert [line.split(":")[0] for line in done.err.splitlines()].count("error") == 1


def test_texts_train_predict_and_evaluate_from_a_file(layerwise: Command, tmp_path: Path) -> None:
    rows = "".join(
        f'"the film, {"superb" if i % 2 else "dreadful"}, part {i}",{"up" if i % 2 else "down"}\n' for i in range(120)
    )
    (tmp_path / "reviews.csv").write_text("review,stars\n" + rows)
    own = ("data=text_table", "data.root=reviews.csv", "data.text=review", "data.label=stars")
    done = layerwise("train", "text_classification", *own, "epochs=8", "--run", "r")
    assert done.code == 0, done.err
    assert "words + SVM" in done.err  # the classical methods beside it
    report = (tmp_path / "r" / "report.html").read_text()
    assert "words + SVM" in report
    assert "the film, superb, part" in report  # the most wrong texts
    (tmp_path / "new.csv").write_text("id,review\n1,a superb plot\n2,dreadful\n")
    done = layerwise("predict", "r", "superb", "new.csv", "--json")
    assert done.code == 0, done.err
    assert [(row["input"], row["label"]) for row in json.loads(done.out)] == [
        ("superb", "up"),
        ("new.csv:2", "up"),
        ("new.csv:3", "down"),
    ]
    assert layerwise("predict", "r", "new.csv", "--csv", "out.csv").code == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "input,label,score_down,score_up"
    assert json.loads(layerwise("eval", "r", "--json").out)["metrics"]["test/accuracy"] == 1.0
    other = layerwise("eval", "r", "data.root=new.csv")
    assert other.code == 2
    assert "stars" in other.err


def test_film_reviews_check_clean_but_for_two_copies(
    layerwise: Command, datasets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (datasets_folder / "text" / "sst").is_dir():
        pytest.skip("text/sst is not beside the repository")
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    done = layerwise("check", "sst", "--json")
    assert done.code == 0, done.err
    found = {row["code"]: row for row in json.loads(done.out)}
    assert "exact copies of training examples (sample ids 152, 1450)" in found["duplicates_test"]["message"]
