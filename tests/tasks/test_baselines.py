"""Classical methods on planted data: each finds what its features show and nothing else."""

import json
import math

import numpy as np
import pytest
import torch

from layerwise.core.errors import ConfigError, MissingExtraError, UnsupportedError
from layerwise.data.examples import Subset, TensorExamples
from layerwise.data.texts import TextExamples
from layerwise.tasks import baselines
from layerwise.tasks.baselines import cell_size, choose, kind_of, methods_of, run
from layerwise.tasks.fit_baselines import held_bytes


def halves(whole: TensorExamples | TextExamples) -> tuple[Subset, Subset]:
    cut = 2 * len(whole) // 3
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    return Subset(whole, order[:cut]), Subset(whole, order[cut:])


def values(rows: list[baselines.Row]) -> dict[str, float]:
    return {row["name"]: row["value"] for row in rows}


def coloured_stripes(count: int = 240, size: int = 16) -> torch.Tensor:
    """uint8 [count, 3, size, size]: stripes down where the number's first bit is set, else across; reddish where its
    second is, else bluish.
    """
    generator = np.random.default_rng(0)
    x = np.zeros((count, 3, size, size))
    for i in range(count):
        wave = 40 * np.sin(np.arange(size) * 2 * np.pi / 4 + generator.uniform(0, 6))
        x[i] += wave[None, :] if i & 1 else wave[:, None]
        x[i] += np.array([190, 100, 60] if i & 2 else [60, 100, 190])[:, None, None]
    return torch.from_numpy((x + generator.normal(0, 8, x.shape)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("bit", "seen", "unseen"), [(1, "HOG", "histogram"), (2, "histogram", "HOG")])
def test_hog_sees_edges_and_histograms_see_colours(bit: int, seen: str, unseen: str) -> None:
    image = coloured_stripes()
    labels = (torch.arange(len(image)) & bit) // bit
    train, test = halves(TensorExamples({"image": image, "labels": labels}))
    found = values(run(train, test, methods=["hog", "histogram"]))
    methods = ("SVM", "logistic regression", "random forest")
    assert min(found[f"{seen} + {method}"] for method in methods) >= 0.98
    assert max(found[f"{unseen} + {method}"] for method in methods) <= 0.75


def test_every_method_of_pictures_gives_a_complete_row() -> None:
    image = coloured_stripes(120)
    train, test = halves(TensorExamples({"image": image, "labels": torch.arange(120) % 2}))
    seen: list[str] = []
    rows = run(train, test, on_row=lambda row: seen.append(row["name"]))
    assert [row["name"] for row in rows] == seen == [m.name for m in methods_of("picture", False) if not m.asked]
    for row in rows:
        assert row["count"] == len(test) == 40
        assert row["value"] == row["correct"] / 40 == row["metrics"]["accuracy"]
        assert 0 <= row["metrics"]["auc"] <= 1
        assert row["fit_s"] > 0
        assert row["predict_ms"] > 0
        assert row["size_bytes"] > 0
        assert row["trained_on"] == 80
        assert row["note"] == ""
    assert json.loads(json.dumps(rows)) == rows


def dots(count: int = 90, size: int = 64) -> torch.Tensor:
    """uint8 [count, 3, size, size]: noise with white dots at random, small where the number is even, else large:
    large ones are fewer, so that the amount of white is the same.
    """
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    pictures = generator.normal(100, 5, (count, 3, size, size))
    for i in range(count):
        radius, many = ((2.0, 16), (4.0, 4))[i % 2]
        for cy, cx in generator.integers(8, size - 8, (many, 2)):
            pictures[i] += 120 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2))
    return torch.from_numpy(pictures.clip(0, 255).astype(np.uint8))


def test_sift_is_taken_only_where_it_is_named_and_sees_marks_wherever_they_are() -> None:
    image = dots()
    train, test = halves(TensorExamples({"image": image, "labels": torch.arange(90) % 2}))
    names = [row["name"] for row in run(train, test, methods=["svm"])]
    assert names == ["pixels + SVM", "HOG + SVM", "histogram + SVM"]
    rows = run(train, test, methods=["sift"])
    assert [row["name"] for row in rows] == ["SIFT + SVM", "SIFT + logistic regression", "SIFT + random forest"]
    assert all(row["value"] >= 0.8 for row in rows), values(rows)  # guessing gets there once in a thousand times
    assert all(row["fit_s"] > 0 and row["predict_ms"] > 0 and row["size_bytes"] > 128 * 4 for row in rows)
    again = run(train, test, methods=["sift + random"])
    assert [row["correct"] for row in again] == [rows[2]["correct"]]


