"""Tokenisers without a vocabulary to download: characters, bytes and words. Saved as JSON, never as a pickle."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from layerwise.core.errors import CheckpointError, DataError


class Tokenizer(Protocol):
    """Text to token numbers and back."""

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        ...

    @property
    def unit(self) -> str:
        """What one token stands for: "char", "byte", "word" or "subword"."""
        ...

    def encode(self, text: str) -> Tensor:
        """Token numbers, int64 [T]."""
        ...

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The text of token numbers."""
        ...

    def state(self) -> dict[str, Any]:
        """JSON values from which `tokenizer_from` makes an equal tokeniser."""
        ...


class CharTokenizer:
    """One token a Unicode character of a fixed alphabet, numbered in order of code point.

    Args:
        alphabet: the characters; order and repetition do not matter.

    Raises:
        DataError: the alphabet is empty.

    Example:
        >>> tokenizer = CharTokenizer("abac")
        >>> tokenizer.encode("cab").tolist(), tokenizer.decode([2, 0, 1])
        ([2, 0, 1], 'cab')
    """

    unit = "char"

    def __init__(self, alphabet: str) -> None:
        self._code_points = np.unique(_code_points(alphabet))
        if len(self._code_points) == 0:
            raise DataError("A tokeniser of characters needs a text with at least one.")

    @staticmethod
    def learn(texts: Iterable[str]) -> "CharTokenizer":
        """The tokeniser of the characters that occur in texts, of which one is held at a time."""
        points = np.zeros(0, np.uint32)
        for text in texts:
            points = np.union1d(points, _code_points(text))
        return CharTokenizer(_text(points))

    @property
    def alphabet(self) -> str:
        """The characters in order of their tokens."""
        return _text(self._code_points)

    @property
    def vocab_size(self) -> int:
        return len(self._code_points)

    def encode(self, text: str) -> Tensor:
        """Token numbers, int64 [T].

        Raises:
            DataError: characters outside the alphabet; the message names them and where the first one stands.
        """
        points = _code_points(text)
        tokens = np.searchsorted(self._code_points, points).clip(max=self.vocab_size - 1)
        if len(wrong := np.flatnonzero(self._code_points[tokens] != points)):
            unknown = [f"{chr(p)!r} (U+{p:04X})" for p in np.unique(points[wrong]).tolist()]
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise DataError(
                f"Characters that the tokeniser's {self.vocab_size} do not have: {', '.join(unknown[:5])}{more}; "
                f"the first stands at position {wrong[0]}."
            )
        return torch.from_numpy(tokens.astype(np.int64))

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        return _text(self._code_points[_numbers(tokens, self.vocab_size)])

    def state(self) -> dict[str, Any]:
        return {"kind": "chars", "alphabet": self.alphabet}


class ByteTokenizer:
    """One token a byte of the text's UTF-8: 256 tokens, every text can be encoded.

    Decoding shows bytes that are no UTF-8 as the replacement character.

    Example:
        >>> ByteTokenizer().encode("é").tolist()
        [195, 169]
    """

    unit = "byte"
    vocab_size = 256

    def encode(self, text: str) -> Tensor:
        """Token numbers, int64 [T]."""
        return torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64))

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        return _numbers(tokens, self.vocab_size).astype(np.uint8).tobytes().decode(errors="replace")

    def state(self) -> dict[str, Any]:
        return {"kind": "bytes"}


# Scripts without blanks between words (kana, Chinese characters): every character is a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = rf"[^\W{_UNSPACED}]"
_WORDS = re.compile(rf"{_WORD}+(?:['\u2019-]{_WORD}+)*|[{_UNSPACED}]|[^\w\s]")


def split_words(text: str, lowercase: bool = True) -> list[str]:
    """Words, with hyphens and apostrophes inside them, and every other sign on its own.

    Args:
        text: in any Unicode form; composed and decomposed letters give the same words.
        lowercase: whether upper and lower case are the same.

    Example:
        >>> split_words("It isn't well-made!")
        ['it', "isn't", 'well-made', '!']
    """
    text = unicodedata.normalize("NFC", text)
    return _WORDS.findall(text.lower() if lowercase else text)


_UNKNOWN = "<unk>"
_SPACED = re.compile(r"\n|\S+")  # words between blanks, and line ends


