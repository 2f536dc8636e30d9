"""Measures of samples against scipy's matrix root, closed forms and plain loops."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.ops import sample_measures
from layerwise.ops.sample_measures import frechet_distance, nearest_points, normal_of, precision_and_recall


def make_points(count: int, seed: int, width: int = 4, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) + shift


def distance(a: Tensor, b: Tensor) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)))


def share_among(points: Tensor, held: Tensor, k: int) -> float:
    """Kynkaanniemi et al. 2019, equation 2, word by word."""
    radii = []
    for i, centre in enumerate(held):
        others = sorted(distance(centre, other) for j, other in enumerate(held) if j != i)
        radii.append(others[k - 1])
    inside = 0
    for point in points:
        inside += any(distance(point, c) <= r for c, r in zip(held, radii, strict=True))
    return inside / len(points)


def test_frechet_distance_equals_scipys_matrix_root() -> None:
    a, b = make_points(30, 0, 6) @ make_points(6, 1, 6), make_points(30, 2, 6) @ make_points(6, 3, 6)
    (m1, c1), (m2, c2) = normal_of(a), normal_of(b)
    x, y = a.numpy(), b.numpy()
    v1, v2 = np.cov(x.T, ddof=0), np.cov(y.T, ddof=0)
    wanted = float(
        np.square(x.mean(0) - y.mean(0)).sum() + np.trace(v1 + v2 - 2 * np.real(np.asarray(linalg.sqrtm(v1 @ v2))))
    )
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(wanted, rel=1e-9)


def test_frechet_distance_of_fewer_points_than_features_equals_scipys() -> None:
    """Covariances without full rank, as of few samples in many features."""
    (m1, c1), (m2, c2) = normal_of(make_points(5, 0, 12)), normal_of(make_points(6, 1, 12))
    root = np.real(np.asarray(linalg.sqrtm((c1 @ c2).numpy() + 1e-14 * np.eye(12))))
    wanted = float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * float(np.trace(root))
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(wanted, rel=1e-5)  # scipy's root of a singular matrix


def test_frechet_distance_of_independent_coordinates_is_the_closed_form() -> None:
    """Diagonal covariances: sum of (m1 - m2)^2 + (s1 - s2)^2."""
    m1, m2, s1, s2 = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [1.0, 2.0]))
    assert frechet_distance(m1, torch.diag(s1**2), m2, torch.diag(s2**2)) == pytest.approx(1 + 4 + 4 + 4, rel=1e-12)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("entries", [1 << 24, 50])
def test_precision_and_recall_equal_plain_loops(k: int, entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_measures, "_ENTRIES", entries)  # all at once, and few rows at a time
    real, made = make_points(40, 0), make_points(30, 1, shift=0.7)
    wanted = share_among(made, real, k), share_among(real, made, k)
    assert all(0 < share < 1 for share in wanted)
    assert precision_and_recall(real, made, k) == wanted


def test_collapsed_samples_have_precision_and_no_recall() -> None:
    real = make_points(60, 0)
    made = real[:1] + 1e-6 * make_points(20, 1)
    assert precision_and_recall(real, made) == (1.0, pytest.approx(1 / 60))


def test_samples_far_away_have_neither() -> None:
    assert precision_and_recall(make_points(20, 0), make_points(20, 1, shift=50)) == (0.0, 0.0)


def test_too_few_points_are_named() -> None:
    with pytest.raises(ConfigError, match="3 real ones"):
        precision_and_recall(make_points(3, 0), make_points(20, 1), 3)


@pytest.mark.parametrize("entries", [1 << 24, 50])
def test_nearest_points_equal_plain_loops(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_measures, "_ENTRIES", entries)
    points, held = make_points(15, 0), make_points(25, 1)
    points[3] = held[7]  # a copy
    found, places = nearest_points(points, held)
    for point, far, place in zip(points, found.tolist(), places.tolist(), strict=True):
        wanted = [distance(point, other) for other in held]
        assert place == wanted.index(min(wanted))
        assert far == pytest.approx(min(wanted), rel=1e-12)
    assert (places[3], found[3]) == (7, 0.0)
