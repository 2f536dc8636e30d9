"""Two random views of every picture, for contrastive learning, made on the whole batch at once.

The recipe of T. Chen et al., "A simple framework for contrastive learning of visual representations", 2020, appendix A,
https://arxiv.org/abs/2002.05709: random resized crop, flip, brightness and contrast, blur. Each view of each sample has
draws of its own, hashed from the sample id.

Shapes: B batch, C channels, H W height and width.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.config import Fraction, PositiveFloat, Range
from layerwise.core.errors import ConfigError, DataError
from layerwise.ops.random import Draws

_BLUR_RADIUS = 2  # pixels; with the default sigmas 95 % of the kernel's weight lies within


@dataclass(frozen=True, kw_only=True)
class TwoViewsConfig:
    """How far views may differ.

    Args:
        scale: least and largest share of the picture's area that a crop has.
        ratio: least and largest ratio of a crop's width to its height, relative to the picture's.
        flip: probability of mirroring left and right.
        brightness: the view is multiplied by 1 - brightness to 1 + brightness.
        contrast: differences from the view's mean are multiplied by 1 - contrast to 1 + contrast.
        blur: probability of a Gaussian blur.
        sigma: least and largest width of the blur in pixels.
    """

    scale: tuple[PositiveFloat, PositiveFloat] = (0.3, 1.0)
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 4 / 3)
    flip: Fraction = 0.5
    brightness: Fraction = 0.4
    contrast: Fraction = 0.4
    blur: Fraction = 0.0
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.3, 1.0)

    def __post_init__(self) -> None:
        for name in ("scale", "ratio", "sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ConfigError(f"{name}={(low, high)}: the first number must not be above the second.")
        if not Range(0, 1).holds(self.scale[1]):
            raise ConfigError(f"scale={self.scale}: a crop has at most the whole area, 1.")


class TwoViews:
    """Puts one view under `image` and another one under `image_2`; the picture itself is replaced.

    Shape:
        `image`: uint8 [B, C, H, W] -> `image`, `image_2`: uint8 [B, C, H, W].
    """

    def __init__(self, config: TwoViewsConfig) -> None:
        self.config = config

    def __call__(self, batch: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        if "image" not in batch:
            raise DataError(f"augment=two_views needs pictures; the data has columns {sorted(batch)}.")
        pictures, sample_ids = batch["image"].float(), batch["sample_ids"]
        return {
            **batch,
            "image": self.view(pictures, sample_ids, draws, 1),
            "image_2": self.view(pictures, sample_ids, draws, 2),
        }

    def view(self, pictures: Tensor, sample_ids: Tensor, draws: Draws, index: int) -> Tensor:
        """One view, uint8 [B, C, H, W], of float pictures in [0, 255]."""
        config = self.config
        u = draws.uniform(sample_ids, (9,), f"two_views-{index}").to(pictures.device)
        x = F.grid_sample(
            pictures, self._grid(u[:, :5], pictures.shape), mode="bilinear", padding_mode="border", align_corners=False
        )
        if config.brightness:
            x = x * (1 + config.brightness * (2 * u[:, 5, None, None, None] - 1))
        if config.contrast:
            mean = x.mean((1, 2, 3), keepdim=True)
            x = mean + (x - mean) * (1 + config.contrast * (2 * u[:, 6, None, None, None] - 1))
        if config.blur:
            chosen = (u[:, 7] < config.blur).nonzero().squeeze(1)
            low, high = config.sigma
            x = x.index_copy(0, chosen, blur(x[chosen], low + (high - low) * u[chosen, 8]))
        return x.clamp_(0, 255).round_().to(torch.uint8)

    def _grid(self, u: Tensor, shape: torch.Size) -> Tensor:
        """Sampling positions [B, H, W, 2] of a random crop, from five uniform numbers a sample."""
        (low, high), (flat, tall) = self.config.scale, self.config.ratio
        area = low + (high - low) * u[:, 0]
        root = torch.exp(0.5 * (math.log(flat) + (math.log(tall) - math.log(flat)) * u[:, 1]))
        width, height = (area.sqrt() * root).clamp(max=1), (area.sqrt() / root).clamp(max=1)
        left, top = (
            (1 - width) * (2 * u[:, 2] - 1),
            (1 - height) * (2 * u[:, 3] - 1),
        )  # the centre; the picture spans [-1, 1]
        mirrored = torch.where(u[:, 4] < self.config.flip, -width, width)
        x = (2 * torch.arange(shape[3], device=u.device) + 1) / shape[3] - 1
        y = (2 * torch.arange(shape[2], device=u.device) + 1) / shape[2] - 1
        across, down = left[:, None] + mirrored[:, None] * x, top[:, None] + height[:, None] * y
        return torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=3)


def blur(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a width of each sample's own, truncated at two pixels, borders repeated.

    Args:
        pictures: float [B, C, H, W].
        sigma: [B], in pixels.
    """
    offsets = range(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    weights = torch.stack([torch.exp(-0.5 * (k / sigma) ** 2) for k in offsets])
    weights = (weights / weights.sum(0))[..., None, None, None]
    height, width = pictures.shape[2:]
    padded = F.pad(pictures, (_BLUR_RADIUS, _BLUR_RADIUS, 0, 0), mode="replicate")
    across = torch.stack([weights[k] * padded[..., k : k + width] for k in range(len(offsets))]).sum(0)
    padded = F.pad(across, (0, 0, _BLUR_RADIUS, _BLUR_RADIUS), mode="replicate")
    return torch.stack([weights[k] * padded[..., k : k + height, :] for k in range(len(offsets))]).sum(0)


TRANSFORMS = {"two_views": TwoViewsConfig()}
