"""Truth tables against the definitions, and separable points against what they promise."""

import itertools

import pytest
import torch

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.logic import Function, Logic, LogicConfig
from layerwise.data.separable import Separable, SeparableConfig
from layerwise.data.splits import prepare

RULES = {
    "and": all,
    "or": any,
    "not": lambda bits: not bits[0],
    "xor": lambda bits: sum(bits) % 2,
    "parity": lambda bits: sum(bits) % 2,
    "symmetry": lambda bits: list(bits) == list(reversed(bits)),
}


def table(function: Function, num_inputs: int | None = None) -> tuple[list[list[float]], list[list[float]]]:
    part = Logic(LogicConfig(function=function, num_inputs=num_inputs)).splits().train
    assert part is not None
    batch = part.collate(torch.arange(len(part)))
    return batch["features"].tolist(), batch["target"].tolist()


@pytest.mark.parametrize(
    ("function", "num_inputs", "usual"),
    [("and", None, 2), ("or", None, 2), ("not", None, 1), ("xor", None, 2), ("parity", None, 4), ("symmetry", None, 6)]
    + [(name, 5, 5) for name in ("and", "or", "xor", "parity", "symmetry")],
)
def test_rows_are_the_function_in_counting_order(function: Function, num_inputs: int | None, usual: int) -> None:
    features, target = table(function, num_inputs)
    assert features == [list(bits) for bits in itertools.product((0.0, 1.0), repeat=usual)]
    assert target == [[float(RULES[function](bits))] for bits in features]


def test_the_encoder_answers_with_its_input() -> None:
    features, target = table("encoder")
    assert features == target == torch.eye(8).tolist()


def test_a_table_is_whole_in_all_parts_without_a_warning() -> None:
    splits = prepare(parse_component("data", {"name": "logic", "function": "parity"}, "data"), seed=0)
    assert splits.train is not None
    assert [len(part) for part in (splits.train, splits.val, splits.test) if part is not None] == [16, 16, 16]
    assert splits.warnings == []


@pytest.mark.parametrize(("function", "num_inputs"), [("not", 2), ("and", 17)])
def test_tables_that_cannot_be_are_refused(function: Function, num_inputs: int) -> None:
    with pytest.raises(ConfigError, match=f"num_inputs={num_inputs}"):
        LogicConfig(function=function, num_inputs=num_inputs)


@pytest.mark.parametrize("size", [1, 2, 30])
def test_every_point_keeps_the_margin_on_its_side(size: int) -> None:
    """Float32 points: a rounding of 1e-6 of their length."""
    splits = Separable(SeparableConfig(num_features=size, margin=0.2, train_size=300)).splits()
    weight = torch.tensor(splits.extras["separator"]["weight"], dtype=torch.float64)
    assert float(weight.norm()) == pytest.approx(1)
    for part in (splits.train, splits.val, splits.test):
        assert part is not None
        batch = part.collate(torch.arange(len(part)))
        side = 2 * batch["target"][:, 0].double() - 1
        distance = side * (batch["features"].double() @ weight + splits.extras["separator"]["bias"])
        assert float(distance.min()) > 0.2 - 1e-6
        assert float(batch["features"].norm(dim=1).max()) <= 1.2 + 1e-6


def test_points_of_the_test_part_are_others_and_numbers_do_not_change_them() -> None:
    few, many = (Separable(SeparableConfig(train_size=size)).splits() for size in (50, 80))
    assert few.train is not None
    assert many.train is not None
    assert few.test is not None
    first = few.train.collate(torch.arange(50))["features"]
    assert torch.equal(first, many.train.collate(torch.arange(50))["features"])
    other = few.test.collate(torch.arange(len(few.test)))["features"]
    assert not bool((first[:, None] == other[None]).all(2).any())


def test_points_all_on_one_side_are_refused() -> None:
    with pytest.raises(DataError, match="one side of the plane"):
        Separable(SeparableConfig(train_size=1)).splits()
