"""Documents of mixed lengths in rows of one length, with little left over and none of them mixed with another.

Which lengths share a row is decided once, by best fit with the longest first; which documents of a length stand where
is drawn anew for every pass. So every pass has the same number of rows, and a row is a pure function of (seed, epoch,
number). Krell et al. 2021 (arXiv:2107.02027) pack the histogram of lengths likewise.

Shapes: B rows, T tokens a row.
"""

import bisect
import copy
import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.examples import Batch, Examples
from layerwise.ops.linear_cross_entropy import IGNORED
from layerwise.ops.packed_attention import FILLING
from layerwise.ops.random import permutation


@dataclass(frozen=True)
class Rows:
    """Lists of places behind one another: row r is `places[starts[r] : starts[r + 1]]`."""

    places: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def row(self, number: int) -> list[int]:
        """The places of one row, ascending."""
        return self.places[self.starts[number] : self.starts[number + 1]].tolist()


def best_fit(lengths: Iterable[int], row_len: int) -> Rows:
    """Positions in `lengths` as rows: each goes where it leaves the least room, else into a new row.

    Args:
        lengths: in descending order, each from 1 to `row_len`.
        row_len: tokens a row holds.

    Example:
        >>> rows = best_fit([6, 5, 3, 2, 2], 8)
        >>> [rows.row(number) for number in range(len(rows))]
        [[0, 3], [1, 2], [4]]
    """
    chosen, count = array("q"), 0  # the row of each position
    open_rows: dict[int, array[int]] = {}  # room left -> rows that have so much
    rooms: list[int] = []  # keys of it, ascending
    for length in lengths:
        at = bisect.bisect_left(rooms, length)
        if at < len(rooms):
            room = rooms[at]
            row = open_rows[room].pop()
            if not open_rows[room]:
                del open_rows[room], rooms[at]
        else:
            room, row = row_len, count
            count += 1
        chosen.append(row)
        if left := room - length:
            if left not in open_rows:
                open_rows[left] = array("q")
                bisect.insort(rooms, left)
            open_rows[left].append(row)
    numbers = np.frombuffer(chosen, np.int64) if chosen else np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.bincount(numbers, minlength=count).cumsum()]).astype(np.int64)
    return Rows(np.argsort(numbers, kind="stable"), starts)