def test_size_is_that_of_the_arrays_and_what_is_held_twice_counts_once() -> None:
    class Fitted:
        def __init__(self) -> None:
            self.w = np.zeros((3, 4))
            self.same = [self.w, np.zeros(5, np.float32)]

    names = sum(map(len, ("w", "same")))
    assert held_bytes(Fitted()) == 3 * 4 * 8 + 5 * 4 + names


def test_pictures_without_keypoints_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = TensorExamples({"image": torch.full((30, 1, 32, 32), 7, dtype=torch.uint8), "labels": torch.arange(30) % 2})
    with pytest.raises(UnsupportedError, match=r"SIFT \+ SVM could not be run: SIFT finds no keypoints"):
        run(*halves(flat), methods=["sift + svm"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"layerwise\[vision\]"):
        run(*halves(flat), methods=["sift + svm"])


def test_large_pictures_are_made_smaller_and_that_is_said() -> None:
    image = torch.randint(0, 256, (30, 3, 96, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    train, test = halves(TensorExamples({"image": image, "labels": torch.arange(30) % 2}))
    notes = {row["name"]: row["note"] for row in run(train, test, methods=["svm"])}
    assert notes == {"pixels + SVM": "at 32 x 16 pixels", "HOG + SVM": "at 64 x 32 pixels", "histogram + SVM": ""}


@pytest.mark.parametrize(
    ("height", "width", "cell"), [(28, 28, 7), (8, 8, 2), (64, 48, 8), (224, 224, 8), (5, 90, 1), (2, 2, 1)]
)
def test_four_cells_fit_into_small_pictures(height: int, width: int, cell: int) -> None:
    assert cell_size(height, width) == cell


def test_the_svm_learns_from_a_stratified_part_of_many_examples_and_says_so() -> None:
    image = coloured_stripes(240)
    labels = (torch.arange(240) % 8 == 1).long()
    train, test = halves(TensorExamples({"image": image, "labels": labels}))
    rows = {row["name"]: row for row in run(train, test, methods=["pixels"], most=50)}
    assert rows["pixels + SVM"]["trained_on"] == 50
    assert rows["pixels + SVM"]["note"] == "trained on 50 of 160"
    assert rows["pixels + random forest"]["trained_on"] == 160
    assert run(train, test, methods=["pixels + svm"], most=0)[0]["trained_on"] == 160


def table(count: int = 600) -> dict[str, torch.Tensor]:
    """y = 3 x + (2 where the category is 2), of which a tenth of the x is missing; a second column means nothing."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(count, 2))
    category = generator.integers(1, 4, count)
    y = 3 * x[:, 0] + 2 * (category == 2) + 0.1 * generator.normal(size=count)
    x[generator.random(count) < 0.1, 0] = np.nan
    return {
        "numeric": torch.from_numpy(x).float(),
        "categories": torch.from_numpy(category)[:, None],
        "target": torch.from_numpy(y),
        "labels": torch.from_numpy((y > 0).astype(np.int64)),
    }


def test_numbers_of_a_table_are_predicted_up_to_what_is_missing() -> None:
    """Of the variance 9 + 8/9 a tenth of the first part cannot be known: R2 at most 1 - 0.9 / 9.9."""
    columns = table()
    del columns["labels"]
    rows = run(*halves(TensorExamples(columns)))
    assert [row["name"] for row in rows] == ["ridge", "random forest", "gradient boosting"]
    for row in rows:
        assert 0.8 <= row["value"] <= 0.96
        assert row["value"] == row["metrics"]["r2"]
        assert row["metrics"]["mae"] < row["metrics"]["rmse"] < 1.6
        assert "correct" not in row


def test_regression_figures_are_those_of_the_formulas() -> None:
    """A target that ridge cannot know: its guess is nearly the mean, so RMSE is the deviation and R2 about 0."""
    y = torch.from_numpy(np.random.default_rng(0).normal(size=900))
    columns = {"numeric": torch.zeros(900, 1), "categories": torch.zeros(900, 0, dtype=torch.int64), "target": y}
    train, test = halves(TensorExamples(columns))
    (row,) = run(train, test, methods=["ridge"])
    wrong = y[test.indices] - y[train.indices].mean()
    assert row["metrics"]["rmse"] == pytest.approx(float(wrong.square().mean().sqrt()), rel=1e-6)
    assert row["metrics"]["mae"] == pytest.approx(float(wrong.abs().mean()), rel=1e-6)
    spread = (y[test.indices] - y[test.indices].mean()).square().mean()
    assert row["metrics"]["r2"] == pytest.approx(1 - float(wrong.square().mean() / spread), abs=1e-6)


def test_classes_of_a_table_with_gaps_and_categories_are_found() -> None:
    columns = table()
    del columns["target"]
    rows = run(*halves(TensorExamples(columns)))
    assert [row["name"] for row in rows] == ["logistic regression", "random forest", "gradient boosting"]
    assert min(row["value"] for row in rows) >= 0.88
    assert min(row["metrics"]["auc"] for row in rows) >= 0.93
    assert all(0 < row["metrics"]["loss"] < math.log(2) / 2 for row in rows)  # a coin has log 2


def test_a_value_that_training_never_saw_and_a_rare_class_do_no_harm() -> None:
    columns = table(90)
    del columns["target"]
    columns["labels"][0] = 2  # one example of its class
    columns["categories"][60:70] = 9
    whole = TensorExamples(columns)
    rows = run(Subset(whole, torch.arange(60)), Subset(whole, torch.arange(60, 90)))
    assert len(rows) == 3
    assert all("auc" not in row["metrics"] for row in rows)


def test_texts_are_told_apart_by_words_and_by_characters() -> None:
    texts = [f"the film was {'superb' if i % 2 else 'dreadful'} in part {i}" for i in range(120)]
    train, test = halves(TextExamples(texts, {"labels": torch.arange(120) % 2}))
    rows = run(train, test)
    assert [row["name"] for row in rows] == [
        "words + logistic regression",
        "words + SVM",
        "characters + logistic regression",
        "characters + SVM",
    ]
    assert all(row["value"] == 1.0 and row["metrics"]["auc"] == 1.0 for row in rows)


# -------------------------------------------------------------------------------------------------------------- choice


def test_methods_are_chosen_by_words_of_their_names() -> None:
    methods = methods_of("picture", False)
    assert choose(methods, None) == tuple(method for method in methods if method.features != "SIFT")
    assert [m.name for m in choose(methods, ["svm"])] == ["pixels + SVM", "HOG + SVM", "histogram + SVM"]
    assert [m.name for m in choose(methods, ["HOG + svm", " pixels + random"])] == [
        "pixels + random forest",
        "HOG + SVM",
    ]
    with pytest.raises(ConfigError, match=r"methods=boost: .*pixels \+ SVM"):
        choose(methods, ["svm", "boost"])


def test_data_without_methods_is_refused_and_named() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(UnsupportedError, match="columns features, labels, sample_ids"):
        kind_of(TensorExamples({"features": torch.zeros(4, 2), "labels": labels}))
    pictures = TensorExamples({"image": torch.zeros(4, 1, 8, 8, dtype=torch.uint8)})
    with pytest.raises(UnsupportedError, match="no labels and no target"):
        run(pictures, pictures)
    several = TensorExamples({**pictures.columns, "labels": torch.zeros(4, 3)})
    with pytest.raises(UnsupportedError, match="several targets"):
        run(several, several)


def test_a_method_that_fails_is_named() -> None:
    """Scikit-learn refuses a single class; the data check would have said so before."""
    one = TensorExamples({"image": torch.zeros(6, 1, 8, 8, dtype=torch.uint8), "labels": torch.ones(6).long()})
    with pytest.raises(UnsupportedError, match=r"pixels \+ SVM could not be run: .*class"):
        run(one, one, methods=["pixels + svm"])
    tiny = TensorExamples({"image": torch.zeros(6, 1, 1, 8, dtype=torch.uint8), "labels": torch.arange(6) % 2})
    with pytest.raises(UnsupportedError, match="1 x 8 pixels are too small for HOG"):
        run(tiny, tiny)


def test_a_number_of_a_picture_is_predicted_from_its_pixels() -> None:
    """The target is the mean brightness: a linear function of the pixels."""
    image = torch.randint(0, 256, (150, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = TensorExamples({"image": image, "target": image.double().mean((1, 2, 3))})
    rows = run(*halves(whole), methods=["pixels"])
    assert [row["name"] for row in rows] == ["pixels + ridge", "pixels + random forest"]
    assert rows[0]["value"] >= 0.99
    assert rows[0]["value"] > rows[1]["value"]
