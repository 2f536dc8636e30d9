"""Linear probes and maps against naive float64 computation."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from layerwise.core.errors import NumericsError
from layerwise.explain.probe import linear_probe, principal_map, ridge, standardise


def data(count: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count * 100 + width)
    x = torch.randn(count, width, generator=generator, dtype=torch.float64)
    y = F.one_hot((x[:, 0] + 0.3 * x[:, 1] > 0).long(), 2).double()
    return x - x.mean(0), y


@pytest.mark.parametrize(("count", "width"), [(30, 5), (12, 40)])
def test_ridge_solves_the_normal_equations(count: int, width: int) -> None:
    x, y = data(count, width)
    found, strength = ridge(x, y, (0.1,))
    assert strength == 0.1
    left = x.T @ x + count * 0.1 * torch.eye(width, dtype=torch.float64)
    torch.testing.assert_close(found, torch.linalg.solve(left, x.T @ (y - y.mean(0))), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("count", "width"), [(30, 5), (12, 40)])
def test_strength_is_the_one_of_least_error_when_each_example_is_left_out_in_turn(count: int, width: int) -> None:
    x, y = data(count, width)
    strengths = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
    errors = []
    for strength in strengths:
        total = 0.0
        for out in range(count):
            rest = [n for n in range(count) if n != out]
            xs, ys = x[rest], y[rest]
            centre = xs.mean(0)
            left = (xs - centre).T @ (xs - centre) + count * strength * torch.eye(width, dtype=torch.float64)
            weights = torch.linalg.solve(left, (xs - centre).T @ (ys - ys.mean(0)))
            total += float((y[out] - ys.mean(0) - (x[out] - centre) @ weights).square().sum())
        errors.append(total)
    assert len(set(errors)) == len(strengths)
    assert ridge(x, y, strengths)[1] == strengths[errors.index(min(errors))]


def test_classes_that_a_plane_parts_are_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    labels = x[:, :3].argmax(1)
    probe = linear_probe(x[:300], labels[:300], x[300:], labels[300:], 3)
    assert probe.count == 100
    assert probe.right >= 93


def test_labels_that_features_do_not_hold_stay_at_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1200, 50, generator=generator)
    labels = torch.randint(4, (1200,), generator=generator)
    probe = linear_probe(x[:600], labels[:600], x[600:], labels[600:], 4)
    assert 100 <= probe.right <= 200  # of 600; chance is 150, with a deviation of 11


def test_scale_and_shift_of_features_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    labels = (x[:, 0] + x[:, 1] > 0).long()
    scaled = x * torch.tensor([1e-4, 1.0, 30.0, 1e3]).double() + torch.tensor([5.0, -100.0, 0.0, 1e4]).double()
    plain = linear_probe(x[:100], labels[:100], x[100:], labels[100:], 2)
    assert linear_probe(scaled[:100], labels[:100], scaled[100:], labels[100:], 2) == plain


def test_constant_features_are_left_out_and_infinite_ones_named() -> None:
    x = torch.randn(20, 3)
    x[:, 1] = 7.25
    (found,) = standardise(x)
    assert torch.equal(found[:, 1], torch.zeros(20, dtype=torch.float64))
    torch.testing.assert_close(found[:, 0].var(correction=0), torch.tensor(1.0).double())
    with pytest.raises(NumericsError, match="not finite"):
        standardise(torch.tensor([[1.0], [float("inf")]]))


@pytest.mark.parametrize(("count", "width"), [(30, 5), (12, 40)])
def test_map_is_the_projection_on_the_two_largest_singular_vectors(count: int, width: int) -> None:
    x, _ = data(count, width)
    places, share = principal_map(x)
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    left, values, _ = torch.linalg.svd(standard, full_matrices=False)
    expected = left[:, :2] * values[:2]
    torch.testing.assert_close(places.abs(), expected.abs(), rtol=1e-8, atol=1e-8)
    assert share == pytest.approx(float(values[:2].square().sum() / values.square().sum()))
    assert (places.gather(0, places.abs().argmax(0, keepdim=True)) > 0).all()


def test_map_does_not_turn_with_the_sign_of_the_solver() -> None:
    x, _ = data(25, 6)
    assert torch.equal(principal_map(x)[0], principal_map(x.clone())[0])
    torch.testing.assert_close(principal_map(-x)[0].abs(), principal_map(x)[0].abs())


def test_map_of_one_value_lies_on_a_line() -> None:
    places, share = principal_map(torch.arange(5.0)[:, None])
    assert share == pytest.approx(1.0)
    assert torch.equal(places[:, 1], torch.zeros(5, dtype=torch.float64))
