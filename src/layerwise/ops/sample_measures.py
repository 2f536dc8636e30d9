"""How near a set of samples is to a set of real ones, as points of a feature space.

Frechet distance: D. C. Dowson, B. V. Landau, "The Frechet distance between multivariate normal distributions", 1982; M.
Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017,
https://arxiv.org/abs/1706.08500, equation 6. Precision and recall: T. Kynkaanniemi et al., "Improved precision and
recall metric for assessing generative models", 2019, https://arxiv.org/abs/1904.06991, equations 1 and 2.

Shapes: N real points, M samples, D features.
"""

import torch
from torch import Tensor

from layerwise.core.errors import ConfigError

_ENTRIES = 1 << 24  # of a table of distances that is held at once


def frechet_distance(mean_1: Tensor, covariance_1: Tensor, mean_2: Tensor, covariance_2: Tensor) -> float:
    """Squared Frechet distance of two normal distributions.

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2))`.

    Args:
        mean_1, mean_2: float64 [D].
        covariance_1, covariance_2: float64 [D, D], symmetric, positive semidefinite.
    """
    values, vectors = torch.linalg.eigh(covariance_1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance_2 @ root).clamp(min=0).sqrt().sum()
    return float((mean_1 - mean_2).square().sum() + covariance_1.trace() + covariance_2.trace() - 2 * cross)


def normal_of(points: Tensor, correction: int = 0) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of points [N, D], the latter divided by N - `correction` (at least 1), in
    float64.
    """
    points = points.double()
    mean = points.mean(0)
    centred = points - mean
    return mean, centred.T @ centred / max(len(points) - correction, 1)


def precision_and_recall(real: Tensor, made: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Share of samples that lie among the real points, and share of real points that lie among the samples.

    A point lies among a set if it is no farther from some point of the set than that point's k-th nearest neighbour in
    the set is.

    Args:
        real: [N, D].
        made: [M, D].
        neighbours: k, below N and M.

    Raises:
        ConfigError: a set has too few points.
    """
    if neighbours < 1 or min(len(real), len(made)) <= neighbours:
        raise ConfigError(
            f"Precision and recall with {neighbours} neighbours need more than so many points; there are {len(real)} "
            f"real ones and {len(made)} samples."
        )
    return _share_among(made, real, neighbours), _share_among(real, made, neighbours)


def _share_among(points: Tensor, held: Tensor, neighbours: int) -> float:
    held = held.double()
    own = torch.arange(len(held), device=held.device)
    radii = torch.cat(
        [
            _squares(held[ids], held).scatter_(1, ids[:, None], torch.inf).kthvalue(neighbours, dim=1).values
            for ids in own.split(_rows(held))
        ]
    )
    inside = [(_squares(part, held) <= radii).any(1) for part in points.double().split(_rows(held))]
    return float(torch.cat(inside).double().mean())


def nearest_points(points: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance of each point to the nearest of those held, float64 [M], and its place among them, int64 [M];
    of equally near ones the first.

    Args:
        points: [M, D].
        held: [N, D], at least one.
    """
    held = held.double()
    places = torch.cat([_squares(part, held).argmin(1) for part in points.double().split(_rows(held))])
    # Once more for the pairs found: the product loses the distance of points that are almost the same.
    return (points.double() - held[places]).norm(dim=1), places


def _rows(held: Tensor) -> int:
    return max(1, _ENTRIES // len(held))


def _squares(points: Tensor, held: Tensor) -> Tensor:
    """Squared distances [M, N]."""
    products = points.square().sum(1)[:, None] + held.square().sum(1) - 2 * points @ held.T
    return products.clamp_(min=0)
