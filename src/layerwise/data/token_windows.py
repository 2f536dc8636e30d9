"""A text of tokens as windows of one length, for language models."""

import hashlib

import torch
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.examples import Batch, Examples
from layerwise.ops.linear_cross_entropy import IGNORED


class TokenWindows(Examples):
    """Windows of a token sequence: `tokens` [B, T] and `labels` [B, T], the token after each.

    A sample's id is the position of its first token. The last window may reach past the end: it is filled up with token
    0, and labels there
    are `IGNORED`.

    Args:
        tokens: integers [N].
        seq_len: T.
        stride: from one window's start to the next; None means T, and every token but the first is a target exactly
            once.

    Raises:
        DataError: fewer than two tokens.

    Example:
        >>> windows = TokenWindows(torch.arange(8), seq_len=3)
        >>> windows.collate(torch.tensor([0, 2]))["labels"].tolist()
        [[1, 2, 3], [7, -100, -100]]
    """

    def __init__(self, tokens: Tensor, seq_len: int, stride: int | None = None) -> None:
        if len(tokens) < 2:
            raise DataError(f"a text of {len(tokens)} tokens has no next token to learn")
        self.seq_len, self.stride, self.length = seq_len, stride or seq_len, len(tokens)
        self.consecutive = self.stride == seq_len
        self._count = 1 + max(0, -(-(self.length - 1 - seq_len) // self.stride))
        filled = (self._count - 1) * self.stride + seq_len + 1
        narrow = torch.uint8 if int(tokens.max()) < 256 else torch.int32
        self.tokens = torch.zeros(filled, dtype=narrow)
        self.tokens[: self.length] = tokens
        self._windows = self.tokens.unfold(0, seq_len + 1, self.stride)  # a view [count, T + 1]

    def __len__(self) -> int:
        return self._count

    def collate(self, indices: Tensor) -> Batch:
        window = self._windows.index_select(0, indices).long()
        starts = indices * self.stride
        labels = window[:, 1:].clone()  # of one row even contiguous() is a view, and labels are written to
        if len(indices) and int(starts.max()) + self.seq_len >= self.length:
            beyond = starts[:, None] + torch.arange(1, self.seq_len + 1) >= self.length
            labels.masked_fill_(beyond, IGNORED)
        return {"tokens": window[:, :-1].contiguous(), "labels": labels, "sample_ids": starts}

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.length} {self.seq_len} {self.stride} {self.tokens.dtype}".encode())
        digest.update(self.tokens.numpy().data)
        return digest.hexdigest()[:32]
