"""The last layer of a language model whose weights are its table of tokens.

Press, Wolf 2017, "Using the output embedding to improve language models", https://arxiv.org/abs/1608.05859.

Shapes: ... any sizes, D width, V vocabulary.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class TiedOutput(nn.Module):
    """`x E^T + b`, with a table E that belongs to the embedding.

    It has no parameters: as a module of its own it can be replaced from outside, by one that keeps the table laid out
    for products.
    """

    def forward(
        self, x: Float[Tensor, "... D"], table: Float[Tensor, "V D"], bias: Tensor | None = None
    ) -> Float[Tensor, "... V"]:
        return F.linear(x, table, bias)
