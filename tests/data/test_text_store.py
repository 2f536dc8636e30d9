"""Texts behind one another: they come back, whole or in pieces, from memory and from disk."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.data.examples import Subset
from layerwise.data.text_store import TextStore
from layerwise.data.texts import TextExamples, unpack_texts

TEXTS = ["Gr\u00fc\u00dfe", "", "\u6f22\u5b57 \u00e9\n", "a"]


def stored(folder: Path) -> TextStore:
    folder.mkdir(parents=True)
    return TextStore.opened(folder, TextStore.write(TEXTS, folder))


def test_texts_come_back_from_memory_and_disk(tmp_path: Path) -> None:
    here, there = TextStore.packed(TEXTS), stored(tmp_path / "cache" / "texts" / "key")
    for store in (here, there):
        assert list(store) == store[:] == TEXTS
        assert (store[-1], len(store), store.lengths.tolist()) == ("a", 4, [7, 0, 10, 1])
        with pytest.raises(IndexError):
            store[4]
    assert here.digest == there.digest
    assert (here.cache, there.cache) == (None, tmp_path / "cache")
    assert TextStore.packed([iter(text) for text in TEXTS]).digest == here.digest  # a text may be given in pieces


def test_no_texts_can_be_opened(tmp_path: Path) -> None:
    assert list(TextStore.opened(tmp_path, TextStore.write([], tmp_path))) == []


def test_digests_tell_other_texts_and_other_cuts() -> None:
    assert len({TextStore.packed(texts).digest for texts in (["ab", "c"], ["a", "bc"], ["ab", "d"])}) == 3


def test_pieces_are_the_text_and_end_where_a_line_begins() -> None:
    text = "".join(f"line {i}\n" + "\n" * (i % 3) + "  blank" * (i % 2) for i in range(300)) + "\u6f22" * 200
    store = TextStore.packed(["before", text])
    pieces = list(store.pieces(1, 100))
    assert "".join(pieces) == text
    assert max(len(piece.encode()) for piece in pieces) <= 100
    for one, two in itertools.pairwise(pieces):
        if "\u6f22" not in one + two:
            assert one.endswith("\n")
            assert not one[-2].isspace()
            assert not two[0].isspace()


def test_a_part_has_what_lies_between_two_bytes() -> None:
    store = TextStore.packed(["one", "two", "three"])
    assert [list(store.part(*cut)) for cut in ((0, 3), (0, 4), (3, 6), (7, 11))] == [
        ["one"],
        ["one", "t"],
        ["two"],
        ["hree"],
    ]
    assert store.at_character(4) == 4
    assert [TextStore.packed(["a\u6f22"]).at_character(i) for i in range(5)] == [0, 1, 1, 1, 4]


def test_keys_find_copies_whatever_the_blanks() -> None:
    keys = TextStore.packed(["a b", " a  b\n", "ab"]).keys
    assert keys is not None
    assert keys[0] == keys[1] != keys[2]


def test_examples_of_a_store_are_those_of_its_texts(tmp_path: Path) -> None:
    examples = TextExamples(stored(tmp_path / "a" / "b" / "c"), {"labels": torch.arange(4)})
    batch = examples.collate(torch.tensor([2, 0]))
    assert [text.decode() for text in unpack_texts(batch["text"])] == [TEXTS[2], TEXTS[0]]
    assert batch["labels"].tolist() == [2, 0]
    part = Subset(Subset(examples, torch.tensor([0, 2, 3])), torch.tensor([2, 1]))
    assert part.texts is not None
    assert (list(part.texts), part.texts[0], part.texts[1:]) == (["a", TEXTS[2]], "a", [TEXTS[2]])
    assert examples.content_keys().dtype == np.int64


def test_pieces_of_long_lines_and_of_lines_that_begin_with_a_blank_hold_whole_words() -> None:
    for text in ("".join(f"word{i} " for i in range(300)), "".join(f" = line {i} of words = \n" for i in range(100))):
        pieces = list(TextStore.packed([text]).pieces(0, 100))
        assert len(pieces) > 1
        assert "".join(pieces) == text
        assert [word for piece in pieces for word in piece.split()] == text.split()
