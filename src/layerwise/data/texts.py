"""Examples that are texts. Raw column `text`: the UTF-8 bytes, uint8 [B, L], filled up with zeros at the end.

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
    """Texts in memory, with other columns beside them.

    Args:
        texts: one an example.
        columns: name -> tensor [N, ...]: `labels` int64, or others.

    Raises:
        DataError: a text has a NUL character, which would not come back.

    Example:
        >>> examples = TextExamples(["good", "bad"], {"labels": torch.tensor([1, 0])})
        >>> unpack_texts(examples.collate(torch.tensor([1]))["text"])
        [b'bad']
    """

    def __init__(self, texts: Sequence[str], columns: Mapping[str, Tensor]) -> None:
        if wrong := {name: len(column) for name, column in columns.items() if len(column) != len(texts)}:
            raise ValueError(f"{len(texts)} texts and columns of other lengths: {wrong}")
        self._texts, self.columns = list(texts), dict(columns)
        encoded = [text.encode() for text in self._texts]
        if any(b"\0" in each for each in encoded):
            at = next(i for i, each in enumerate(encoded) if b"\0" in each)
            raise DataError(f"Text {at} has a NUL character: the file is not plain text, or damaged.")
        self._lengths = torch.tensor([len(each) for each in encoded], dtype=torch.int64)
        self._starts = self._lengths.cumsum(0) - self._lengths
        # One more byte, so that the place of an empty text at the end is inside.
        self._bytes = torch.from_numpy(np.frombuffer(b"".join([*encoded, b"\0"]), np.uint8).copy())

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def texts(self) -> Sequence[str]:
        return self._texts

    def collate(self, indices: Tensor) -> Batch:
        lengths = self._lengths.index_select(0, indices)
        places = torch.arange(int(lengths.max()) if len(lengths) else 0)
        there = places < lengths[:, None]
        at = torch.where(there, self._starts.index_select(0, indices)[:, None] + places, 0)
        batch = {"text": torch.where(there, self._bytes[at], 0)}
        batch |= {name: column.index_select(0, indices) for name, column in self.columns.items()}
        return {**batch, "sample_ids": indices}

    def labels(self) -> Tensor | None:
        labels = self.columns.get("labels")
        return labels if labels is not None and labels.dim() == 1 and not labels.is_floating_point() else None

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._lengths.numpy().tobytes() + self._bytes.numpy().tobytes())
        for name, column in sorted(self.columns.items()):
            digest.update(f"{name}{tuple(column.shape)}{column.dtype}".encode() + column.numpy().tobytes())
        return digest.hexdigest()[:32]

    def content_keys(self) -> NDArray[np.int64]:
        """64 bits of a hash of each text, blanks at its ends and between words counted once: copies are found by it."""
        digests = (hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest() for text in self._texts)
        return np.frombuffer(b"".join(digests), np.int64)
