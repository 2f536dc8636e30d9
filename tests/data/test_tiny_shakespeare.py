"""Tiny Shakespeare: found in the folder named, in $LAYERWISE_DATA or in the cache, else downloaded."""

from pathlib import Path

import pytest

from layerwise.core.errors import UnsupportedError
from layerwise.data.tiny_shakespeare import FILE, TinyShakespeare, TinyShakespeareConfig


def test_a_folder_or_the_file_itself_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("First Citizen:\n" * 100)
    for root in (tmp_path, tmp_path / "input.txt"):
        splits = TinyShakespeare(TinyShakespeareConfig(root=str(root))).splits()
        assert splits.train is not None
        assert [len(text) for text in splits.train.texts or ()] == [1350]


def test_offline_without_the_file_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LAYERWISE_OFFLINE", "1")
    with pytest.raises(UnsupportedError, match=r"tiny_shakespeare.*data\.root"):
        TinyShakespeare(TinyShakespeareConfig()).splits()


def test_the_real_text_has_its_published_sizes(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    if not (datasets_folder / FILE.path).is_file():
        pytest.skip(f"tiny_shakespeare is not in {datasets_folder}")
    splits = TinyShakespeare(TinyShakespeareConfig()).splits()
    assert splits.train is not None
    assert splits.val is not None
    assert splits.test is None
    ((train,), (val,)) = (list(part.texts or ()) for part in (splits.train, splits.val))
    # nanoGPT, data/shakespeare_char/prepare.py: 65 characters, 1,003,854 tokens to train on, 111,540 to validate.
    assert (len(set(train + val)), len(train), len(val)) == (65, 1_003_854, 111_540)
    assert train.startswith("First Citizen:")
