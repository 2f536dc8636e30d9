"""Documents as tokens, behind one another: made once of texts, in memory, or on disk for those that lie there."""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.disk_cache import cache_key, kept
from layerwise.data.examples import Batch, Examples, Subset
from layerwise.data.packing import TokenStore
from layerwise.data.subword import SubwordTokenizer
from layerwise.data.text_store import PIECE_BYTES, TextStore
from layerwise.data.tokenizers import Tokenizer
from layerwise.ops.linear_cross_entropy import IGNORED

_TOKENS, _OFFSETS = "tokens.bin", "offsets.npy"
_FORMAT = 1  # of what is kept on disk
_TOGETHER = 512  # texts that a tokeniser of subwords is given at once


class StoredTokens:
    """Documents' tokens, in memory or mapped from disk.

    Args:
        tokens: integers [N].
        offsets: int64 [documents + 1], where each begins; the last is N.
        digest: a hash of both.
    """

    def __init__(self, tokens: NDArray[np.integer], offsets: NDArray[np.int64], digest: str) -> None:
        self.tokens, self.offsets, self._digest = tokens, offsets, digest

    @property
    def mapped(self) -> bool:
        """Whether the tokens lie on disk."""
        return isinstance(self.tokens, np.memmap)

    def length(self, chosen: Tensor | None) -> int:
        """Tokens of the chosen documents; None: of all."""
        if chosen is None:
            return int(self.offsets[-1])
        return int(sum(self.offsets[chosen.numpy() + 1] - self.offsets[chosen.numpy()]))

    def count(self, token: int, chosen: Tensor | None) -> int:
        """How often a token stands in the chosen documents; None: in all."""
        numbers = range(len(self.offsets) - 1) if chosen is None else chosen.tolist()
        bounds = ((int(self.offsets[i]), int(self.offsets[i + 1])) for i in numbers)
        places = ((at, min(at + PIECE_BYTES, end)) for start, end in bounds for at in range(start, end, PIECE_BYTES))
        return sum(int(np.count_nonzero(self.tokens[start:end] == token)) for start, end in places)

    def joined(self, chosen: Tensor | None) -> NDArray[np.int32]:
        """The tokens of the chosen documents behind one another; None: of all."""
        if chosen is None:
            return self.tokens.astype(np.int32)
        begins, ends = self.offsets[chosen.numpy()].tolist(), self.offsets[chosen.numpy() + 1].tolist()
        parts = [self.tokens[begin:end] for begin, end in zip(begins, ends, strict=True)]
        return np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)

    def fingerprint(self) -> str:
        return self._digest


def chosen_texts(examples: Examples) -> tuple[Sequence[str], Tensor | None] | None:
    """The texts that examples are drawn from, and which of them (int64, None: all); None where they are no texts."""
    chosen: Tensor | None = None
    while isinstance(examples, Subset):
        chosen = examples.indices if chosen is None else examples.indices[chosen]
        examples = examples.parent
    return None if examples.texts is None else (examples.texts, chosen)


def all_pieces(texts: Sequence[str], chosen: Tensor | None = None, most: int | None = None) -> Iterator[str]:
    """Texts, the long ones in pieces.

    Args:
        chosen: those that are taken, int64; None takes all.
        most: about so many characters at most, of texts and pieces spread evenly.
    """
    numbers = range(len(texts)) if chosen is None else chosen.tolist()
    if not isinstance(texts, TextStore):
        share = 1.0 if most is None else most / max(1, sum(len(texts[i]) for i in numbers))
        pieces = (texts[i] for i in numbers)
    else:
        share = 1.0 if most is None else most / max(1, int(texts.lengths[np.fromiter(numbers, np.int64)].sum()))
        pieces = (piece for i in numbers for piece in texts.pieces(i))
    taken = 0.0
    for piece in pieces:
        taken += min(share, 1.0)
        if taken >= 1.0:
            taken -= 1.0
            yield piece


def tokenised(texts: Sequence[str], tokenizer: Tokenizer, *, framed: bool = False) -> StoredTokens:
    """The tokens of texts. Of a `TextStore` on disk they are kept beside it, and made once for every tokeniser.

    A document ends with the tokeniser's token for that; where it has none and there are several documents, with a line
    feed.

    Args:
        framed: documents also begin with what they end with, so that their first token is learned although nothing
            stands before them.
    """
    narrow = _narrow(tokenizer.vocab_size)
    if not isinstance(texts, TextStore) or texts.cache is None:
        held = bytearray()
        offsets, digest = _write(texts, tokenizer, framed, held.extend)
        return StoredTokens(np.frombuffer(held, narrow), offsets, digest)

    def make(folder: Path) -> dict[str, Any]:
        with open(folder / _TOKENS, "wb") as out:
            offsets, digest = _write(texts, tokenizer, framed, out.write)
        np.save(folder / _OFFSETS, offsets)
        return {"digest": digest, "dtype": np.dtype(narrow).name}

    key = cache_key(_FORMAT, texts.digest, tokenizer.state(), framed)
    folder, known = kept(str(texts.cache), "tokens", key, make)
    tokens = np.memmap(folder / _TOKENS, np.dtype(known["dtype"]), "r")
    return StoredTokens(tokens, np.load(folder / _OFFSETS, mmap_mode="r"), known["digest"])


def _narrow(vocab_size: int) -> type[np.integer]:
    """The smallest type that holds every token, of those that torch reads."""
    return np.uint8 if vocab_size <= 1 << 8 else np.uint16 if vocab_size <= 1 << 16 else np.int32


