"""Work on the tokens of a batch alone, not on what fills up its shorter texts.

Whatever acts on each token by itself (linear layers, norms, feed-forward parts) is given the tokens as rows [N, D];
only attention needs to know which belong together. Zeng et al. 2022, "Boosting distributed training performance of the
unpadded BERT model" (arXiv:2208.08124).

Shapes: B texts, T tokens of the longest, N tokens in all, D width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TokenRows:
    """Where the tokens of a batch stand.

    Args:
        shape: (B, T).
        mask: True where there is a token; None: everywhere.
        index: int64 [N], places of tokens among the B * T; None: everywhere.

    Example:
        >>> rows = TokenRows.of(torch.tensor([[True, True], [True, False]]))
        >>> rows.spread(rows.gather(torch.tensor([[[1.0], [2.0]], [[3.0], [9.0]]]))).flatten().tolist()
        [1.0, 2.0, 3.0, 0.0]
    """

    shape: tuple[int, int]
    mask: Bool[Tensor, "B T"] | None
    index: Tensor | None

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
