"""The adding problem: two marks, one in each half, and their sum; sequences by a hash of their id."""

import pytest
import torch

from layerwise.core.config import parse
from layerwise.core.errors import ConfigError
from layerwise.data.adding_problem import AddingProblem, AddingProblemConfig
from layerwise.data.examples import Splits


def made(**options: int) -> Splits:
    sizes = {"train_size": 3000, "val_size": 50, "test_size": 70}
    return AddingProblem(parse(AddingProblemConfig, sizes | options, "data")).splits()


def test_the_target_is_the_sum_of_one_number_of_each_half() -> None:
    splits = made(seq_len=11)
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(3000))
    numbers, marks = batch["features"].unbind(2)
    assert numbers.shape == (3000, 11)
    assert marks[:, :5].sum(1).unique().tolist() == [1]
    assert marks[:, 5:].sum(1).unique().tolist() == [1]
    torch.testing.assert_close(batch["target"], (numbers * marks).sum(1))
    assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
    # The variance of a sum of two uniform numbers is 2 / 12; 3,000 draws give it to within a tenth.
    assert float((batch["target"] - 1).square().mean()) == pytest.approx(1 / 6, rel=0.1)
    assert (marks.sum(0) > 3000 / 11).all()  # every place is marked, about 3000 / 5.5 times


def test_a_sequence_depends_on_its_id_and_the_seed_alone() -> None:
    few, many, other = made(train_size=10), made(train_size=20), made(train_size=10, seed=1)
    first, second, third = (s.train.collate(torch.arange(10)) for s in (few, many, other) if s.train is not None)
    assert torch.equal(first["features"], second["features"])
    assert not torch.equal(first["features"], third["features"])


def test_parts_share_no_sequence() -> None:
    splits = made(train_size=100)
    parts = [part for part in (splits.train, splits.val, splits.test) if part is not None]
    rows = torch.cat([part.collate(torch.arange(len(part)))["features"].flatten(1) for part in parts])
    assert len(rows) == 100 + 50 + 70 == len(rows.unique(dim=0))


def test_a_sequence_of_one_has_no_halves() -> None:
    with pytest.raises(ConfigError, match="seq_len"):
        parse(AddingProblemConfig, {"seq_len": 1}, "data")