def _longest_first(lengths: NDArray[np.integer], order: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    """Pieces by falling length, which is `most` at most; equal ones in the order given."""
    return order[np.argsort(most - lengths[order], kind="stable")]


class TokenStore(Protocol):
    """Documents as tokens behind one another, in memory or mapped from disk."""

    tokens: NDArray[np.integer]  # [N]
    offsets: NDArray[np.int64]  # [documents + 1], where each begins; the last is N

    def fingerprint(self) -> str:
        """A hash of tokens and offsets."""
        ...


class MemoryTokens:
    """Documents' tokens in memory.

    Args:
        documents: tokens of each, int64 [T_i].
    """

    def __init__(self, documents: Sequence[Tensor]) -> None:
        lengths = np.array([len(each) for each in documents], dtype=np.int64)
        self.offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
        self.tokens = np.concatenate([each.numpy() for each in documents] or [np.zeros(0, np.int64)])

    def fingerprint(self) -> str:
        return hashlib.sha256(self.offsets.tobytes() + self.tokens.astype(np.int64).tobytes()).hexdigest()[:32]


class PackedDocuments(Examples):
    """Rows of packed documents: `tokens` [B, T], `documents` [B, T] and, for language models, `labels` [B, T].

    `documents` numbers those of a row; `FILLING` stands where a row is filled up. A document longer than T is cut into
    pieces, each a document of its own. A label is the token that follows in the same document, also across a cut;
    `IGNORED` at a document's end and in filling.

    Args:
        store: the documents.
        seq_len: T.
        filling: token that stands where a row is filled up.
        next_token: whether rows have `labels`.
        chosen: documents that are taken, int64, ascending; None takes all.

    Raises:
        DataError: no document has a token (with `next_token`, two).
    """

    def __init__(
        self,
        store: TokenStore,
        seq_len: int,
        *,
        filling: int = 0,
        next_token: bool = True,
        chosen: Tensor | None = None,
    ) -> None:
        self.store, self.seq_len, self.filling, self.next_token = store, seq_len, filling, next_token
        self.decodes = isinstance(store.tokens, np.memmap)  # pages of the file may have to be read
        numbers = np.arange(len(store.offsets) - 1) if chosen is None else chosen.numpy()
        begins, ends = store.offsets[numbers], store.offsets[numbers + 1]
        # A document's last token has no successor: a piece of it alone would teach a language model nothing.
        counts = np.maximum(ends - begins - int(next_token), 0)
        pieces = -(-counts // seq_len)
        first = np.repeat(pieces.cumsum() - pieces, pieces)  # number of its document's first piece
        self._starts = np.repeat(begins, pieces) + (np.arange(len(first)) - first) * seq_len
        left = np.repeat(ends, pieces) - self._starts  # tokens of the document from here on
        self._lengths = np.minimum(left, seq_len).astype(np.uint16 if seq_len < 1 << 16 else np.int32)
        self._goes_on = left > seq_len  # whether a token of the same document follows
        del first, left
        if not len(self._lengths):
            raise DataError(f"No document has {1 + int(next_token)} tokens: there is nothing to learn from.")
        # Longest first; among equals a stable order, which a pass replaces by one of its own. Place -> piece.
        self._order = _longest_first(self._lengths, np.arange(len(self._lengths), dtype=np.int32), seq_len)
        self._whole = int((self._lengths == seq_len).sum())  # pieces that fill a row; the others are packed behind them
        self._shared = best_fit(map(int, self._lengths[self._order[self._whole :]]), seq_len)
        self._chosen = chosen

    def __len__(self) -> int:
        return self._whole + len(self._shared)

    def _places(self, row: int) -> list[int]:
        """Which places of the order a row holds."""
        return [row] if row < self._whole else [self._whole + place for place in self._shared.row(row - self._whole)]

    @property
    def fill(self) -> float:
        """Share of all rows that documents fill."""
        return float(self._lengths.sum()) / (len(self) * self.seq_len)

    def at_epoch(self, seed: int, epoch: int) -> "PackedDocuments":
        drawn = permutation(len(self._lengths), seed, "packing", epoch).numpy().astype(np.int32)
        other = copy.copy(self)
        other._order = _longest_first(self._lengths, drawn, self.seq_len)
        return other

    def collate(self, indices: Tensor) -> Batch:
        shape = (len(indices), self.seq_len)
        tokens, documents = np.full(shape, self.filling, np.int64), np.full(shape, FILLING, np.int64)
        labels = np.full(shape, IGNORED, np.int64)
        held = self.store.tokens
        for row, number in enumerate(indices.tolist()):
            at = 0
            for document, place in enumerate(self._places(number)):
                piece = self._order[place]
                start, length = int(self._starts[piece]), int(self._lengths[piece])
                tokens[row, at : at + length] = held[start : start + length]
                documents[row, at : at + length] = document
                if self.next_token:
                    known = length if self._goes_on[piece] else length - 1
                    labels[row, at : at + known] = held[start + 1 : start + 1 + known]
                at += length
        made = {"tokens": torch.from_numpy(tokens), "documents": torch.from_numpy(documents), "sample_ids": indices}
        return made | ({"labels": torch.from_numpy(labels)} if self.next_token else {})

    def fingerprint(self) -> str:
        kind = f"{self.seq_len} {self.filling} {self.next_token} {self.store.fingerprint()}".encode()
        chosen = b"" if self._chosen is None else self._chosen.numpy().tobytes()
        return hashlib.sha256(kind + chosen).hexdigest()[:32]
