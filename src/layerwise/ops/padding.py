"""Work on the tokens of a batch alone, not on what fills up its shorter texts.

Whatever acts on each token by itself (linear layers, norms, feed-forward parts) is given the tokens as rows [N, D];
only attention needs to know which belong together. Zeng et al. 2022, "Boosting distributed training performance of the
unpadded BERT model" (arXiv:2208.08124).

Shapes: B texts, T tokens of the longest, N tokens in all, D width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from layerwise.ops.packed_attention import FILLING, document_lengths


@dataclass(frozen=True, eq=False)
class TokenRows:
    """Where the tokens of a batch stand.

    Args:
        shape: (B, T).
        mask: True where there is a token; None: everywhere.
        index: int64 [N], places of tokens among the B * T; None: everywhere.
        lengths: of the texts that lie packed behind one another in the rows; None: each row is one text.

    Example:
        >>> rows = TokenRows.of(torch.tensor([[True, True], [True, False]]))
        >>> rows.spread(rows.gather(torch.tensor([[[1.0], [2.0]], [[3.0], [9.0]]]))).flatten().tolist()
        [1.0, 2.0, 3.0, 0.0]
    """

    shape: tuple[int, int]
    mask: Bool[Tensor, "B T"] | None
    index: Tensor | None
    lengths: tuple[int, ...] | None = None

    @staticmethod
    def of(mask: Bool[Tensor, "B T"]) -> "TokenRows":
        """The rows of a batch with that mask."""
        if bool(mask.all()):
            return TokenRows.full(mask.shape[0], mask.shape[1])
        return TokenRows((mask.shape[0], mask.shape[1]), mask, torch.nonzero(mask.flatten()).flatten())

    @staticmethod
    def full(batch: int, length: int) -> "TokenRows":
        """The rows of a batch of equally long texts."""
        return TokenRows((batch, length), None, None)

    @staticmethod
    def packed(documents: Int[Tensor, "B T"]) -> "TokenRows":
        """The rows of texts packed behind one another.

        Args:
            documents: which text of its row a token is of, as for `document_lengths`; `FILLING` where there is none.
        """
        flat, every = documents.flatten(), document_lengths(documents)
        begins = torch.tensor(every, device=flat.device).cumsum(0) - torch.tensor(every, device=flat.device)
        texts = (flat[begins] != FILLING).tolist()
        lengths = tuple(length for length, text in zip(every, texts, strict=True) if text)
        shape = documents.shape[0], documents.shape[1]
        if all(texts):
            return TokenRows(shape, None, None, lengths)
        there = documents != FILLING
        return TokenRows(shape, there, torch.nonzero(there.flatten()).flatten(), lengths)

    def firsts(self, rows: Tensor) -> Tensor:
        """Of every text the first token's row, [N, ...] -> [B, ...]; of packed texts in their order."""
        if self.lengths is None:
            return self.spread(rows)[:, 0]
        lengths = torch.tensor(self.lengths, device=rows.device)
        return rows.index_select(0, lengths.cumsum(0) - lengths)

    def means(self, rows: Tensor) -> Tensor:
        """Mean of every text's rows, [N, D] -> [B, D]; 0 where a text has none."""
        if self.lengths is None:
            counts = rows.new_full((self.shape[0],), self.shape[1]) if self.mask is None else self.mask.sum(1)
            sums = self.spread(rows).sum(1)
        else:
            counts = torch.tensor(self.lengths, device=rows.device)
            owner = torch.repeat_interleave(torch.arange(len(counts), device=rows.device), counts)
            sums = rows.new_zeros(len(counts), *rows.shape[1:]).index_add(0, owner, rows)
        return sums / counts.to(rows.dtype).clamp(min=1)[:, None]

    @property
    def attend(self) -> Bool[Tensor, "B 1 1 T"] | None:
        """The mask of attention: every token may attend to all tokens of its text."""
        return None if self.mask is None else self.mask[:, None, None, :]

    def gather(self, x: Tensor) -> Tensor:
        """The tokens' rows, [B, T, ...] -> [N, ...]."""
        flat = x.flatten(0, 1)
        return flat if self.index is None else flat.index_select(0, self.index)

    def spread(self, rows: Tensor) -> Tensor:
        """The rows in their places, zeros elsewhere, [N, ...] -> [B, T, ...]."""
        if self.index is None:
            return rows.unflatten(0, self.shape)
        empty = rows.new_zeros(self.shape[0] * self.shape[1], *rows.shape[1:])
        return empty.index_copy(0, self.index, rows).unflatten(0, self.shape)
