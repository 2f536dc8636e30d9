"""Pairs of texts: a person's aligned files or table, what is wrong with them, and the examples they become."""

import gzip
from pathlib import Path

import pytest
import torch

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Splits
from layerwise.data.splits import load, prepare
from layerwise.data.text_pairs import TextPairs, read_lines
from layerwise.data.texts import unpack_texts


def parallel(**options: object) -> Splits:
    return load(parse_component("data", {"name": "parallel_text", **options}, "data"))


def pairs(part: object) -> list[tuple[str, str]]:
    assert isinstance(part, TextPairs)
    return list(zip(part.texts, part.targets, strict=True))


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def test_two_aligned_files(tmp_path: Path) -> None:
    write(tmp_path, a_en="one\ntwo\n", a_de="eins\r\nzwei\r\n")
    found = parallel(source=str(tmp_path / "a.en"), target=str(tmp_path / "a.de"))
    assert pairs(found.train) == [("one", "eins"), ("two", "zwei")]
    assert found.val is None


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    """Parallel corpora are full of Unicode's other line ends, which would shift one side against the other."""
    write(tmp_path, a_en="one\u2028more\ntwo\x0b\n", a_de="eins\x85\nzwei\n")
    found = parallel(source=str(tmp_path / "a.en"), target=str(tmp_path / "a.de"))
    assert [source for source, _ in pairs(found.train)] == ["one\u2028more", "two"]


def test_a_folder_with_parts(tmp_path: Path) -> None:
    write(tmp_path, train_en="a\nb\n", train_de="A\nB\n", dev_en="c\n", dev_de="C\n")
    (tmp_path / "test.en.gz").write_bytes(gzip.compress(b"d\n"))
    (tmp_path / "test.de.gz").write_bytes(gzip.compress(b"D\n"))
    found = parallel(root=str(tmp_path), source="en", target="de")
    assert [pairs(part) for part in (found.train, found.val, found.test)] == [
        [("a", "A"), ("b", "B")],
        [("c", "C")],
        [("d", "D")],
    ]
    assert found.extras["languages"] == ["en", "de"]


def test_validation_files_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, train_en="a\n", train_de="A\n", other_en="x\n", other_de="X\n")
    asked = {"source": "en", "target": "de", "val": str(tmp_path / "other")}
    assert pairs(parallel(root=str(tmp_path), **asked).val) == [("x", "X")]
    asked |= {"source": str(tmp_path / "train.en"), "target": str(tmp_path / "train.de")}
    assert pairs(parallel(**asked).val) == [("x", "X")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "english\tgerman\tid\nA dog.\tEin Hund.\t1\nA cat.\tEine Katze.\t2\n"),
        ("t.csv", 'english,german\n"A dog.",Ein Hund.\nA cat.,Eine Katze.\n'),
        (
            "t.jsonl",
            '{"english": "A dog.", "german": "Ein Hund."}\n{"german": "Eine Katze.", "english": "A cat."}\n',
        ),
    ],
)
def test_two_columns_of_a_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = parallel(root=str(tmp_path / name), source="english", target="german")
    assert pairs(found.train) == [("A dog.", "Ein Hund."), ("A cat.", "Eine Katze.")]


def test_line_counts_that_differ_are_named(tmp_path: Path) -> None:
    write(tmp_path, a_en="one\ntwo\nthree\n", a_de="eins\nzwei\n")
    with pytest.raises(DataError, match=r"a\.en has 3 lines and .*a\.de has 2"):
        parallel(source=str(tmp_path / "a.en"), target=str(tmp_path / "a.de"))


def test_pairs_with_an_empty_side_are_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path, a_en="one\n\nthree\nfour\n", a_de="eins\nzwei\n   \nvier\n")
    found = parallel(source=str(tmp_path / "a.en"), target=str(tmp_path / "a.de"))
    assert pairs(found.train) == [("one", "eins"), ("four", "vier")]
    assert len(found.warnings) == 2
    assert "a.en: 1 of 4 lines are empty" in found.warnings[0]
    assert "the first is line 2" in found.warnings[0]
    assert "line 3" in found.warnings[1]


