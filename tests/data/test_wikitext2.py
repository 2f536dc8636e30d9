"""WikiText-2's parts, read as words."""

from pathlib import Path

import pytest
import torch

from layerwise.core.config import parse_component
from layerwise.core.errors import UnsupportedError
from layerwise.data.examples import Splits
from layerwise.data.splits import load
from layerwise.data.token_windows import TokenWindows
from layerwise.data.tokenizers import SpacedTokenizer
from layerwise.data.wikitext2 import TEST
from layerwise.tasks.language_modelling import LanguageModelling, LanguageModellingConfig


def test_the_validation_part_trains_and_the_test_part_tests(
    datasets_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    if not (datasets_folder / TEST.path).is_file():
        pytest.skip(f"wikitext2 is not in {datasets_folder}")
    splits = load(parse_component("data", "wikitext2", "data"))
    (train,), (val,), _ = texts = parts_of(splits)
    assert len(val.encode()) == pytest.approx(0.1 * len((train + val).encode()), abs=4)
    task = LanguageModelling(LanguageModellingConfig(tokenizer="words", min_count=1, seq_len=35))
    task.bind(splits)
    windows = [part for part in (splits.train, splits.val, splits.test) if isinstance(part, TokenWindows)]
    # 217,646 and 245,569 words and line ends: the counts of the data set's own description. The cut is inside a word.
    assert not train[-1].isspace()
    assert not val[0].isspace()
    assert (windows[0].length + windows[1].length, windows[2].length) == (217_646 + 1, 245_569)
    start = task.decode_tokens(windows[2].collate(torch.tensor([0]))["tokens"][0, :12])
    assert start == "\n= Robert <unk> =\n\nRobert <unk> is an English"
    assert isinstance(task.tokenizer, SpacedTokenizer)
    assert set(task.tokenizer.words) == {"\n", *train.split()} - {"<unk>"}
    words = [word for word in texts[2][0].split(" ") if word.strip()]  # a line end is no word of these
    known = set(task.tokenizer.words)
    unknown = sum(word not in known for word in words)
    assert f"{100 * unknown / 245_569:.1f} % of test" in splits.warnings[-1]


def parts_of(splits: Splits) -> list[list[str]]:
    return [list(part.texts or ()) for part in (splits.train, splits.val, splits.test) if part is not None]


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text(" a b c \n" * 40)
    (tmp_path / "test.txt").write_text(" a new c \n" * 10)
    data = {"name": "wikitext2", "root": str(tmp_path)}
    assert parts_of(load(parse_component("data", data, "data"))) == [
        [" a b c \n" * 36],
        [" a b c \n" * 4],
        [" a new c \n" * 10],
    ]
    (tmp_path / "own.txt").write_text("own")
    own = load(parse_component("data", {**data, "test": str(tmp_path / "own.txt"), "val": 0}, "data"))
    assert parts_of(own) == [[" a b c \n" * 40], ["own"]]


def test_offline_without_the_files_says_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LAYERWISE_OFFLINE", "1")
    with pytest.raises(UnsupportedError, match=r"wikitext2.*data\.root.*valid\.txt, test\.txt"):
        load(parse_component("data", "wikitext2", "data"))
