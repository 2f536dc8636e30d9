"""Clipping equals torch's."""

import pytest
import torch
from torch import nn

from layerwise.train.clip import clip_gradients, gradient_norm


def parameters(dtypes: tuple[torch.dtype, ...] = (torch.float32,) * 3) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    found = [nn.Parameter(torch.zeros(shape, dtype=t)) for shape, t in zip([(4, 5), (7,), ()], dtypes, strict=True)]
    for p in found:
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
    return [*found, nn.Parameter(torch.zeros(3))]


@pytest.mark.parametrize("max_norm", [0.1, 4.0, 100.0])
@pytest.mark.parametrize("dtypes", [(torch.float32,) * 3, (torch.float32, torch.bfloat16, torch.float64)])
def test_equals_torchs_clipping_bit_for_bit(max_norm: float, dtypes: tuple[torch.dtype, ...]) -> None:
    ours, theirs = parameters(dtypes), parameters(dtypes)
    norm = clip_gradients(ours, max_norm)
    assert float(norm) == float(torch.nn.utils.clip_grad_norm_(theirs, max_norm))
    for p, q in zip(ours[:3], theirs[:3], strict=True):
        assert torch.equal(p.grad, q.grad)
    assert ours[3].grad is None


def test_norm_is_euclidean_over_all_gradients() -> None:
    found = parameters()
    expected = sum(float(p.grad.double().square().sum()) for p in found if p.grad is not None) ** 0.5
    assert float(gradient_norm(found)) == pytest.approx(expected, rel=1e-6)


def test_norm_without_gradients_is_zero() -> None:
    assert float(clip_gradients([nn.Parameter(torch.ones(2))], 1.0)) == 0.0


def test_a_gradient_that_is_not_finite_is_told_by_the_norm() -> None:
    found = parameters()
    found[0].grad[0, 0] = float("nan")
    assert clip_gradients(found, 1.0).isnan()