class WordTokenizer:
    """One token a word of a fixed list. Token 0 fills up, token 1 stands for every other word.

    Args:
        words: in order of their tokens from 2.
        lowercase: whether texts are made lower case first.

    Raises:
        DataError: a word stands twice in the list.

    Example:
        >>> tokenizer = WordTokenizer.learn(["good film", "good !"])
        >>> tokenizer.encode("A good film").tolist()
        [1, 2, 4]
    """

    unit = "word"
    filling, unknown, first = 0, 1, 2

    def __init__(self, words: Sequence[str], lowercase: bool = True) -> None:
        self.words, self.lowercase = list(words), lowercase
        self._tokens = {word: token for token, word in enumerate(self.words, self.first)}
        if len(self._tokens) != len(self.words):
            raise DataError("A tokeniser's list of words names a word twice.")

    @staticmethod
    def learn(
        texts: Iterable[str], *, most: int | None = None, min_count: int = 1, lowercase: bool = True
    ) -> "WordTokenizer":
        """The tokeniser of the words that occur in texts, commonest first, equally common ones in order of code point.

        Args:
            most: the longest list; None keeps all.
            min_count: rarer words are left out.
        """
        counts = Counter(word for text in texts for word in split_words(text, lowercase))
        ranked = sorted(
            (word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word)
        )
        return WordTokenizer(ranked[:most], lowercase)

    @property
    def vocab_size(self) -> int:
        return self.first + len(self.words)

    def encode(self, text: str) -> Tensor:
        """Token numbers, int64 [T]."""
        get, unknown = self._tokens.get, self.unknown
        return torch.tensor([get(word, unknown) for word in split_words(text, self.lowercase)], dtype=torch.int64)

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The words with blanks between; other words are shown as <unknown>, filling not at all."""
        shown = _numbers(tokens, self.vocab_size).tolist()
        words = ("<unknown>" if t == self.unknown else self.words[t - self.first] for t in shown if t != self.filling)
        return " ".join(words)

    def state(self) -> dict[str, Any]:
        return {"kind": "words", "words": self.words, "lowercase": self.lowercase}


class SpacedTokenizer:
    """One token a word as blanks separate them, and one a line end, which is the list's word "\\n". Token 0 stands for
    every other word and for `<unk>`.

    Args:
        words: in order of their tokens from 1.

    Raises:
        DataError: a word stands twice in the list.

    Example:
        >>> tokenizer = SpacedTokenizer.learn(["to be or\\nnot to be\\n"])
        >>> tokenizer.encode("to see\\n").tolist(), tokenizer.decode([3, 0, 1])
        ([3, 0, 1], 'to <unk>\\n')
    """

    unit = "word"
    unknown, first = 0, 1

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._tokens = {word: token for token, word in enumerate(self.words, self.first)}
        if len(self._tokens) != len(self.words):
            raise DataError("A tokeniser's list of words names a word twice.")

    @staticmethod
    def learn(texts: Iterable[str], *, min_count: int = 1) -> "SpacedTokenizer":
        """The tokeniser of the words that occur in texts, commonest first, equally common ones in order of code point.

        Args:
            min_count: rarer words are left out, but for the line end, which stands between texts.
        """
        counts = Counter(word for text in texts for word in _SPACED.findall(text))
        counts.pop(_UNKNOWN, None)
        kept = {"\n", *(word for word, count in counts.items() if count >= min_count)}
        ranked = sorted(kept, key=lambda word: (-counts[word], word))
        return SpacedTokenizer(ranked)

    @property
    def vocab_size(self) -> int:
        return self.first + len(self.words)

    def encode(self, text: str) -> Tensor:
        """Token numbers, int64 [T]."""
        get, unknown = self._tokens.get, self.unknown
        return torch.tensor([get(word, unknown) for word in _SPACED.findall(text)], dtype=torch.int64)

    def decode(self, tokens: Tensor | Iterable[int]) -> str:
        """The words with blanks between, line ends as they are; other words are shown as <unk>."""
        shown = _numbers(tokens, self.vocab_size).tolist()
        text = " ".join(_UNKNOWN if t == self.unknown else self.words[t - self.first] for t in shown)
        return text.replace(" \n ", "\n").replace(" \n", "\n").replace("\n ", "\n")

    def state(self) -> dict[str, Any]:
        return {"kind": "spaced", "words": self.words}


def tokenizer_from(state: dict[str, Any]) -> Tokenizer:
    """The tokeniser whose `state()` it was.

    Raises:
        CheckpointError: it is none.
    """
    kind = state.get("kind")
    if kind == "bytes":
        return ByteTokenizer()
    if kind == "chars" and isinstance(state.get("alphabet"), str):
        return CharTokenizer(state["alphabet"])
    if kind == "words" and isinstance(state.get("words"), list) and isinstance(state.get("lowercase"), bool):
        return WordTokenizer(state["words"], state["lowercase"])
    if kind == "spaced" and isinstance(state.get("words"), list):
        return SpacedTokenizer(state["words"])
    if kind == "subword":
        from layerwise.data.subword import SubwordTokenizer

        return SubwordTokenizer.from_state(state)
    if kind == "marian":
        from layerwise.data.marian import MarianTokenizer

        return MarianTokenizer.from_state(state)
    raise CheckpointError(
        f"This is not a tokeniser's state: kind={kind!r}, known kinds are 'chars' (with its alphabet), 'words' and "
        f"'spaced' (with their words), 'bytes', 'subword' (with its definition) and 'marian'."
    )


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokeniser as JSON."""
    path.write_text(json.dumps(tokenizer.state(), ensure_ascii=False), encoding="utf-8")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read what `save_tokenizer` wrote.

    Raises:
        CheckpointError: missing, damaged, or not a tokeniser.
    """
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a tokeniser: {error}.") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a tokeniser: it should hold a mapping with 'kind'.")
    return tokenizer_from(state)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def _text(code_points: np.ndarray) -> str:
    return code_points.astype("<u4").tobytes().decode("utf-32-le")


def _numbers(tokens: Tensor | Iterable[int], vocab_size: int) -> np.ndarray:
    values = tokens.cpu().numpy() if isinstance(tokens, Tensor) else np.asarray(list(tokens), dtype=np.int64)
    if len(values) and not 0 <= values.min() <= values.max() < vocab_size:
        raise DataError(
            f"token {values.min() if values.min() < 0 else values.max()} is not among the tokeniser's {vocab_size}"
        )
    return values
