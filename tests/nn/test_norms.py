"""Norms against the written-out formulas in float64."""

import math

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.nn.norms import RMSNorm, make_norm


def test_rms_norm_is_the_formula() -> None:
    norm = RMSNorm(3, eps=0.5).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
    x = [3.0, -4.0, 1.0]
    root = math.sqrt((9 + 16 + 1) / 3 + 0.5)
    expected = torch.tensor([3 / root, -8 / root, -1 / root], dtype=torch.float64)
    torch.testing.assert_close(norm(torch.tensor([x], dtype=torch.float64))[0], expected, atol=1e-12, rtol=0)


def test_rms_norm_equals_torch_with_gradients() -> None:
    torch.manual_seed(0)
    ours, theirs = RMSNorm(16).double(), nn.RMSNorm(16, eps=1e-6).double()
    x = torch.randn(4, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 16, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((ours(x) * weight).sum(), [x, ours.weight]),
        torch.autograd.grad((theirs(x) * weight).sum(), [x, theirs.weight]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_rms_statistics_survive_half_precision() -> None:
    # 300^2 overflows float16 (65504 at most): the mean square must not be taken there.
    x = torch.full((1, 8), 300.0, dtype=torch.float16)
    torch.testing.assert_close(RMSNorm(8).half()(x), torch.ones(1, 8, dtype=torch.float16), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "kind"), [("layer_norm", nn.LayerNorm), ("rms_norm", RMSNorm), ("group_norm", nn.GroupNorm)]
)
def test_norms_are_made_by_name(name: str, kind: type[nn.Module]) -> None:
    norm = make_norm(name, 64, eps=0.25)
    assert isinstance(norm, kind)
    assert norm.eps == 0.25
    assert norm(torch.randn(2, 64, 64)).shape == (2, 64, 64)


def test_groups_must_divide_channels() -> None:
    with pytest.raises(ConfigError, match="num_groups=3 must divide channels=8"):
        make_norm("group_norm", 8, num_groups=3)
