"""Characters and bytes to numbers and back."""

from pathlib import Path

import pytest
import torch

from layerwise.core.errors import CheckpointError, DataError
from layerwise.data.tokenizers import ByteTokenizer, CharTokenizer, load_tokenizer, save_tokenizer, tokenizer_from

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
