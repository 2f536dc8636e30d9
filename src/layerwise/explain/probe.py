"""How well a linear classifier tells the classes apart by a layer's features, and a map of them in two dimensions.

Paper: G. Alain, Y. Bengio, "Understanding intermediate layers using linear classifier probes", 2016,
https://arxiv.org/abs/1610.01644

Differs from the paper: ridge regression on one-hot targets, which has a closed form, in place of logistic regression;
its strength is the one with the least leave-one-out error on the training examples.

Shapes: N examples, D values, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from layerwise.core.errors import NumericsError

STRENGTHS = tuple(10.0**power for power in range(-3, 4))  # of the ridge, times the number of training examples
_NOTHING = 1e-10  # share of the largest variance below which a direction holds nothing but rounding


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a linear probe reached.

    Args:
        right: validation examples classified right.
        count: validation examples.
        strength: of the ridge, a multiple of the number of training examples.
    """

    right: int
    count: int
    strength: float


def standardise(train: Tensor, *others: Tensor) -> list[Tensor]:
    """Columns less their mean in `train`, divided by their deviation there, in float64; constant columns become 0.

    Raises:
        NumericsError: a value is not finite.
    """
    parts = [part.double() for part in (train, *others)]
    if not all(bool(part.isfinite().all()) for part in parts):
        raise NumericsError("features hold values that are not finite")
    mean, deviation = parts[0].mean(0), parts[0].std(0, correction=0)
    scale = torch.where(deviation > 1e-7 * mean.abs().clamp(min=1e-6), 1 / deviation, 0.0)
    return [(part - mean) * scale for part in parts]


def ridge(x: Tensor, y: Tensor, strengths: tuple[float, ...] = STRENGTHS) -> tuple[Tensor, float]:
    """`argmin_W sum_n |y_n - mean(y) - W' x_n|^2 + N s |W|^2`, s by leave-one-out error.

    One eigendecomposition serves all strengths. Leaving example n out changes its residual to
    `e_n / (1 - 1/N - h_n)`, where h is the diagonal of `X (X'X + N s)^-1 X'` (Allen's PRESS; the mean is fitted anew).

    Args:
        x: float64 [N, D], each column of mean 0.
        y: float64 [N, K].
        strengths: to choose from, each times N.

    Returns:
        W [D, K] and the strength.
    """
    count = len(x)
    wide = x.shape[1] > count
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = values > _NOTHING * values[-1].clamp(min=1e-300)
    values, vectors = values[kept], vectors[:, kept]
    left = vectors if wide else x @ vectors / values.sqrt()  # [N, R]
    right = x.T @ vectors / values.sqrt() if wide else vectors  # [D, R]
    centred = y - y.mean(0)
    inside = left.T @ centred

    def left_out_error(strength: float) -> float:
        shrink = values / (values + strength * count)
        share = (left.square() * shrink).sum(1) + 1 / count
        residual = (centred - left @ (shrink[:, None] * inside)) / (1 - share).clamp(min=1e-12)[:, None]
        return float(residual.square().mean())

    best = min(strengths, key=left_out_error)
    return right @ ((values.sqrt() / (values + best * count))[:, None] * inside), best


def linear_probe(train: Tensor, train_labels: Tensor, val: Tensor, val_labels: Tensor, classes: int) -> Probe:
    """A ridge classifier on standardised training features, read on validation features.

    Args:
        train: [N, D].
        train_labels: int64 [N].
        val: [M, D].
        val_labels: int64 [M].
        classes: labels lie below it.

    Raises:
        NumericsError: a value is not finite.
    """
    x, x_val = standardise(train, val)
    y = F.one_hot(train_labels, classes).double()
    weights, strength = ridge(x, y)
    scores = x_val @ weights + y.mean(0)
    return Probe(right=int((scores.argmax(1) == val_labels).sum()), count=len(val), strength=strength)


def principal_map(x: Tensor) -> tuple[Tensor, float]:
    """Each example's place in the plane of most variance of its standardised features, and the share of variance in it.

    The sign of an axis is chosen so that its largest coordinate is positive: the same features give the same map.

    Shape:
        [N, D] -> [N, 2].

    Raises:
        NumericsError: a value is not finite.
    """
    (x,) = standardise(x)
    wide = x.shape[1] > len(x)
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    places = (vectors * values.sqrt() if wide else x @ vectors)[:, :2]
    places = F.pad(places, (0, 2 - places.shape[1]))
    largest = places.gather(0, places.abs().argmax(0, keepdim=True))
    places = torch.where(largest < 0, -places, places)
    total = float(values.sum())
    return places, float(values[:2].sum()) / total if total > 0 else 1.0
