"""Examples that are texts. Raw column `text`: the UTF-8 bytes, uint8 [B, L], filled up with zeros at the end;
of pairs of texts, the second ones are in the column `pair`.

Bytes are the raw form as pixels are that of pictures: a task makes its model inputs from them (tokens and a mask), the
same way in training and in prediction.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.examples import Batch, Examples
from layerwise.data.text_store import TextStore


def pack_texts(texts: Sequence[str]) -> Tensor:
    """uint8 [B, L]: the texts' UTF-8, filled up with zeros; L is the longest one's length.

    Example:
        >>> pack_texts(["né", "a"]).tolist()
        [[110, 195, 169], [97, 0, 0]]
    """
    encoded = [text.encode() for text in texts]
    longest = max(map(len, encoded), default=0)
    joined = b"".join(each.ljust(longest, b"\0") for each in encoded)
    return torch.from_numpy(np.frombuffer(joined, np.uint8).reshape(len(encoded), longest).copy())


def unpack_texts(column: Tensor) -> list[bytes]:
    """The texts' UTF-8 from what `pack_texts` gave."""
    return [row.tobytes().rstrip(b"\0") for row in column.cpu().numpy()]


class TextExamples(Examples):
    """Texts, with other columns beside them.

    Args:
        texts: one an example; a `TextStore` stays where it is, on disk or in memory.
        columns: name -> tensor [N, ...]: `labels` int64, or others.
        seconds: the second text of each example, where examples are pairs.

    Raises:
        DataError: a text has a NUL character, which would not come back.

    Example:
        >>> examples = TextExamples(["good", "bad"], {"labels": torch.tensor([1, 0])})
        >>> unpack_texts(examples.collate(torch.tensor([1]))["text"])
        [b'bad']
    """

    def __init__(
        self, texts: Sequence[str], columns: Mapping[str, Tensor], seconds: Sequence[str] | None = None
    ) -> None:
        if seconds is not None and len(seconds) != len(texts):
            raise ValueError(f"{len(texts)} texts and {len(seconds)} second texts")
        if wrong := {name: len(column) for name, column in columns.items() if len(column) != len(texts)}:
            raise ValueError(f"{len(texts)} texts and columns of other lengths: {wrong}")
        self._texts = texts if isinstance(texts, TextStore) else list(texts)
        self.columns = dict(columns)
        self._columns = {"text": _Stored(self._texts) if isinstance(self._texts, TextStore) else _Bytes(self._texts)}
        if seconds is not None:
            self._columns["pair"] = _Bytes(seconds)
        self._seconds = None if seconds is None else list(seconds)

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def texts(self) -> Sequence[str]:
        return self._texts

    @property
    def seconds(self) -> Sequence[str] | None:
        """The second text of every example, where examples are pairs."""
        return self._seconds

    def collate(self, indices: Tensor) -> Batch:
        batch = {name: held.collate(indices) for name, held in self._columns.items()}
        batch |= {name: column.index_select(0, indices) for name, column in self.columns.items()}
        return {**batch, "sample_ids": indices}

    def labels(self) -> Tensor | None:
        labels = self.columns.get("labels")
        return labels if labels is not None and labels.dim() == 1 and not labels.is_floating_point() else None

    def fingerprint(self) -> str:
        digest = hashlib.sha256(b"".join(held.raw() for held in self._columns.values()))
        for name, column in sorted(self.columns.items()):
            digest.update(f"{name}{tuple(column.shape)}{column.dtype}".encode() + column.numpy().tobytes())
        return digest.hexdigest()[:32]

    def content_keys(self) -> NDArray[np.int64]:
        """64 bits of a hash of each text, blanks at its ends and between words counted once: copies are found by it."""
        if isinstance(self._texts, TextStore) and self._seconds is None:
            return self._texts.content_keys()
        seconds = self._seconds or [""] * len(self._texts)
        joined = (" ".join(f"{a} {b}".split()) for a, b in zip(self._texts, seconds, strict=True))
        digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in joined)
        return np.frombuffer(b"".join(digests), np.int64)


class _Bytes:
    """A column of texts behind one another."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [text.encode() for text in texts]
        if any(b"\0" in each for each in encoded):
            at = next(i for i, each in enumerate(encoded) if b"\0" in each)
            raise DataError(f"Text {at} has a NUL character: the file is not plain text, or damaged.")
        self.lengths = torch.tensor([len(each) for each in encoded], dtype=torch.int64)
        self.starts = self.lengths.cumsum(0) - self.lengths
        # One more byte, so that the place of an empty text at the end is inside.
        self.bytes = torch.from_numpy(np.frombuffer(b"".join([*encoded, b"\0"]), np.uint8).copy())

    def collate(self, indices: Tensor) -> Tensor:
        lengths = self.lengths.index_select(0, indices)
        places = torch.arange(int(lengths.max()) if len(lengths) else 0)
        there = places < lengths[:, None]
        at = torch.where(there, self.starts.index_select(0, indices)[:, None] + places, 0)
        return torch.where(there, self.bytes[at], 0)

    def raw(self) -> bytes:
        return self.lengths.numpy().tobytes() + self.bytes.numpy().tobytes()


class _Stored:
    """A column of texts in a store."""

    def __init__(self, store: TextStore) -> None:
        self.store = store

    def collate(self, indices: Tensor) -> Tensor:
        rows = [self.store.raw(i) for i in indices.tolist()]
        made = np.zeros((len(rows), max(map(len, rows), default=0)), np.uint8)
        for place, row in zip(made, rows, strict=True):
            place[: len(row)] = np.frombuffer(row, np.uint8)
        return torch.from_numpy(made)

    def raw(self) -> bytes:
        return self.store.digest.encode()
