"""Words and tags in columns."""

import os
from pathlib import Path

import pytest
import torch

from layerwise.core.errors import DataError
from layerwise.data.conll import Conll, ConllConfig
from layerwise.data.wnut17 import WNUT17, WNUT17Config

TEXT = "-DOCSTART- X O\n\nEU NNP B-ORG\nrejects VBZ O\n\nPeter NNP B-PER\nBlackburn NNP I-PER\n"


def read(path: Path, **options: object) -> Conll:
    return Conll(ConllConfig(root=str(path), **options))  # pyright: ignore[reportArgumentType]


def test_sentences_have_their_words_and_tags(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(TEXT)
    splits = read(tmp_path / "a.conll").splits()
    assert splits.class_names == ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    assert splits.train is not None
    assert list(splits.train.texts or ()) == ["EU rejects", "Peter Blackburn"]
    assert splits.train.collate(torch.tensor([0, 1]))["tags"].tolist() == [[1, 0], [3, 4]]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("I-A I-A B-A O", [1, 2, 1, 0]),  # IOB1: B- only between neighbours of one type
        ("B-A E-A S-A O", [1, 2, 1, 0]),  # BIOES
        ("B-A L-A U-A O", [1, 2, 1, 0]),  # BILOU
        ("O I-A O I-A", [0, 1, 0, 1]),
    ],
)
def test_other_schemes_are_brought_to_bio(given: str, wanted: list[int], tmp_path: Path) -> None:
    (tmp_path / "a.bio").write_text("".join(f"w {tag}\n" for tag in given.split()))
    train = read(tmp_path / "a.bio").splits().train
    assert train is not None
    assert train.collate(torch.tensor([0]))["tags"][0].tolist() == wanted


def test_files_are_parts_and_unknown_types_are_named(tmp_path: Path) -> None:
    for name, text in (("x-train.conll", "a B-A\n"), ("x-dev.conll", "b O\n"), ("x_test.conll", "c B-NEW\r\n\r\n")):
        (tmp_path / name).write_text(text)
    splits = read(tmp_path).splits()
    assert [len(part) for part in (splits.train, splits.val, splits.test) if part is not None] == [1, 1, 1]
    assert splits.warnings == ["test: the types NEW do not occur in train: nothing of them can be learned."]
    assert "B-NEW" in (splits.class_names or ())


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, "is empty"),
        (b"\xff\xfe a O\n", {}, "data.encoding"),
        (b"a O\nb\n", {}, "line 2"),
        (b"a NN\n", {}, "'NN' is no tag"),
        (b"a O\n", {"word": 3}, "line 1: 2 columns"),
    ],
)
def test_what_cannot_be_read_is_named(content: bytes, options: dict[str, int], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.conll", **options).splits()


def test_wnut17_has_its_published_counts() -> None:
    root = Path(os.environ.get("LAYERWISE_DATA", "/nonexistent"))
    if not (root / "text" / "wnut17").is_dir():
        pytest.skip("LAYERWISE_DATA has no text/wnut17")
    splits = WNUT17(WNUT17Config()).splits()
    parts = [part for part in (splits.train, splits.val, splits.test) if part is not None]
    assert [len(part) for part in parts] == [3394, 1009, 1287]
    begins = [k for k, name in enumerate(splits.class_names or ()) if name.startswith("B-")]
    assert len(begins) == 6

    counts = [
        int(torch.isin(part.collate(torch.arange(len(part)))["tags"], torch.tensor(begins)).sum()) for part in parts
    ]
    assert counts == [1975, 836, 1079]
