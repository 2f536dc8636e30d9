"""The checks of pictures, labels, tables, texts and graphs: every kind of defect planted and found, and none in clean
data.
"""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from layerwise.core.config import parse_component
from layerwise.data.checks import Finding
from layerwise.data.checks_copies import equal_groups, exact_copy_findings
from layerwise.data.checks_graph import graph_findings
from layerwise.data.checks_labels import label_findings, suspects, table_features, text_features
from layerwise.data.checks_pictures import near_copies, near_copy_findings, value_range_findings
from layerwise.data.checks_scan import Pool, scan
from layerwise.data.checks_tables import (
    cells_of,
    errors_avoided,
    rank_correlation,
    table_findings,
    variance_told,
)
from layerwise.data.checks_text import text_findings
from layerwise.data.examples import Examples, Splits, Subset, TensorExamples
from layerwise.data.planetoid import NodeExamples
from layerwise.data.splits import load, parted
from layerwise.data.table import Schema
from layerwise.data.texts import TextExamples

SKLEARN_PICTURES = ("china.jpg", "flower.jpg")


def photographs() -> list[np.ndarray]:
    """scikit-learn's two photographs, without importing it."""
    import importlib.util

    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "images"
    return [np.asarray(Image.open(folder / name).convert("RGB")) for name in SKLEARN_PICTURES]


def crops(side: int = 96) -> list[np.ndarray]:
    """Squares that do not overlap and have a shape in them."""
    found = []
    for photograph in photographs():
        for top in range(0, photograph.shape[0] - side, side):
            for left in range(0, photograph.shape[1] - side, side):
                crop = photograph[top : top + side, left : left + side]
                if crop.mean(2).std() > 10:
                    found.append(crop)
    return found


def pictures(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def again(crop: np.ndarray, change: str) -> np.ndarray:
    """The same picture as another program might have saved it."""
    height, width = crop.shape[:2]
    image = Image.fromarray(crop)
    if "resize" in change:
        image = image.resize((round(width * 1.05), round(height * 1.05)), Image.Resampling.BICUBIC)
    if "light" in change:
        image = ImageEnhance.Brightness(image).enhance(0.94)
    if "jpeg" in change:
        held = io.BytesIO()
        image.save(held, "JPEG", quality=75)
        image = Image.open(held)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def splits_of(train: Examples, test: Examples | None = None, **facts: object) -> Splits:
    return Splits(train=train, test=test, **facts)  # type: ignore[arg-type]


def by_code(found: list[Finding]) -> dict[str, Finding]:
    assert len({finding.code for finding in found}) == len(found)
    return {finding.code: finding for finding in found}


def places(finding: Finding) -> set[tuple[str, int]]:
    return {(example.part, example.position) for example in finding.examples}


# ---------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("change", ["jpeg", "resize", "light", "jpeg resize light"])
def test_pictures_saved_again_are_near_copies(change: str) -> None:
    """Of every third picture a changed copy lies in the test part: nearly all are found, and nothing else."""
    originals = crops()
    copies = [again(crop, change) for crop in originals[::3]]
    pool = scan(splits_of(TensorExamples({"image": pictures(originals)}), TensorExamples({"image": pictures(copies)})))
    pairs, complete = near_copies(pool)
    assert complete
    planted = {(3 * i, len(originals) + i) for i in range(len(copies))}
    found = {tuple(pair) for pair in pairs.tolist()}
    assert len(found & planted) >= 0.95 * len(planted)
    assert found <= planted


def test_near_copies_are_told_by_part_with_both_pictures() -> None:
    originals = crops()[:25]
    test = [*crops()[25:35], again(originals[7], "jpeg")]
    labels = [torch.zeros(len(part)).long() for part in (originals, test)]
    train = TensorExamples({"image": pictures(originals), "labels": labels[0]}, torch.arange(100, 125))
    part = TensorExamples({"image": pictures(test), "labels": torch.ones(11).long()}, torch.arange(500, 511))
    found = by_code(near_copy_findings(scan(splits_of(train, part))))
    assert set(found) == {"near_duplicates_test", "near_conflicting_labels"}
    assert places(found["near_duplicates_test"]) == {("train", 7), ("test", 10)}
    assert "sample ids 510" in found["near_duplicates_test"].message
    assert {example.group for example in found["near_duplicates_test"].examples} == {0}


def test_exact_copies_are_found_within_and_across_parts() -> None:
    originals = crops()[:30]
    train = TensorExamples({"image": pictures([*originals, originals[4], originals[4]])})
    test = TensorExamples({"image": pictures([crops()[31], originals[9], originals[9]])})
    pool = scan(splits_of(train, test))
    found = by_code(exact_copy_findings(pool))
    assert places(found["duplicates_test"]) == {("train", 9), ("test", 1), ("test", 2)}
    assert places(found["duplicates_train"]) == {("train", 4), ("train", 30), ("train", 31)}
    assert found["duplicates_train"].message.startswith("2 of 32")
    assert places(found["duplicates_within_test"]) == {("test", 1), ("test", 2)}
    assert near_copy_findings(pool) == []  # exact copies are told once


def test_validation_pictures_in_the_test_part_are_a_note() -> None:
    originals = crops()
    parts = [TensorExamples({"image": pictures(originals[a:b])}) for a, b in ((0, 15), (15, 25), (23, 35))]
    found = exact_copy_findings(scan(Splits(train=parts[0], val=parts[1], test=parts[2])))
    assert [(f.level, f.code) for f in found] == [("note", "duplicates_val_test")]
    assert places(found[0]) == {("val", 8), ("val", 9), ("test", 0), ("test", 1)}


def test_different_photographs_have_no_copies_and_no_odd_values() -> None:
    pool = scan(splits_of(TensorExamples({"image": pictures(crops())})))
    assert exact_copy_findings(pool) == []
    assert near_copy_findings(pool) == []
    assert value_range_findings(pool) == []


def test_blank_pictures_are_named() -> None:
    images = pictures(crops()[:30])
    images[[3, 17]] = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None]
    found = by_code(value_range_findings(scan(splits_of(TensorExamples({"image": images})))))
    assert places(found["blank_pictures"]) == {("train", 3), ("train", 17)}


