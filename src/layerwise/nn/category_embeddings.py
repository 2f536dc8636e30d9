"""A learned vector for every value of each category column (Guo and Berkhahn 2016, https://arxiv.org/abs/1604.06737)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class CategoryEmbeddings(nn.ModuleList):
    """Columns' vectors side by side: `[E_1[c_1]; ...; E_G[c_G]]`. One `nn.Embedding` a column.

    Args:
        sizes: values of each column.
        width: of every vector; None takes min(50, half its column's size rounded up).

    Shape:
        categories [B, G] -> [B, D] with D = `out_features`, also for G = 0.
    """

    def __init__(self, sizes: Sequence[int], width: int | None) -> None:
        widths = [width or min(50, (size + 1) // 2) for size in sizes]
        super().__init__(nn.Embedding(size, width) for size, width in zip(sizes, widths, strict=True))
        self.out_features = sum(widths)

    def forward(self, categories: Int[Tensor, "B G"]) -> Float[Tensor, "B D"]:
        if not len(self):
            return torch.zeros(len(categories), 0, device=categories.device)
        return torch.cat([embed(column) for embed, column in zip(self, categories.unbind(1), strict=True)], dim=1)
