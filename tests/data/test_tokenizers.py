"""Characters and bytes to numbers and back."""

import json
from pathlib import Path

import pytest
import torch

from layerwise.core.errors import CheckpointError, DataError
from layerwise.data.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    SpacedTokenizer,
    WordTokenizer,
    load_tokenizer,
    save_tokenizer,
    split_words,
    tokenizer_from,
)

TEXT = "Grüße,\r\n\tWelt! 漢字 🙂\x00"


def test_characters_are_numbered_in_order_of_code_point() -> None:
    tokenizer = CharTokenizer(TEXT)
    alphabet = sorted(set(TEXT))
    assert tokenizer.vocab_size == len(alphabet)
    assert tokenizer.encode(TEXT).tolist() == [alphabet.index(c) for c in TEXT]
    assert tokenizer.alphabet == "".join(alphabet)


@pytest.mark.parametrize("tokenizer", [CharTokenizer(TEXT), ByteTokenizer()], ids=["chars", "bytes"])
def test_decoding_gives_the_text_back(tokenizer: CharTokenizer | ByteTokenizer) -> None:
    tokens = tokenizer.encode(TEXT)
    assert tokens.dtype == torch.int64
    assert tokenizer.decode(tokens) == TEXT
    assert tokenizer.decode(tokens.tolist()) == TEXT
    assert tokenizer.decode(tokenizer.encode("")) == ""


def test_bytes_are_utf8() -> None:
    assert ByteTokenizer().encode("é€").tolist() == [0xC3, 0xA9, 0xE2, 0x82, 0xAC]
    assert ByteTokenizer().decode([65, 0xC3]) == "A\ufffd"


def test_unknown_characters_are_named_with_their_place() -> None:
    with pytest.raises(DataError, match=r"'é' \(U\+00E9\), '漢' \(U\+6F22\); the first stands at position 2"):
        CharTokenizer("abc").encode("ab漢éé")
    with pytest.raises(DataError, match="and 21 more"):
        CharTokenizer("0").encode("abcdefghijklmnopqrstuvwxyz")


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(DataError, match="token 3 is not among the tokeniser's 3"):
        CharTokenizer("abc").decode([0, 3])
    with pytest.raises(DataError, match="token -1 "):
        CharTokenizer("abc").decode(torch.tensor([-1]))


@pytest.mark.parametrize("tokenizer", [CharTokenizer(TEXT), ByteTokenizer()], ids=["chars", "bytes"])
def test_saved_and_loaded_tokeniser_is_equal(tokenizer: CharTokenizer | ByteTokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert type(loaded) is type(tokenizer)
    assert loaded.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_tokenizer(path)
    for content in ("{", "[]", '{"kind": "words"}', '{"kind": "chars"}'):
        path.write_text(content)
        with pytest.raises(CheckpointError):
            load_tokenizer(path)
    with pytest.raises(CheckpointError, match="'words'"):
        tokenizer_from({"kind": "words"})


def test_an_empty_alphabet_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        CharTokenizer("")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It isn't well-made!", ["it", "isn't", "well-made", "!"]),
        ("3.5 of 5", ["3", ".", "5", "of", "5"]),
        ("rock'n'roll - no", ["rock'n'roll", "-", "no"]),
        ("Grüße\tan  alle\n", ["grüße", "an", "alle"]),
        ("漢字 and テスト", ["漢", "字", "and", "テ", "ス", "ト"]),
        ("does n't", ["does", "n't"]),
        ("🙂🙂", ["🙂", "🙂"]),
        ("", []),
    ],
)
def test_words_and_signs(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_composed_and_decomposed_letters_are_the_same_word() -> None:
    assert split_words("e\u0301te\u0301") == split_words("\u00e9t\u00e9") == ["été"]


def test_words_are_numbered_by_how_often_they_occur() -> None:
    tokenizer = WordTokenizer.learn(["b a b", "c B a", "d"])
    assert tokenizer.words == ["b", "a", "c", "d"]
    assert tokenizer.encode("D b other a").tolist() == [5, 2, 1, 3]
    assert tokenizer.decode([5, 2, 1, 3, 0, 0]) == "d b <unknown> a"
    assert tokenizer.vocab_size == 6
    assert tokenizer.encode("").dtype == torch.int64


def test_rare_words_and_a_longest_list() -> None:
    assert WordTokenizer.learn(["b a b", "c a"], min_count=2).words == ["a", "b"]
    assert WordTokenizer.learn(["b a b", "c a"], most=1).words == ["a"]
    assert WordTokenizer.learn(["A a"], lowercase=False).words == ["A", "a"]


def test_a_word_tokeniser_comes_back_from_its_state(tmp_path: Path) -> None:
    for lowercase in (True, False):
        tokenizer = WordTokenizer.learn([TEXT], lowercase=lowercase)
        save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
        loaded = load_tokenizer(tmp_path / "tokenizer.json")
        assert loaded.state() == tokenizer.state()
        assert loaded.encode(TEXT + " new").tolist() == tokenizer.encode(TEXT + " new").tolist()
    with pytest.raises(DataError, match="twice"):
        WordTokenizer(["a", "a"])


def test_spaced_words_are_numbered_by_count_and_lines_end_with_a_token() -> None:
    tokenizer = SpacedTokenizer.learn(["b a b\n <unk> c", "b\n"])
    assert tokenizer.words == ["b", "\n", "a", "c"]
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("a <unk>  new\nb").tolist() == [3, 0, 0, 2, 1]
    assert tokenizer.decode([3, 0, 2, 2, 1]) == "a <unk>\n\nb"
    again = tokenizer_from(json.loads(json.dumps(tokenizer.state())))
    assert again.encode("c b\n").tolist() == [4, 1, 2]
    with pytest.raises(DataError, match="names a word twice"):
        SpacedTokenizer(["a", "a"])


def test_rare_spaced_words_are_left_out_but_for_the_line_end() -> None:
    assert SpacedTokenizer.learn(["b a b", "c b\n"], min_count=2).words == ["b", "\n"]