def test_pixels_scaled_to_one_before_they_were_made_bytes_are_told() -> None:
    images = (pictures(crops()[:30]) > 100).to(torch.uint8)
    found = by_code(value_range_findings(scan(splits_of(TensorExamples({"image": images})))))
    assert "between 0 and 1" in found["value_range"].message


def test_flat_pictures_are_no_near_copies_of_one_another() -> None:
    """Skies: nearly one colour with a little noise, which no two share."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((40, 3, 64, 64), 200) + torch.randint(-2, 3, (40, 3, 64, 64), generator=generator)
    assert near_copy_findings(scan(splits_of(TensorExamples({"image": images.to(torch.uint8)})))) == []


def test_a_part_that_is_the_same_object_is_looked_at_once() -> None:
    table = TensorExamples({"features": torch.eye(4), "target": torch.eye(4)})
    pool = scan(Splits(train=table, val=table, test=table))
    assert pool.parts == ["train"]
    assert exact_copy_findings(pool) == []


def test_mnist_has_no_near_copies(datasets_folder: Path) -> None:
    """Handwritten ones look alike; none of 20,000 digits passes for the copy of another."""
    if not (datasets_folder / "images" / "mnist").is_dir():
        pytest.skip(f"no images/mnist in {datasets_folder}")
    splits = load(parse_component("data", {"name": "mnist", "root": str(datasets_folder / "images" / "mnist")}, "data"))
    assert splits.train is not None
    pool = scan(splits_of(Subset(splits.train, torch.arange(0, 60000, 3))))
    assert near_copies(pool)[0].tolist() == []


def test_equal_keys_are_grouped() -> None:
    assert equal_groups(np.array([3, 1, 3, 2, 1, 3])) == [[0, 2, 5], [1, 4]]
    assert equal_groups(np.arange(5)) == []


# ------------------------------------------------------------------------------------------------------------ labels


def planted(pool: Pool, share: float, seed: int) -> set[int]:
    """Turn a share of the pool's labels into other classes; which ones."""
    assert pool.labels is not None
    rng = np.random.default_rng(seed)
    classes = int(pool.labels.max()) + 1
    chosen = rng.choice(len(pool), round(share * len(pool)), replace=False)
    pool.labels[chosen] = (pool.labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return set(chosen.tolist())


def recall_and_precision(pool: Pool, wrong: set[int]) -> tuple[float, float]:
    (found,), _ = label_findings(pool, pool.features)
    begins = pool.begins
    named = {begins[example.part] + example.position for example in found.examples}
    return len(named & wrong) / len(wrong), len(named & wrong) / len(named)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wrong_labels_of_digits_are_found(seed: int) -> None:
    pool = scan(load(parse_component("data", {"name": "digits"}, "data")))
    recall, precision = recall_and_precision(pool, planted(pool, 0.05, seed))
    assert recall >= 0.8
    assert precision >= 0.7


def test_wrong_labels_of_mnist_are_found(datasets_folder: Path) -> None:
    if not (datasets_folder / "images" / "mnist").is_dir():
        pytest.skip(f"no images/mnist in {datasets_folder}")
    splits = load(parse_component("data", {"name": "mnist", "root": str(datasets_folder / "images" / "mnist")}, "data"))
    assert splits.train is not None
    pool = scan(splits_of(Subset(splits.train, torch.arange(0, 60000, 4))))
    recall, precision = recall_and_precision(pool, planted(pool, 0.05, 0))
    assert recall >= 0.8
    assert precision >= 0.7


def clusters(count: int, classes: int, apart: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % classes
    centres = torch.nn.functional.one_hot(labels, classes) * apart
    return centres + torch.randn(count, classes, generator=generator), labels


def test_separate_classes_have_no_suspects() -> None:
    features, labels = clusters(600, 4, 12.0)
    found = suspects(features, labels, np.arange(600))
    assert found.accuracy == 1.0
    assert found.indices.tolist() == []


def test_suspects_name_the_right_class_and_come_surest_first() -> None:
    features, labels = clusters(600, 4, 12.0)
    given = labels.clone()
    given[[10, 200, 431]] = (labels[[10, 200, 431]] + 1) % 4
    found = suspects(features, given, np.arange(600))
    assert set(found.indices.tolist()) == {10, 200, 431}
    assert found.suggested.tolist() == labels[torch.from_numpy(found.indices)].tolist()
    assert (np.diff(found.margin) <= 0).all()


def test_copies_do_not_vouch_for_one_another() -> None:
    """A wrong label that was copied with its example is found only if the copies are judged together."""
    features, labels = clusters(300, 3, 12.0)
    wrong = (labels[:1] + 1) % 3
    features = torch.cat([features, features[:1].expand(30, -1)])
    given = torch.cat([wrong, labels[1:], wrong.expand(30)])
    together = np.concatenate([np.arange(300), np.zeros(30, np.int64)])
    assert set(suspects(features, given, together).indices.tolist()) >= {0, *range(300, 330)}


def test_where_the_classifier_knows_nothing_it_accuses_nobody() -> None:
    generator = torch.Generator().manual_seed(0)
    columns = {"numeric": torch.randn(400, 5, generator=generator), "categories": torch.zeros(400, 0).long()}
    labels = torch.randint(0, 3, (400,), generator=generator)
    pool = scan(splits_of(TensorExamples({**columns, "labels": labels})))
    found, told = label_findings(pool, table_features(pool.table, pool.judged))
    assert found == []
    assert "too weak to doubt labels by" in told


def test_features_of_tables_are_finite_and_mark_what_is_missing() -> None:
    numeric = torch.tensor([[1.0, 5.0], [float("nan"), 5.0], [3.0, float("inf")]])
    made = table_features({"numeric": numeric, "categories": torch.tensor([[1], [2], [1]])}, np.arange(3))
    assert made is not None
    expected = [[-1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0]]  # two scores, two marks, two values
    assert made.tolist() == expected


def test_wrong_labels_of_texts_are_found() -> None:
    draw = np.random.default_rng(0)
    topics = [["ball", "goal", "team", "match", "score"], ["vote", "law", "party", "state", "minister"]]
    common = ["the", "a", "of", "and", "today", "was"]
    labels = torch.arange(400) % 2
    texts = [" ".join(draw.choice(topics[label] + common, 12)) for label in labels.tolist()]
    given = labels.clone()
    given[[5, 60, 333]] = 1 - labels[[5, 60, 333]]
    found = suspects(text_features(texts), given, np.arange(400))
    assert set(found.indices.tolist()) == {5, 60, 333}


# ------------------------------------------------------------------------------------------------------------ tables

ROWS = 600


def table(**columns: np.ndarray) -> Splits:
    """A clean table of three numbers and a category, with a class that depends on them, and further columns."""
    rng = np.random.default_rng(1)
    held: dict[str, np.ndarray] = {
        "age": rng.integers(18, 90, ROWS).astype(float),
        "height": np.round(rng.normal(170, 10, ROWS), 1),
        "wage": np.round(rng.lognormal(8, 0.5, ROWS), 2),
    } | {name: values for name, values in columns.items() if name not in ("labels", "target", "kind")}
    kind = columns.get("kind", rng.integers(1, 5, ROWS))
    noise = rng.normal(0, 1, ROWS)
    labels = columns.get("labels", (held["age"] / 30 + noise > 1.8).astype(int))
    numeric = torch.from_numpy(np.stack(list(held.values()), 1)).float()
    made = {"numeric": numeric, "categories": torch.from_numpy(kind)[:, None].long()}
    schema = Schema(numeric=tuple(held), categories={"kind": ["a", "b", "c", "d", "e"]}, target="y")
    if "target" in columns:
        made["target"] = torch.from_numpy(columns["target"]).double()
    else:
        made["labels"] = torch.from_numpy(labels)
    return Splits(
        train=Subset(TensorExamples(made), torch.arange(0, 500)),
        test=Subset(TensorExamples(made), torch.arange(500, ROWS)),
        facts={} if "target" in columns else {"num_classes": int(labels.max()) + 1},
        extras={"table": schema.to_json()},
    )


def codes_of(splits: Splits) -> dict[str, Finding]:
    return by_code(table_findings(scan(splits)))


def labels_of(splits: Splits) -> np.ndarray:
    assert isinstance(splits.train, Subset)
    labels = splits.train.parent.labels()
    assert labels is not None
    return labels.numpy()


def test_a_clean_table_has_no_findings() -> None:
    assert codes_of(table()) == {}
    rng = np.random.default_rng(2)
    assert codes_of(table(target=rng.normal(0, 1, ROWS))) == {}


def test_constant_and_empty_columns_are_named() -> None:
    found = table_findings(scan(table(same=np.full(ROWS, 4.0), gone=np.full(ROWS, np.nan))))
    assert [(f.code, f.message.split("'")[1]) for f in found] == [
        ("constant_column", "same"),
        ("constant_column", "gone"),
    ]


def test_a_column_of_one_value_or_nothing_is_a_note() -> None:
    values = np.where(np.arange(ROWS) % 2 == 0, 1.0, np.nan)
    assert codes_of(table(flag=values))["nearly_constant_column"].level == "note"


def test_identifiers_are_named() -> None:
    numbers = np.random.default_rng(0).permutation(ROWS * 10)[:ROWS].astype(float)
    assert "'customer'" in codes_of(table(customer=numbers))["identifier_column"].message


def test_mostly_missing_columns_are_named() -> None:
    values = np.where(np.arange(ROWS) % 40 == 0, np.arange(ROWS) * 0.5, np.nan)
    assert "97.5%" in codes_of(table(rare=values))["mostly_missing"].message


def test_a_number_that_stands_for_missing_is_found_with_its_rows() -> None:
    values = np.random.default_rng(0).uniform(0, 100, ROWS)
    values[[3, 77, 510]] = -999.0
    finding = codes_of(table(score=values))["stand_in_value"]
    assert "-999 3 times" in finding.message
    assert places(finding) == {("train", 3), ("train", 77), ("test", 10)}


def test_a_column_that_copies_the_class_gives_it_away() -> None:
    labels = labels_of(table())
    found = codes_of(table(paid=labels * 3.0 + 1, labels=labels))
    assert "'paid'" in found["leaking_column"].message


def test_ranges_that_tell_the_class_give_it_away_and_helpful_ones_do_not() -> None:
    labels = labels_of(table())
    rng = np.random.default_rng(5)
    assert "leaking_column" in codes_of(table(amount=labels * 50 + rng.uniform(0, 49, ROWS), labels=labels))
    assert codes_of(table(amount=labels * 2 + rng.normal(0, 1, ROWS), labels=labels)) == {}


def test_a_category_that_tells_the_class_gives_it_away() -> None:
    labels = labels_of(table())
    found = codes_of(table(kind=1 + 2 * labels + np.arange(ROWS) % 2, labels=labels))
    assert "'kind'" in found["leaking_column"].message


def test_an_order_that_is_the_targets_gives_it_away() -> None:
    target = np.random.default_rng(3).normal(0, 1, ROWS)
    assert "leaking_column" in codes_of(table(log=np.exp(3 * target), target=target))
    assert codes_of(table(near=target + np.random.default_rng(4).normal(0, 0.5, ROWS), target=target)) == {}


def test_equal_columns_are_named() -> None:
    values = np.random.default_rng(3).normal(0, 1, ROWS)
    found = codes_of(table(one=values, two=values))
    assert "'one' and 'two'" in found["equal_columns"].message


def test_equal_rows_with_other_classes_are_told_apart_from_copies() -> None:
    numeric = torch.arange(60.0).view(30, 2)
    numeric[20], numeric[21] = numeric[3], numeric[4]
    labels = torch.arange(30) % 2
    labels[[3, 20]] = 0
    labels[4], labels[21] = 0, 1
    columns = {"numeric": numeric, "categories": torch.zeros(30, 0).long(), "labels": labels}
    found = by_code(exact_copy_findings(scan(splits_of(TensorExamples(columns)))))
    assert places(found["duplicates_train"]) == {("train", 3), ("train", 20)}
    assert places(found["conflicting_labels"]) == {("train", 4), ("train", 21)}
    assert found["conflicting_labels"].level == "note"


def test_errors_avoided_and_variance_told_are_those_of_a_count() -> None:
    cells = np.array([0, 0, 1, 1, 0, 1, 1, 2])
    labels = np.array([7, 7, 9, 9, 7, 9, 7, 9])
    half = np.array([True, True, True, True, False, False, False, False])
    # The commonest class of the half is a tie that the first wins: 7. Of the other half 2 are wrong by it, and by the
    # cells (0: 7, 1: 9, unseen 2: 7) the last two.
    assert errors_avoided(cells, labels, half) == 0.0
    target = np.array([1.0, 3.0, 10.0, 12.0, 2.0, 11.0, 13.0, 0.0])
    mean = 6.5
    left = (2 - mean) ** 2 + (11 - mean) ** 2 + (13 - mean) ** 2 + mean**2
    assert variance_told(cells, target, half) == pytest.approx(1 - (0 + 0 + 4 + mean**2) / left)


def test_cells_keep_values_or_ranges_and_missing_ones_apart() -> None:
    half = np.ones(6, bool)
    assert cells_of(np.array([5.0, np.nan, 2.0, 5.0, np.inf, 2.0]), half).tolist() == [2, 0, 1, 2, 0, 1]
    cells = cells_of(np.arange(640.0), np.ones(640, bool))
    assert set(np.bincount(cells)[1::2].tolist()) <= {9, 10}
    mostly_zero = np.concatenate([np.zeros(600), np.arange(1.0, 101.0)])
    cells = cells_of(mostly_zero, np.ones(700, bool))
    assert (cells == cells[0]).tolist() == [True] * 600 + [False] * 100


def test_rank_correlation_is_that_of_ranks() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 20, 200).astype(float), rng.normal(0, 1, 200)

    def ranks(values: np.ndarray) -> list[float]:
        return [float(((values < v).sum() + 1 + (values <= v).sum()) / 2) for v in values]

    expected = abs(np.corrcoef(ranks(one), ranks(other))[0, 1])
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation(one, -np.exp(one)) == pytest.approx(1.0, abs=1e-12)
    assert rank_correlation(np.ones(200), other) == 0.0


# ------------------------------------------------------------------------------------------------------------- texts


def reviews(count: int = 80) -> list[str]:
    rng = np.random.default_rng(0)
    words = re.findall(
        r"\w+", "plot actor scene music camera joke drama story pace ending hero villain budget script light"
    )
    return [" ".join(rng.choice(words, rng.integers(9, 16))) for _ in range(count)]


def text_splits(train: list[str], test: list[str], labels: list[int] | None = None) -> Splits:
    made = [TextExamples(texts, {"labels": torch.arange(len(texts)) % 2}) for texts in (train, test)]
    if labels is not None:
        made[0] = TextExamples(train, {"labels": torch.tensor(labels)})
    return Splits(train=made[0], test=made[1], facts={"num_classes": 2}, class_names=["bad", "good"])


def test_different_texts_have_no_findings() -> None:
    pool = scan(text_splits(reviews()[:60], reviews()[60:]))
    assert exact_copy_findings(pool) == []
    assert text_findings(pool) == []


def test_text_defects_are_found_with_their_places() -> None:
    train, test = reviews()[:60], reviews()[60:]
    train[5], train[6] = "", " \t "
    train[10] = "caf\ufffd " + train[10]
    train[11] = "tr\u00c3\u00a8s " + train[11]
    train[20] = " ".join(reviews(400))
    test[3] = train[30] + " indeed"
    pool = scan(text_splits(train, test))
    found = by_code(text_findings(pool))
    assert set(found) == {"empty_texts", "broken_characters", "long_texts", "near_duplicates_test"} | (
        {"near_conflicting_labels"} if "near_conflicting_labels" in found else set()
    )
    assert places(found["empty_texts"]) == {("train", 5), ("train", 6)}
    assert places(found["broken_characters"]) == {("train", 10), ("train", 11)}
    assert places(found["long_texts"]) == {("train", 20)}
    assert places(found["near_duplicates_test"]) == {("train", 30), ("test", 3)}


def test_copied_texts_are_found_whatever_their_case_and_blanks() -> None:
    train, test = reviews()[:60], reviews()[60:]
    test[0] = "  " + train[8].upper().replace(" ", "  ")
    found = by_code(exact_copy_findings(scan(text_splits(train, test))))
    assert places(found["duplicates_test"]) == {("train", 8), ("test", 0)}


def test_the_same_text_with_another_label_is_a_warning() -> None:
    train = reviews()[:60]
    train[9] = train[8]
    found = by_code(exact_copy_findings(scan(text_splits(train, reviews()[60:]))))
    assert found["conflicting_labels"].level == "warning"
    assert places(found["conflicting_labels"]) == {("train", 8), ("train", 9)}


def test_texts_of_a_subset_are_its_own() -> None:
    whole = TextExamples(reviews(), {"labels": torch.arange(80) % 2})
    pool = scan(Splits(train=Subset(whole, torch.tensor([7, 3])), test=Subset(whole, torch.tensor([7]))))
    assert pool.texts == [reviews()[7], reviews()[3], reviews()[7]]
    assert places(by_code(exact_copy_findings(pool))["duplicates_test"]) == {("train", 0), ("test", 0)}


# ------------------------------------------------------------------------------------------------------------ graphs


def test_isolated_and_empty_nodes_are_named() -> None:
    features = torch.eye(6)
    features[4] = 0
    edges = torch.tensor([[0, 1, 1, 2, 4, 0], [1, 0, 2, 1, 0, 4]])
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    parts = [NodeExamples(features, edges, labels, nodes) for nodes in (torch.arange(4), torch.arange(4, 6))]
    found = by_code(graph_findings(scan(splits_of(parts[0], parts[1]))))
    assert places(found["isolated_nodes"]) == {("train", 3), ("test", 1)}
    assert places(found["empty_nodes"]) == {("test", 0)}


def test_edges_to_nowhere_are_an_error() -> None:
    edges = torch.tensor([[0, 9], [1, 0]])
    found = graph_findings(scan(splits_of(NodeExamples(torch.eye(3), edges, torch.arange(3) % 2, torch.arange(3)))))
    assert [(f.level, f.code) for f in found] == [("error", "edge_range")]


def test_parts_taken_off_train_keep_the_ids_of_train() -> None:
    component = parse_component("data", {"name": "digits", "val": "0.2"}, "data")
    splits = parted(load(component), component, 0)
    pool = scan(splits)
    for part, examples in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        assert examples is not None
        ids = examples.collate(torch.arange(len(examples)))["sample_ids"]
        assert pool.sample_ids[pool.begins[part] :][: len(ids)].tolist() == ids.tolist()
