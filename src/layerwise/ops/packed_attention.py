"""Attention inside each of several documents that lie behind one another in a row: what packing needs.

A dense mask over a row of T tokens costs T * T scores, of which packing uses few, and on a CPU the masked kernel reads
them all. Here every document is attended to by itself, forward and backward, so that only its own scores are computed
(`bench/packed_attention.py` compares). Krell, Kosec, Perez, Fitzgibbon 2021, "Efficient sequence packing without
cross-contamination" (arXiv:2107.02027), section 3.2.

Shapes: B rows, T tokens, H query heads, G key and value heads, K and V their widths.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.ops.attention import attention

FILLING = -1  # number of the document that only fills a row up


def document_lengths(documents: Int[Tensor, "B T"]) -> list[int]:
    """Lengths of the documents of all rows, in order; they sum to B * T.

    Args:
        documents: a number for every token; neighbours with one number are one document, which ends with its row.

    Example:
        >>> document_lengths(torch.tensor([[0, 0, 1, 1], [1, 2, 2, 2]]))
        [2, 2, 1, 3]
    """
    starts = torch.nonzero(_begins(documents).flatten()).flatten()
    return starts.diff(append=starts.new_tensor([documents.numel()])).tolist()


def document_positions(documents: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Position of every token in its own document.

    Example:
        >>> document_positions(torch.tensor([[4, 4, 4, 7, 7]])).tolist()
        [[0, 1, 2, 0, 1]]
    """
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    return places - torch.where(_begins(documents), places, 0).cummax(dim=1).values


def _begins(documents: Tensor) -> Tensor:
    """True where a document begins, [B, T]."""
    return documents.diff(dim=1, prepend=documents[:, :1] - 1) != 0


def packed_attention(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G T K"],
    v: Float[Tensor, "B G T V"],
    lengths: Sequence[int],
    *,
    bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T V"]:
    """`attention` of each document to itself alone: exactly what the documents would give one by one.

    Args:
        q, k, v: as for `attention`.
        lengths: of the documents of all rows, from `document_lengths`: no document crosses a row's end.
        bias: as for `attention`, of the first positions of a document: [.., L, L], L at least the longest one's.
        causal, window, scale, dropout: as for `attention`.

    Raises:
        ConfigError: the lengths do not sum to the tokens, or the bias is too small.

    Example:
        >>> x = torch.randn(1, 1, 4, 2)
        >>> torch.equal(packed_attention(x, x, x, [1, 3])[:, :, :1], x[:, :, :1])
        True
    """
    batch, _, length, _ = q.shape
    if sum(lengths) != batch * length:
        raise ConfigError(f"the documents have {sum(lengths)} tokens, the {batch} rows of {length} {batch * length}")
    if bias is not None and min(bias.shape[-2:]) < max(lengths):
        raise ConfigError(
            f"a bias of shape {tuple(bias.shape)} does not reach over a document of {max(lengths)} tokens"
        )
    parts = [_one_row(x).split(list(lengths), dim=2) for x in (q, k, v)]
    mixed = [
        attention(
            *one,
            bias=None if bias is None else bias[..., : one[0].shape[2], : one[0].shape[2]],
            causal=causal,
            window=window,
            scale=scale,
            dropout=dropout,
        )
        for one in zip(*parts, strict=True)
    ]
    # Joined with the tokens outside and the heads inside, as the projection behind takes them: a view, no copy.
    joined = torch.cat([each.transpose(1, 2) for each in mixed], dim=1)
    return joined.unflatten(1, (batch, length)).squeeze(0).transpose(1, 2)


def _one_row(x: Tensor) -> Tensor:
    """[B, H, T, K] -> [1, H, B * T, K], a view of what `split_heads` gave."""
    return x.transpose(1, 2).flatten(0, 1).transpose(0, 1)[None]
