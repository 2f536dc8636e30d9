"""Texts as bytes in batches."""

import numpy as np
import pytest
import torch

from layerwise.core.errors import DataError
from layerwise.data.examples import Subset
from layerwise.data.texts import TextExamples, pack_texts, unpack_texts

TEXTS = ["Grüße, Welt!", "", "漢字 🙂", "a"]


def made() -> TextExamples:
    return TextExamples(TEXTS, {"labels": torch.tensor([1, 0, 2, 1])})


def test_packed_texts_come_back() -> None:
    column = pack_texts(TEXTS)
    assert column.dtype == torch.uint8
    assert column.shape == (4, max(len(text.encode()) for text in TEXTS))
    assert [text.decode() for text in unpack_texts(column)] == TEXTS
    assert pack_texts([]).shape == (0, 0)


def test_collated_texts_are_those_asked_for_in_that_order() -> None:
    for order in ([3, 1], [2, 0, 2], [1], list(range(4))):
        batch = made().collate(torch.tensor(order))
        assert [text.decode() for text in unpack_texts(batch["text"])] == [TEXTS[i] for i in order]
        assert batch["labels"].tolist() == [[1, 0, 2, 1][i] for i in order]
        assert batch["sample_ids"].tolist() == order
        assert batch["text"].shape[1] == max(len(TEXTS[i].encode()) for i in order)


def test_a_subset_has_its_texts() -> None:
    part = Subset(made(), torch.tensor([2, 3]))
    assert part.texts == ["漢字 🙂", "a"]
    assert [text.decode() for text in unpack_texts(part.collate(torch.tensor([1]))["text"])] == ["a"]


def test_the_fingerprint_tells_other_texts_and_other_cuts() -> None:
    labels = {"labels": torch.tensor([0, 1])}
    prints = {TextExamples(texts, labels).fingerprint() for texts in (["ab", "c"], ["a", "bc"], ["ab", "d"])}
    prints.add(TextExamples(["ab", "c"], {"labels": torch.tensor([1, 1])}).fingerprint())
    assert len(prints) == 4
    assert TextExamples(["ab", "c"], labels).fingerprint() in prints


def test_content_keys_find_copies_whatever_the_blanks() -> None:
    keys = TextExamples(["a b", " a  b\n", "ab"], {}).content_keys()
    assert keys.dtype == np.int64
    assert keys[0] == keys[1] != keys[2]


def test_nul_characters_are_refused_with_their_place() -> None:
    with pytest.raises(DataError, match="Text 1 has a NUL"):
        TextExamples(["a", "b\0c"], {})
