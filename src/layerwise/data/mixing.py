"""Mixing of training pictures with others of their batch, labels and all.

mixup: H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, "mixup: beyond empirical risk minimization", 2018,
https://arxiv.org/abs/1710.09412. CutMix: S. Yun et al., "CutMix: regularization strategy to train strong classifiers
with localizable features", 2019, https://arxiv.org/abs/1905.04899.

A sample keeps its label under `labels`, gets its mate's under `mate_labels` and its own share of the mixture under
`own_share`. The mate is the sample before it in the step's whole batch, whatever the micro-batches and processes, and
the draws are hashed from the sample id, so that the gradient does not depend on how the batch was split.

Differs from the papers: each sample has a share of its own, not one a batch.

Shape legend: B batch, C channels, H W height and width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerwise.core.config import Fraction, PositiveFloat
from layerwise.core.errors import DataError
from layerwise.data.examples import Batch
from layerwise.ops.random import Draws


@dataclass(frozen=True, kw_only=True)
class MixUpConfig:
    """Weighted mean of two pictures.

    Args:
        alpha: the share of a picture is drawn from Beta(alpha, alpha); 1 is uniform, small values mix little.
        probability: share of pictures that are mixed. Where several mixing transforms follow each other, a picture is
            mixed by the first that takes it.
    """

    alpha: PositiveFloat = 0.2
    probability: Fraction = 1.0


@dataclass(frozen=True, kw_only=True)
class CutMixConfig:
    """A rectangle of another picture.

    Args:
        alpha: the share of the picture that stays is drawn from Beta(alpha, alpha); then it is what the rectangle
            really leaves after it was cut at the border.
        probability: as for mixup.
    """

    alpha: PositiveFloat = 1.0
    probability: Fraction = 1.0


class Mixing:
    """A transform of a batch and the batch of its mates.

    Args:
        batch: uint8 `image` [B, C, H, W], int64 `labels` [B], and `own_share` if something was mixed before.
        mates: the same columns of each sample's mate, not mixed.
    """

    def __call__(self, batch: Batch, mates: Batch, draws: Draws) -> Batch:
        raise NotImplementedError


def _free(batch: Batch, draws: Draws, name: str, probability: float) -> tuple[Tensor, Tensor]:
    """(samples [B] that this transform takes: none that another took, own shares [B] so far).

    Raises:
        DataError: there are no pictures with one class each.
    """
    image, labels = batch.get("image"), batch.get("labels")
    if image is None or image.dim() != 4 or image.dtype != torch.uint8 or labels is None or labels.dim() != 1:
        raise DataError(f"{name} mixes pictures with a class each; the data has the columns {', '.join(batch)}.")
    share = batch.get("own_share", torch.ones(len(labels), device=image.device))
    chosen = draws.uniform(batch["sample_ids"], (), f"{name}-chosen") < probability
    return chosen.to(image.device) & (share == 1), share


def beta_quantile(u: Tensor, alpha: float) -> Tensor:
    """Draws of Beta(alpha, alpha) from uniform ones: the inverse of its distribution function. float64 [B]."""
    from scipy.special import betaincinv

    if alpha == 1.0:
        return u.double()
    return torch.from_numpy(np.asarray(betaincinv(alpha, alpha, u.double().cpu().numpy()))).to(u.device)


class MixUp(Mixing):
    """`x = l x_own + (1 - l) x_mate`, rounded to grey levels."""

    def __init__(self, config: MixUpConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, mates: Batch, draws: Draws) -> Batch:
        taken, before = _free(batch, draws, "mixup", self.config.probability)
        u = draws.uniform(batch["sample_ids"], (), "mixup", torch.float64)
        share = torch.where(taken, beta_quantile(u, self.config.alpha).to(before), before)
        own = torch.where(taken, share, 1.0)[:, None, None, None]
        image = (own * batch["image"] + (1 - own) * mates["image"]).round_().to(torch.uint8)
        return {**batch, "image": image, "mate_labels": mates["labels"], "own_share": share}


class CutMix(Mixing):
    """A box of the mate's pixels at the same place, its sides sqrt(1 - l) of the picture's, its centre uniform."""

    def __init__(self, config: CutMixConfig) -> None:
        self.config = config

    def __call__(self, batch: Batch, mates: Batch, draws: Draws) -> Batch:
        taken, before = _free(batch, draws, "cutmix", self.config.probability)
        image = batch["image"]
        rows, columns = image.shape[2:]
        u = draws.uniform(batch["sample_ids"], (3,), "cutmix", torch.float64).to(image.device)
        side = (1 - beta_quantile(u[:, 0], self.config.alpha)).sqrt()

        def inside(length: int, place: Tensor) -> Tensor:
            size, centre = (side * length).floor().long(), (place * length).floor().long()
            at = torch.arange(length, device=image.device)
            low = (centre - size // 2)[:, None]
            return (at >= low) & (at < low + size[:, None])

        box = inside(rows, u[:, 1])[:, :, None] & inside(columns, u[:, 2])[:, None, :] & taken[:, None, None]
        share = torch.where(taken, 1 - box.double().mean((1, 2)).to(before), before)
        return {
            **batch,
            "image": torch.where(box[:, None], mates["image"], image),
            "mate_labels": mates["labels"],
            "own_share": share,
        }


TRANSFORMS = {"mixup": MixUpConfig(), "cutmix": CutMixConfig()}