def _write(texts: Sequence[str], tokenizer: Tokenizer, framed: bool, out: Any) -> tuple[NDArray[np.int64], str]:
    """Give the tokens of texts to `out`, a few texts or a piece of one at a time; offsets and digest of them."""
    narrow = _narrow(tokenizer.vocab_size)
    offsets, total, digest = array("q", [0]), 0, hashlib.sha256(np.dtype(narrow).name.encode())
    for ends, tokens in _encoded(texts, tokenizer, framed):
        raw = tokens.numpy().astype(narrow).tobytes()
        out(raw)
        digest.update(raw)
        total += len(tokens)
        if ends:
            offsets.append(total)
    made = np.frombuffer(offsets, np.int64)
    digest.update(made.tobytes())
    return made, digest.hexdigest()[:32]


class _Piece(NamedTuple):
    """Part of a document.

    Args:
        first, last: whether the document begins and ends with it.
    """

    first: bool
    last: bool
    text: str


def _encoded(texts: Sequence[str], tokenizer: Tokenizer, framed: bool) -> Iterator[tuple[bool, Tensor]]:
    """(whether a document ends here, tokens) for each piece of each document, in order."""
    several = len(texts) > 1
    if not isinstance(tokenizer, SubwordTokenizer):
        line_feed = "\n" if several and knows_line_feed(tokenizer) else ""
        for piece in _pieces(texts, line_feed):
            begin = line_feed if framed and piece.first else ""
            yield piece.last, tokenizer.encode(begin + piece.text)
        return
    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    line_feed = "\n" if several and not end else ""
    held: list[_Piece] = []
    size = 0
    for piece in _pieces(texts, line_feed):
        held.append(piece if not framed or not piece.first else piece._replace(text=line_feed + piece.text))
        size += len(piece.text)
        if size >= PIECE_BYTES or len(held) >= _TOGETHER:
            yield from _batch(held, tokenizer, end if framed else [], end)
            held, size = [], 0
    yield from _batch(held, tokenizer, end if framed else [], end)


def _batch(
    pieces: Sequence[_Piece], tokenizer: SubwordTokenizer, begin: list[int], end: list[int]
) -> Iterator[tuple[bool, Tensor]]:
    found = tokenizer.encode_batch([piece.text for piece in pieces], special=False)
    before, after = (torch.tensor(special, dtype=torch.int64) for special in (begin, end))
    for piece, tokens in zip(pieces, found, strict=True):
        parts = [*([before] if piece.first else []), tokens, *([after] if piece.last else [])]
        yield piece.last, torch.cat(parts)


def _pieces(texts: Sequence[str], line_feed: str) -> Iterator[_Piece]:
    """Documents, the long ones in pieces; each ends with `line_feed`."""
    for number in range(len(texts)):
        pieces = texts.pieces(number) if isinstance(texts, TextStore) else iter((texts[number],))
        first, held = True, next(pieces, "")
        for piece in pieces:
            yield _Piece(first, False, held)
            first, held = False, piece
        yield _Piece(first, True, held if held.endswith(line_feed) else held + line_feed)


def knows_line_feed(tokenizer: Tokenizer) -> bool:
    """Whether a tokeniser can encode a line feed."""
    try:
        return len(tokenizer.encode("\n")) > 0
    except DataError:
        return False


class StoredWindows(Examples):
    """Windows of documents behind one another, read where they lie: as `TokenWindows` of the tokens of all of them.

    Args:
        store: the documents.
        seq_len: T.
        stride: from one window's start to the next; None means T.
        chosen: documents that are taken, int64, ascending; None takes all.

    Raises:
        DataError: fewer than two tokens.
    """

    decodes = True  # pages of the file may have to be read

    def __init__(
        self, store: TokenStore, seq_len: int, stride: int | None = None, *, chosen: Tensor | None = None
    ) -> None:
        self.store, self.seq_len, self.stride, self._chosen = store, seq_len, stride or seq_len, chosen
        self.consecutive = self.stride == seq_len
        numbers = np.arange(len(store.offsets) - 1) if chosen is None else chosen.numpy()
        self._begins = np.asarray(store.offsets)[numbers]
        lengths = np.asarray(store.offsets)[numbers + 1] - self._begins
        self._ends = lengths.cumsum()  # of each document among the chosen ones behind one another
        self.length = int(self._ends[-1]) if len(self._ends) else 0
        if self.length < 2:
            raise DataError(f"a text of {self.length} tokens has no next token to learn")
        self._count = 1 + max(0, -(-(self.length - 1 - seq_len) // self.stride))

    def __len__(self) -> int:
        return self._count

    def collate(self, indices: Tensor) -> Batch:
        window = np.zeros((len(indices), self.seq_len + 1), np.int64)
        starts = indices * self.stride
        for row, start in zip(window, starts.tolist(), strict=True):
            self._read(row, start)
        labels = torch.from_numpy(window[:, 1:].copy())
        labels.masked_fill_(starts[:, None] + torch.arange(1, self.seq_len + 1) >= self.length, IGNORED)
        return {"tokens": torch.from_numpy(window[:, :-1].copy()), "labels": labels, "sample_ids": starts}

    def _read(self, row: NDArray[np.int64], start: int) -> None:
        """Fill a row with the tokens from `start` on, as far as there are any."""
        at = 0
        document = int(np.searchsorted(self._ends, start, side="right"))
        while at < len(row) and document < len(self._ends):
            left = int(self._ends[document]) - (start + at)
            length = int(self._ends[document] - (self._ends[document - 1] if document else 0))
            first = int(self._begins[document]) + length - left
            taken = min(left, len(row) - at)
            row[at : at + taken] = self.store.tokens[first : first + taken]
            at, document = at + taken, document + 1

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.seq_len} {self.stride} {self.store.fingerprint()}".encode())
        digest.update(b"" if self._chosen is None else self._chosen.numpy().tobytes())
        return digest.hexdigest()[:32]
