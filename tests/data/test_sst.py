"""The Stanford Sentiment Treebank: sizes, sentences, labels, errors."""

from pathlib import Path

import pytest

from layerwise.core.config import Component, parse_component
from layerwise.core.errors import ConfigError, DataError, UnsupportedError
from layerwise.data.examples import Splits
from layerwise.data.splits import load, prepare


def sst(**options: object) -> Component:
    return parse_component("data", {"name": "sst", **options}, "data")


def splits(datasets_folder: Path, **options: object) -> Splits:
    if not (datasets_folder / "text" / "sst").is_dir():
        pytest.skip("text/sst is not beside the repository")
    return load(sst(root=str(datasets_folder / "text" / "sst"), **options))


def sizes(found: Splits) -> list[int]:
    return [len(part) for part in (found.train, found.val, found.test) if part is not None]


def test_binary_sentences_in_the_official_split(datasets_folder: Path) -> None:
    found = splits(datasets_folder)
    assert sizes(found) == [6920, 872, 1821]
    assert found.class_names == ["negative", "positive"]
    assert found.train is not None
    assert found.train.texts is not None
    assert found.train.texts[0].startswith("a stirring , funny and finally transporting re-imagining")
    labels = found.train.labels()
    assert labels is not None
    assert labels[:3].tolist() == [1, 0, 0]


def test_five_classes(datasets_folder: Path) -> None:
    found = splits(datasets_folder, classes="fine")
    assert sizes(found) == [8544, 1101, 2210]
    assert found.facts == {"num_classes": 5}
    assert found.train is not None
    labels = found.train.labels()
    assert labels is not None
    assert sorted(set(labels.tolist())) == [0, 1, 2, 3, 4]
    assert labels[0] == 4


def test_a_share_of_train_may_validate(datasets_folder: Path) -> None:
    root = str(datasets_folder / "text" / "sst")
    splits(datasets_folder)
    found = prepare(sst(root=root, val=0.2), seed=0)
    assert sizes(found) == [5536, 1384, 1821]


def files(folder: Path, train: str) -> str:
    for part in ("train", "dev", "test"):
        (folder / f"stsa.binary.{part}").write_text(train if part == "train" else "0 bad\n1 good\n", encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("wrong", ["2 too far\n", "good\n", "1\n", "x good\n", "1 \n"])
def test_lines_without_a_label_or_sentence_are_named(tmp_path: Path, wrong: str) -> None:
    root = files(tmp_path, "1 good\n" + wrong)
    with pytest.raises(DataError, match=r"stsa\.binary\.train, line 2"):
        load(sst(root=root))


def test_missing_files_and_a_path_for_validation_are_plain_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"stsa\.binary\.train"):
        load(sst(root=str(tmp_path)))
    with pytest.raises(ConfigError, match="not a path"):
        load(sst(root=files(tmp_path, "1 good\n"), val="other.txt"))
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UnsupportedError, match="LAYERWISE_OFFLINE=1 forbids downloads"):
        load(sst())
