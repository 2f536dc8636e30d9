"""The data check as a person calls it."""

from pathlib import Path

import pytest
import torch

from layerwise.api.check import check, check_data
from layerwise.core.errors import ConfigError
from layerwise.data.examples import Splits, TensorExamples


def codes(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["code"]: row["level"] for row in rows}


def test_digits_are_clean() -> None:
    assert check_data("digits") == []
    assert check_data("lenet5") == []


def test_data_that_cannot_be_read_is_an_error_finding(tmp_path: Path) -> None:
    rows = check_data("image_folder", [("data.root", str(tmp_path))])
    assert codes(rows) == {"unreadable": "error"}
    assert "has no pictures" in rows[0]["message"]


def test_table_for_the_wrong_task_is_an_error_finding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{i % 7},{i * 0.5}\n" for i in range(60)))
    where = [("data.root", str(path)), ("data.target", "y")]
    rows = check_data("tabular_classification", where)
    assert codes(rows)["task"] == "error"
    assert rows[0]["code"] == "task"  # worst first
    assert codes(check_data("tabular_regression", where)) == {"few_examples": "note"}
    assert codes(check_data("tabular_regression", [*where, ("data.test", "0"), ("data.val", "0")])) == {
        "no_val": "note",
        "no_test": "note",
    }


def test_few_examples_and_missing_parts_are_notes() -> None:
    train = TensorExamples(
        {"image": torch.arange(24, dtype=torch.uint8).view(6, 1, 2, 2), "labels": torch.arange(6) % 2}
    )
    found = check(Splits(train=train, facts={"num_classes": 2}, class_names=["a", "b"]), "image_classification")
    assert {finding.code for finding in found} == {"few_a_class", "few_examples", "no_val", "no_test"}
    assert {finding.level for finding in found} == {"note"}


def test_unknown_names_and_recipes_without_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="digits"):
        check_data("digit")
    with pytest.raises(ConfigError, match="makes its own data"):
        check_data("reinforce_cartpole")
