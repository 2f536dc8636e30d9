"""Group norm: torch's numbers and gradients in every layout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from layerwise.nn.group_norm import GroupNorm

SHAPES = [(3, 8, 5, 7), (3, 8, 1, 1), (2, 8), (2, 8, 6), (2, 8, 2, 3, 4), (2, 32, 3, 5), (1, 8, 32, 32)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("silu", [False, True])
def test_numbers_and_gradients_are_torchs(shape: tuple[int, ...], last: bool, silu: bool) -> None:
    """Float64, 1e-12: the same sums in another order."""
    torch.manual_seed(0)
    ours, theirs = GroupNorm(4, shape[1], eps=1e-3).double(), nn.GroupNorm(4, shape[1], eps=1e-3).double()
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    if last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    pull, grads = torch.randn(shape, dtype=torch.float64), []
    for norm, given in ((ours, x), (theirs, x.contiguous())):
        leaf = given.clone(memory_format=torch.preserve_format).requires_grad_(True)
        if norm is ours:
            found = ours(leaf, silu)
        else:
            found = F.silu(theirs(leaf)) if silu else theirs(leaf)
        (found * pull).sum().backward()
        grads.append((found.detach(), leaf.grad, norm.weight.grad, norm.bias.grad))
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert grads[0][0].is_contiguous(memory_format=torch.channels_last) or not last or x.dim() != 4


@pytest.mark.parametrize("shape", [(2, 8, 4, 4), (2, 32, 4, 4), (1, 8, 32, 32)])
@pytest.mark.parametrize("kept", ["float32", "bfloat16"])
def test_bf16_maps_with_channels_last_keep_layout_and_type(shape: tuple[int, ...], kept: str) -> None:
    """2e-2 of the norm; weights in either type."""
    torch.manual_seed(0)
    norm = GroupNorm(4, shape[1])
    nn.init.normal_(norm.weight)
    x = torch.randn(shape).bfloat16().contiguous(memory_format=torch.channels_last)
    wanted = F.silu(F.group_norm(x.double(), 4, norm.weight.double(), norm.bias.double(), norm.eps)).detach()
    norm.to(getattr(torch, kept))
    with torch.no_grad():
        found = norm(x, silu=True)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found.double() - wanted).norm()) <= 2e-2 * float(wanted.norm())
