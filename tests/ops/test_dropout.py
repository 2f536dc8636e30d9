"""Dropout by bytes: shares, scale, gradient, and what decides the draws."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.nn.dropout import Dropout
from layerwise.ops.dropout import dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_share_of_dropped_elements_is_p(p: float) -> None:
    """A million draws: the share deviates by 0.0005 (one deviation); p itself is rounded to 1 / 256."""
    torch.manual_seed(0)
    share = float((dropout(torch.ones(1000, 1000), p) == 0).float().mean())
    assert share == pytest.approx(round(256 * p) / 256, abs=2.5e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_is_kept_is_divided_by_the_share_kept(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    kept = dropout(torch.ones(501, dtype=dtype), 0.25)
    assert kept.dtype == dtype
    assert set(kept.tolist()) == {0.0, float(torch.tensor(4 / 3, dtype=dtype))}


def test_gradient_goes_where_the_value_went() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 13, requires_grad=True)
    y = dropout(x, 0.5)
    y.backward(torch.ones_like(y))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(y == 0, 0.0, 2.0))


def test_neighbouring_elements_are_independent() -> None:
    """The bytes of one drawn word: the correlation of neighbours in 10^5 pairs has a deviation of 0.003."""
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(100_000, 8), 0.5) == 0).double()
    for k in range(1, 8):
        assert abs(float(torch.corrcoef(dropped[:, [0, k]].T)[0, 1])) < 0.015


def test_draws_come_from_the_global_generator() -> None:
    torch.manual_seed(3)
    first, second = dropout(torch.ones(99), 0.5), dropout(torch.ones(99), 0.5)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(torch.ones(99), 0.5))
    assert not torch.equal(first, second)


def test_evaluation_drops_nothing() -> None:
    x = torch.randn(5)
    assert Dropout(0.5).eval()(x) is x


def test_probability_must_be_below_one() -> None:
    with pytest.raises(ConfigError, match=r"dropout=1\.0"):
        Dropout(1.0)
