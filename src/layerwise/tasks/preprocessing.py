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
        if not image.is_contiguous() and image.is_contiguous(memory_format=torch.channels_last):
            # Along a row in memory the channels alternate: one long row of factors, a third of the time.
            count, channels, height, width = image.shape
            rows = image.permute(0, 2, 3, 1).reshape(count, height, width * channels).to(torch.float32, copy=True)
            rows.mul_(self.scale.view(-1).repeat(width)).add_(self.shift.view(-1).repeat(width))
            return rows.view(count, height, width, channels).permute(0, 3, 1, 2)
        return image.to(torch.float32, copy=True).mul_(self.scale).add_(self.shift)  # half the time of addcmul

    def config(self) -> dict[str, Any]:
        return {"type": "normalise", "mean": self.mean, "std": self.std}
