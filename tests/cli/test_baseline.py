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
        "part", "train_examples", "trained_on", "fit_s", "predict_ms", "size_bytes", "note", "line",
    }  # fmt: skip


def test_fewer_examples_for_the_svm_are_said_in_its_row(layerwise: Command) -> None:
    done = layerwise("baseline", "digits", "--methods", "pixels + svm", "--examples", "300", "-q")
    assert done.out.splitlines()[1].endswith("trained on 300 of 1,258")


def test_networks_beside_the_classical_methods_are_trained_on_the_same_split(
    layerwise: Command, photos: Path, tmp_path: Path
) -> None:
    call = ("baseline", "image_folder", f"data.root={photos}", "data.test=0.25", "--methods", "pixels + svm")
    small = "image_classification max_steps=2 batch_size=8 data.size=32,32"
    done = layerwise(*call, "--with", small, "--runs", "kept")
    assert done.code == 0, done.err
    head, *lines = done.out.splitlines()
    assert head.split()[-3:] == ["an", "example", "size"]
    assert sorted(line.split("  ")[0] for line in lines) == ["image_classification: convnet", "pixels + SVM"]
    tuned = f"image_fine_tuning init={tmp_path / 'kept' / 'image_classification'} max_steps=2"
    done = layerwise(*call, "--with", small, "--with", tuned, "--runs", "kept", "--json")
    assert done.code == 0, done.err
    assert "is finished" in done.err  # the first network is not trained again
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert set(rows) == {"pixels + SVM", "image_classification: convnet", "image_fine_tuning: convnet"}
    classical = rows.pop("pixels + SVM")
    split = json.loads((tmp_path / "kept" / "image_classification" / "data.json").read_text())
    assert [split["train"]["examples"], split["test"]["examples"]] == [classical["train_examples"], classical["count"]]
    for name, row in rows.items():
        run = tmp_path / "kept" / name.partition(":")[0]
        assert row["run"] == str(run.relative_to(tmp_path))
        tree = json.loads((run / "report.json").read_text())
        assert row["value"] == tree["metrics"]["test/accuracy"] == pytest.approx(row["correct"] / row["count"])
        assert row["interval"] == tree["tables"]["intervals"]["accuracy"]
        assert row["size_bytes"] == (run / "model" / "model.safetensors").stat().st_size
        assert row["fit_s"] == tree["seconds"] > 0
        assert row["predict_ms"] > 0 < row["predict_one_ms"]
        assert row["settings"] in (small, tuned)
        assert set(classical) < set(row)


def test_without_a_folder_no_run_is_kept_and_a_recipe_keeps_its_own_size_of_pictures(
    layerwise: Command, tmp_path: Path
) -> None:
    call = ("baseline", "digits", "--methods", "pixels + svm", "--json")
    done = layerwise(*call, "--with", "lenet5 max_steps=2 eval.monitor=last")
    assert done.code == 0, done.err
    assert "training lenet5 max_steps=2 eval.monitor=last ..." in done.err
    (row,) = [row for row in json.loads(done.out) if row["features"] == "pixels" and "run" in row]
    assert row["run"] is None
    assert row["count"] == 359
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--with", "lenet6"), "There is no recipe 'lenet6'"),
        (("--with", "lenet5 seed=3"), "data, split and seed are those of the comparison"),
        (("--with", "lenet5 data.val=0.3"), "data, split and seed are those of the comparison"),
        (("--with", "lenet5 data=mnist"), "data, split and seed are those of the comparison"),
        (("--with", "lenet5 epochs"), "epochs"),
        (("--with", "lenet5 epochs='3"), "--with lenet5 epochs='3: No closing quotation"),
        (("--with", ""), "--with is empty"),
        (("--with", "lenet5.yaml"), "name a recipe or a model"),
        (("--with", "gpt_shakespeare"), "not image_classification"),
        (("--runs", "kept"), "runs=kept has no effect without a network"),
    ],
)
def test_mistakes_with_networks_are_named_before_anything_is_fitted(
    layerwise: Command, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = layerwise("baseline", "digits", *arguments)
    assert done.code == 2
    assert message in done.err
    assert " after " not in done.err
    assert not list(tmp_path.iterdir())


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
