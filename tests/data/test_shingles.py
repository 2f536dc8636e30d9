"""Near copies of texts against a count of all pairs."""

import random
import re

import pytest

from layerwise.data.shingles import near_copies, plain

WORDS = re.findall(
    r"\w+", "the a film story actor plot is was never always very quite good bad slow funny with any some joy"
)


def sentences(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(8, 30))) for _ in range(count)]


def overlap(one: str, other: str) -> float:
    a, b = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (one, other))
    return len(a & b) / len(a | b)


def test_pairs_are_those_of_a_comparison_of_all() -> None:
    texts = sentences(120, 0)
    texts += [text + " indeed" for text in texts[:40]] + [text.replace("film", "movie") for text in texts[40:80]]
    texts += [text[: len(text) // 2] for text in texts[:20]]
    expected = {
        (i, j): overlap(texts[i], texts[j])
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if texts[i] != texts[j] and overlap(texts[i], texts[j]) >= 0.8
    }
    found = {(i, j): share for i, j, share in near_copies(texts, 0.8)}
    assert len(expected) > 30
    assert found == expected


def test_texts_shorter_than_a_shingle_and_empty_ones_have_no_near_copies() -> None:
    assert near_copies(["", "", "ab", "ac", "abcd"], 0.8) == []
    assert near_copies([], 0.8) == []


def test_a_text_that_occurs_a_thousand_times_costs_no_million_pairs() -> None:
    texts = ["the very same boilerplate in every file"] * 1000 + ["the very same boilerplate in every file!"]
    assert {(i, j) for i, j, _ in near_copies(texts, 0.8)} == {(0, 1000)}


def test_overlap_below_what_the_bands_find_surely_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.7 to 1"):
        near_copies(["a"], 0.5)


def test_plain_text_forgets_case_blanks_and_ways_to_write_a_character() -> None:
    assert plain("  Caf\u00e9\u00a0 NOIR\n") == plain("cafe\u0301 noir") == "caf\u00e9 noir"
