"""Validation parts, limits, weights and the checks before training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.checks import content_keys, findings
from layerwise.data.examples import Examples, Splits, Subset, TensorExamples
from layerwise.data.splits import (
    describe,
    fold_numbers,
    limited,
    prepare,
    sampling_weights,
    stratified_split,
    with_fold,
    with_parts,
)


def examples(labels: list[int] | torch.Tensor, **columns: torch.Tensor) -> TensorExamples:
    labels = torch.as_tensor(labels)
    generator = torch.Generator().manual_seed(1)
    features = torch.randint(0, 256, (len(labels), 1, 3, 3), dtype=torch.uint8, generator=generator)
    return TensorExamples({"image": features, **columns, "labels": labels})


def splits_of(train: Examples, **others: object) -> Splits:
    return Splits(train=train, facts={"num_classes": 3}, class_names=["a", "b", "c"], **others)  # type: ignore[arg-type]


def ids(part: Examples | None) -> list[int]:
    assert part is not None
    return part.collate(torch.arange(len(part)))["sample_ids"].tolist()


def codes(splits: Splits) -> dict[str, str]:
    return {finding.code: finding.level for finding in findings(splits)}


def test_every_class_gives_its_share() -> None:
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 30)
    keep, taken = stratified_split(180, 0.1, 0, labels=labels, name="val")
    assert labels[taken].bincount().tolist() == [10, 5, 3]
    assert sorted(keep.tolist() + taken.tolist()) == list(range(180))


def test_total_is_the_share_where_classes_do_not_divide() -> None:
    labels = torch.arange(70) % 7  # ten of each: a quarter is 2.5 each, 17.5 -> 18 in all
    _, taken = stratified_split(70, 0.25, 0, labels=labels, name="val")
    assert len(taken) == 18
    assert set(labels[taken].bincount().tolist()) == {2, 3}


def test_single_example_of_a_class_stays_in_train() -> None:
    labels = torch.tensor([0] * 9 + [1])
    for seed in range(20):
        keep, _ = stratified_split(10, 0.5, seed, labels=labels, name="val")
        assert 1 in labels[keep]


def test_split_is_random_by_seed_and_equal_for_equal_seed() -> None:
    labels = torch.arange(1000) % 2
    first, again, other = (stratified_split(1000, 0.1, seed, labels=labels, name="val")[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, torch.arange(100))


def test_groups_stay_together() -> None:
    groups = torch.arange(200) // 8
    keep, taken = stratified_split(200, 0.2, 3, groups=groups, name="val")
    assert not set(groups[keep].tolist()) & set(groups[taken].tolist())
    assert len(taken) == 40


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="one group"):
        stratified_split(10, 0.1, 0, groups=torch.zeros(10, dtype=torch.int64), name="val")


def test_a_tenth_of_train_becomes_validation_without_one() -> None:
    made = with_parts(splits_of(examples(torch.arange(90) % 3)), val=None, test=None, seed=0)
    assert len(ids(made.val)) == 9
    assert made.test is None
    assert sorted(ids(made.train) + ids(made.val)) == list(range(90))


def test_a_persons_own_data_gives_a_tenth_to_test_as_well() -> None:
    made = with_parts(splits_of(examples(torch.arange(90) % 3)), val=None, test=None, seed=0, own=True)
    assert [len(ids(part)) for part in (made.train, made.val, made.test)] == [73, 8, 9]
    without = with_parts(splits_of(examples(torch.arange(90) % 3)), val=None, test=0.0, seed=0, own=True)
    assert without.test is None


def test_data_cut_by_its_own_rule_stays_as_it_is() -> None:
    whole = splits_of(examples(torch.arange(90) % 3), cut=True)
    assert with_parts(whole, val=None, test=None, seed=0) is whole


def test_own_validation_part_is_kept() -> None:
    own = examples([0, 1, 2])
    made = with_parts(splits_of(examples(torch.arange(90) % 3), val=own), val=None, test=None, seed=0)
    assert made.val is own
    assert len(ids(made.train)) == 90


def test_share_asked_for_replaces_own_part_and_says_so() -> None:
    own = examples([0, 1, 2])
    made = with_parts(splits_of(examples(torch.arange(90) % 3), val=own), val=0.2, test=None, seed=0)
    assert len(ids(made.val)) == 18
    assert any("own val part (3 examples) is left out" in text for text in made.warnings)


def test_test_and_validation_shares_do_not_meet() -> None:
    made = with_parts(splits_of(examples(torch.arange(90) % 3)), val=0.1, test=0.2, seed=0)
    assert (len(ids(made.test)), len(ids(made.val)), len(ids(made.train))) == (18, 7, 65)
    assert sorted(ids(made.train) + ids(made.val) + ids(made.test)) == list(range(90))


def test_share_of_zero_means_no_validation() -> None:
    made = with_parts(splits_of(examples(torch.arange(90) % 3)), val=0.0, test=None, seed=0)
    assert made.val is None
    assert len(ids(made.train)) == 90


def test_groups_of_the_data_set_are_honoured() -> None:
    groups = torch.arange(90) // 9
    made = with_parts(splits_of(examples(torch.arange(90) % 3), extras={"groups": groups}), val=0.1, test=0.2, seed=0)
    parts = [set(groups[ids(part)].tolist()) for part in (made.train, made.val, made.test)]
    assert [len(part) for part in parts] == [8 - 1, 1, 2]
    assert "groups" not in made.extras


def test_share_that_empties_train_is_an_error() -> None:
    with pytest.raises(DataError, match="leaves one part empty"):
        with_parts(splits_of(examples([0, 1, 2])), val=1.0, test=None, seed=0)


def test_path_where_a_share_is_meant_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"data\.val=somewhere"):
        with_parts(splits_of(examples(torch.arange(90) % 3)), val="somewhere", test=None, seed=0)


def test_limit_keeps_so_many_of_each_class_in_order() -> None:
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] * 20)
    kept = limited(examples(labels), 5, seed=0)
    assert labels[ids(kept)].bincount().tolist() == [5, 3, 5]
    assert ids(kept) == sorted(ids(kept))
    assert ids(limited(examples(labels), 5, seed=1)) != ids(kept)


# -------------------------------------------------------------------------------------------------- cross-validation


def folded(splits: Splits, folds: int, seed: int = 0, **options: object) -> list[Splits]:
    options = {"test": None, **options}
    return [with_fold(splits, k, folds, seed=seed, **options) for k in range(1, folds + 1)]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_disjoint_and_cover_train(seed: int) -> None:
    made = folded(splits_of(examples(torch.arange(97) % 3)), 5, seed)
    assert sorted(i for one in made for i in ids(one.val)) == list(range(97))
    for one in made:
        assert sorted(ids(one.train) + ids(one.val)) == list(range(97))


def test_sizes_of_folds_differ_by_one_at_most_in_all_and_in_every_class() -> None:
    labels = torch.tensor([0] * 53 + [1] * 31 + [2] * 13)[
        torch.randperm(97, generator=torch.Generator().manual_seed(0))
    ]
    numbers = fold_numbers(97, 5, 1, labels=labels)
    for chosen in (numbers, *(numbers[labels == label] for label in range(3))):
        counts = chosen.bincount(minlength=5)
        assert counts.max() - counts.min() <= 1


def test_folds_are_random_by_seed_and_equal_for_equal_seed() -> None:
    labels = torch.arange(200) % 2
    first, again, other = (fold_numbers(200, 4, seed, labels=labels) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_test_part_is_the_same_for_every_fold_and_meets_none() -> None:
    made = folded(splits_of(examples(torch.arange(90) % 3)), 4, own=True)
    assert len({tuple(ids(one.test)) for one in made}) == 1
    for one in made:
        assert sorted(ids(one.train) + ids(one.val) + ids(one.test)) == list(range(90))
    plain = with_parts(splits_of(examples(torch.arange(90) % 3)), val=None, test=None, seed=0, own=True)
    assert ids(plain.test) == ids(made[0].test)
    given = examples([0, 1, 2])
    assert all(one.test is given for one in folded(splits_of(examples(torch.arange(90) % 3), test=given), 3))


def test_folds_keep_groups_whole_and_are_of_nearly_equal_size() -> None:
    groups = torch.arange(240) // 6
    made = folded(splits_of(examples(torch.arange(240) % 3), extras={"groups": groups}), 4)
    for one in made:
        assert not set(groups[ids(one.train)].tolist()) & set(groups[ids(one.val)].tolist())
        assert len(ids(one.val)) == 60
        assert "groups" not in one.extras


@pytest.mark.parametrize("seed", range(5))
def test_folds_of_groups_share_out_classes(seed: int) -> None:
    """Every group is of one class: 24 groups of class 0, 8 of class 1, of 5 examples each."""
    labels = torch.tensor([0] * 120 + [1] * 40)
    numbers = fold_numbers(160, 4, seed, labels=labels, groups=torch.arange(160) // 5)
    assert numbers[labels == 0].bincount().tolist() == [30] * 4
    assert numbers[labels == 1].bincount().tolist() == [10] * 4


def test_every_fold_has_a_group_even_if_one_group_is_most_of_the_data() -> None:
    groups = torch.tensor([0] * 90 + list(range(1, 5)))
    labels = torch.tensor([0, 1] * 47)
    assert sorted(fold_numbers(94, 5, 0, labels=labels, groups=groups).bincount().tolist()) == [1, 1, 1, 1, 90]


def test_more_folds_than_examples_or_groups_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.folds=5: there are only 3 examples"):
        fold_numbers(3, 5, 0)
    with pytest.raises(DataError, match=r"data\.folds=5: there are only 3 groups"):
        fold_numbers(9, 5, 0, groups=torch.arange(9) // 3)


def test_own_validation_part_gives_way_to_the_fold_and_is_told() -> None:
    own = examples([0, 1, 2])
    made = with_fold(splits_of(examples(torch.arange(90) % 3), val=own), 2, 3, test=None, seed=0)
    assert len(ids(made.val)) == 30
    assert any("own val part (3 examples) is left out; fold 2" in text for text in made.warnings)


def test_fold_of_a_named_data_set_is_prepared() -> None:
    parts = []
    for fold in range(1, 4):
        options = {"name": "digits", "fold": str(fold), "folds": "3"}
        parts.append(prepare(parse_component("data", options, "data"), seed=4))
    assert len({one.test.fingerprint() for one in parts if one.test is not None}) == 1
    seen = [i for one in parts for i in ids(one.val)]
    assert sorted(seen) == sorted(ids(parts[0].train) + ids(parts[0].val))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": "2"}, r"data\.fold=2: give data\.folds as well"),
        ({"folds": "5"}, r"data\.folds=5: give data\.fold as well"),
        ({"fold": "6", "folds": "5"}, r"data\.fold=6: folds are numbered 1 to data\.folds=5"),
        ({"fold": "1", "folds": "5", "val": "0.1"}, r"data\.val=0\.1: .* the validation part is fold 1"),
    ],
)
def test_folds_asked_for_wrongly_are_an_error(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(parse_component("data", {"name": "digits", **options}, "data"), seed=0)


def test_text_that_is_cut_once_has_no_folds(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be, that is the question. " * 200)
    options = {"name": "text", "root": str(tmp_path / "a.txt"), "fold": "1", "folds": "5"}
    with pytest.raises(ConfigError, match=r"data\.folds=5: data=text is not made of examples"):
        prepare(parse_component("data", options, "data"), seed=0)


def test_weights_draw_classes_equally_often() -> None:
    labels = torch.tensor([0] * 90 + [1] * 9 + [2])
    weights = sampling_weights(examples(labels))
    for label in range(3):
        assert weights[labels == label].sum().item() == pytest.approx(1 / 3, abs=1e-12)


def test_weights_need_classes() -> None:
    with pytest.raises(ConfigError, match="no classes"):
        sampling_weights(TensorExamples({"numeric": torch.zeros(3, 2)}))


def test_clean_data_has_no_findings() -> None:
    assert findings(splits_of(examples(torch.arange(30) % 3))) == []


def test_labels_out_of_range_are_an_error_that_names_them() -> None:
    found = findings(splits_of(examples([0, 1, 2, 7, -1])))
    assert [f.code for f in found if f.level == "error"] == ["label_range"]
    assert "7 at 3" in found[0].message
    assert "-1 at 4" in found[0].message


def test_one_class_is_an_error() -> None:
    assert codes(splits_of(examples([1] * 10))) == {"one_class": "error"}


def test_class_without_examples_is_a_warning() -> None:
    assert codes(splits_of(examples([0, 1] * 10))) == {"absent_class": "warning"}


def test_uneven_classes_are_a_warning() -> None:
    assert codes(splits_of(examples([0] * 200 + [1] * 10 + [2] * 10))) == {"uneven_classes": "warning"}


def test_copies_between_train_and_test_are_a_warning_that_names_them() -> None:
    train = examples(torch.arange(60) % 3)
    copies = TensorExamples(
        {
            "image": torch.cat([train.columns["image"][[5, 9]], 255 - train.columns["image"][:3]]),
            "labels": torch.zeros(5).long(),
        },
        sample_ids=torch.arange(100, 105),
    )
    found = [f for f in findings(splits_of(train, test=copies)) if f.code == "duplicates_test"]
    assert len(found) == 1
    assert found[0].level == "warning"
    assert "2 of 5" in found[0].message
    assert "100, 101" in found[0].message


@pytest.mark.parametrize("width", [1, 7, 8, 9, 300])
def test_content_keys_are_equal_for_equal_rows_only(width: int) -> None:
    """Against the bytes themselves, with rows that differ in one bit."""
    rows = torch.randint(0, 256, (400, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(width))
    rows = torch.cat([rows, rows[:50], rows[50:100] ^ torch.tensor([1] + [0] * (width - 1), dtype=torch.uint8)])
    rows = torch.cat([rows, rows[:50] ^ torch.tensor([0] * (width - 1) + [128], dtype=torch.uint8)])
    if width > 16:  # the highest bits of two words at once
        twice = rows[:50].clone()
        twice[:, [7, 15]] ^= 128
        rows = torch.cat([rows, twice])
    keys = content_keys(TensorExamples({"image": rows}))
    assert keys is not None
    names: dict[bytes, int] = {}
    for row, key in zip(rows.numpy(), keys.tolist(), strict=True):
        assert names.setdefault(row.tobytes(), key) == key
    assert len(set(names.values())) == len(names)


def test_content_keys_follow_a_subset() -> None:
    whole = examples(torch.arange(30) % 3)
    keys, some = content_keys(whole), content_keys(Subset(Subset(whole, torch.arange(10, 20)), torch.tensor([3, 1])))
    assert keys is not None
    assert some is not None
    assert some.tolist() == [keys[13], keys[11]]


def test_missing_numbers_of_a_table_are_a_warning_and_of_other_columns_an_error() -> None:
    numbers = torch.arange(60.0).view(30, 2)
    numbers[3, 1] = float("nan")
    assert codes(splits_of(examples(torch.arange(30) % 3, numeric=numbers)))["missing_values"] == "warning"
    assert codes(splits_of(examples(torch.arange(30) % 3, features=numbers)))["not_finite"] == "error"
    numbers[3, 1] = float("inf")
    assert codes(splits_of(examples(torch.arange(30) % 3, numeric=numbers)))["not_finite"] == "error"


def test_target_without_value_is_an_error() -> None:
    target = torch.arange(30.0)
    target[2] = float("nan")
    assert codes(splits_of(examples(torch.arange(30) % 3, target=target)))["missing_target"] == "error"


def test_prepare_gives_parts_and_description_of_digits() -> None:
    component = parse_component("data", {"name": "digits", "limit": "7", "val": "0.25"}, "data")
    made = prepare(component, seed=4)
    described = describe(made)
    assert set(described["train"]["classes"].values()) == {7}
    assert described["train"]["examples"] == 70
    assert described["val"]["examples"] == round(0.25 * 1258)
    again = describe(prepare(component, seed=4))
    assert again == described
    other = describe(prepare(component, seed=5))
    assert other["train"]["fingerprint"] != described["train"]["fingerprint"]
    assert other["test"] == described["test"]


def test_prepare_stops_at_errors() -> None:
    from layerwise.data import splits as module

    class OneClass:
        def splits(self) -> Splits:
            return replace(splits_of(examples([1] * 20)))

    class Stub:
        config = None

        def build(self) -> OneClass:
            return OneClass()

    with pytest.raises(DataError, match="one class, 'b'"):
        module.prepare(Stub(), 0)  # type: ignore[arg-type]
