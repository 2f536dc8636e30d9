"""Group norm: torch's numbers and gradients in every layout."""

import pytest
import torch
from torch import nn

from layerwise.nn.group_norm import GroupNorm


@pytest.mark.parametrize("shape", [(3, 8, 5, 7), (3, 8, 1, 1), (2, 8), (2, 8, 6), (2, 8, 2, 3, 4)])
@pytest.mark.parametrize("last", [False, True])
def test_numbers_and_gradients_are_torchs(shape: tuple[int, ...], last: bool) -> None:
    """Float64, 1e-12: the same sums in another order."""
    torch.manual_seed(0)
    ours, theirs = GroupNorm(4, 8, eps=1e-3).double(), nn.GroupNorm(4, 8, eps=1e-3).double()
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    if last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    pull, grads = torch.randn(shape, dtype=torch.float64), []
    for norm, given in ((ours, x), (theirs, x.contiguous())):
        leaf = given.clone(memory_format=torch.preserve_format).requires_grad_(True)
        found = norm(leaf)
        (found * pull).sum().backward()
        grads.append((found.detach(), leaf.grad, norm.weight.grad, norm.bias.grad))
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
    assert grads[0][0].is_contiguous(memory_format=torch.channels_last) or not last or x.dim() != 4
