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


def written_out(name: str, x: torch.Tensor, groups: int) -> torch.Tensor:
    """Each norm at weight one and bias zero as loops over what it takes the statistics of; x is [B, C, H, W]."""
    y = torch.empty_like(x)
    batch, channels = x.shape[:2]
    if name == "batch_norm":
        cells = [(slice(None), slice(c, c + 1)) for c in range(channels)]
    else:
        size = channels // (groups if name == "group_norm" else 1)
        cells = [(slice(b, b + 1), slice(c, c + size)) for b in range(batch) for c in range(0, channels, size)]
    for cell in cells:
        values = x[cell].flatten().tolist()
        mean = 0.0 if name == "rms_norm" else sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        y[cell] = (x[cell] - mean) / math.sqrt(variance + 0.25)
    return y


@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "layer_norm", "rms_norm"])
@pytest.mark.parametrize("positions", [0, 1, 2])
def test_norms_by_name_are_the_loops(name: str, positions: int) -> None:
    torch.manual_seed(0)
    norm = make_norm(name, 12, positions=positions, eps=0.25, num_groups=3).double()  # type: ignore[arg-type]
    x = torch.randn(5, 12, 2, 3, dtype=torch.float64)
    shape = (5, 12, *(2, 3)[:positions])
    x = x[..., 0, 0] if positions == 0 else x[..., 0] if positions == 1 else x
    assert x.shape == shape
    expected = written_out(name, x.reshape(*shape[:2], -1, 1), 3).view(shape)
    torch.testing.assert_close(norm(x), expected, atol=1e-12, rtol=0)


def test_channel_weights_of_rms_norm_on_maps() -> None:
    norm = make_norm("rms_norm", 2, positions=2, eps=0.0).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -3.0]))
    x = torch.full((1, 2, 2, 2), 5.0, dtype=torch.float64)
    assert norm(x)[0, :, 0, 0].tolist() == [1.0, -3.0]


def test_no_norm_is_the_identity() -> None:
    x = torch.randn(2, 3)
    assert make_norm("none", 3)(x) is x


def test_groups_must_divide_channels() -> None:
    with pytest.raises(ConfigError, match="num_groups=3 must divide channels=8"):
        make_norm("group_norm", 8, num_groups=3)
