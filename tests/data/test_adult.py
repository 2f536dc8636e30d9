"""Adult as its description says."""

from pathlib import Path

import pytest
import torch

from layerwise.core.errors import DataError
from layerwise.data.adult import Adult, AdultConfig
from layerwise.data.examples import Subset
from layerwise.data.table import Schema


def test_adult_is_read_as_described(datasets_folder: Path) -> None:
    """32,561 rows, 7,841 over 50K, 4,262 missing cells; the last fifth is the test part."""
    splits = Adult(AdultConfig(root=str(datasets_folder / "tabular" / "adult"))).splits()
    assert isinstance(splits.train, Subset)
    assert isinstance(splits.test, Subset)
    whole = splits.train.parent.collate(torch.arange(32_561))
    assert splits.class_names == ["<=50K", ">50K"]
    assert whole["labels"].bincount().tolist() == [24_720, 7_841]
    assert int((whole["categories"] == 0).sum()) == 4_262
    assert (len(splits.train), len(splits.test)) == (26_049, 6_512)
    ids = [
        part.collate(torch.tensor([0, len(part) - 1]))["sample_ids"].tolist() for part in (splits.train, splits.test)
    ]
    assert ids == [[0, 26_048], [26_049, 32_560]]
    schema = Schema.from_json(splits.extras["table"])
    assert schema.numeric == ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
    assert len(schema.categories) == 8


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"adult needs the file 'adult\.data'"):
        Adult(AdultConfig(root=str(tmp_path))).splits()