def test_no_pair_with_both_sides(tmp_path: Path) -> None:
    write(tmp_path, a_en="one\n\n", a_de="\nzwei\n")
    with pytest.raises(DataError, match="no pair has text on both sides"):
        parallel(source=str(tmp_path / "a.en"), target=str(tmp_path / "a.de"))


def test_bytes_that_are_no_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    write(tmp_path, a_en="one\ntwo\n")
    (tmp_path / "a.de").write_bytes("eins\nzw\xf6lf\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.de: not UTF-8: byte 0xf6 at offset \d+ \(line 2\)"):
        parallel(source=str(tmp_path / "a.en"), target=str(tmp_path / "a.de"))
    found = parallel(source=str(tmp_path / "a.en"), target=str(tmp_path / "a.de"), encoding="latin-1")
    assert pairs(found.train)[1] == ("two", "zw\xf6lf")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path, a_en="one\n")
    with pytest.raises(DataError, match=r"data\.target=.*a\.de: there is no such file"):
        parallel(source=str(tmp_path / "a.en"), target=str(tmp_path / "a.de"))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("english\tgerman\nA\tB\n")
    with pytest.raises(DataError, match=r"no column 'french'; columns: english, german.*data\.target=NAME"):
        parallel(root=str(tmp_path / "t.tsv"), source="english", target="french")


def test_empty_file_and_unknown_encoding() -> None:
    with pytest.raises(DataError, match=r"a\.txt is empty"):
        read_lines(b"\n\n", "a.txt")
    with pytest.raises(ConfigError, match="no such encoding"):
        read_lines(b"x", "a.txt", "klingon")


def test_examples_are_the_bytes_of_both_sides() -> None:
    examples = TextPairs(["one", "twenty"], ["größer", "z"])
    batch = examples.collate(torch.tensor([1, 0]))
    assert unpack_texts(batch["text"]) == [b"twenty", b"one"]
    assert unpack_texts(batch["target"]) == [b"z", "größer".encode()]
    assert batch["sample_ids"].tolist() == [1, 0]


def test_fingerprint_and_keys_change_with_either_side() -> None:
    examples = [TextPairs(["a", "b"], ["A", "B"]), TextPairs(["a", "b"], ["A", "C"]), TextPairs(["a", "c"], ["A", "B"])]
    assert len({each.fingerprint() for each in examples}) == 3
    keys = [each.content_keys().tolist() for each in examples]
    assert keys[0][0] == keys[1][0] == keys[2][0]
    assert len({key[1] for key in keys}) == 3


def test_multi30k_has_the_official_parts(datasets_folder: Path) -> None:
    root = datasets_folder / "text" / "multi30k"
    if not root.is_dir():
        pytest.skip("text/multi30k is not beside the repository")
    found = load(parse_component("data", {"name": "multi30k", "root": str(root)}, "data"))
    assert [len(part or ()) for part in (found.train, found.val, found.test)] == [29000, 1014, 1000]
    assert pairs(found.train)[0] == (
        "Two young, White males are outside near many bushes.",
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    )
    french = load(
        parse_component("data", {"name": "multi30k", "root": str(root), "target": "fr", "year": 2017}, "data")
    )
    assert pairs(french.test)[0][1] != pairs(found.test)[0][1]


def test_multi30k_from_a_language_into_itself() -> None:
    with pytest.raises(ConfigError, match="languages must differ"):
        parse_component("data", {"name": "multi30k", "target": "en"}, "data")


def test_a_person_s_pairs_get_test_and_validation_parts(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_en="".join(f"sentence number {i}\n" for i in range(50)),
        a_de="".join(f"Satz Nummer {i}\n" for i in range(50)),
    )
    options = {"name": "parallel_text", "source": str(tmp_path / "a.en"), "target": str(tmp_path / "a.de")}
    found = prepare(parse_component("data", options, "data"), seed=0)
    assert [len(part or ()) for part in (found.train, found.val, found.test)] == [41, 4, 5]  # a tenth of 50, then of 45
