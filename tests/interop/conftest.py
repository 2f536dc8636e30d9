"""Networks with weights away from their start, and how alike two outputs are."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}  # they separate slips from rounding


@torch.no_grad()
def _randomise(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict(keep_vars=True).items():
        if value.is_floating_point() and name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point():
            value.add_(0.05 * torch.randn(value.shape, generator=generator, dtype=value.dtype))
    return network.eval()


@pytest.fixture
def randomised() -> Callable[[nn.Module], nn.Module]:
    """The network in eval mode with all its weights and running statistics moved."""
    return _randomise


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """`assert_same(got, wanted, dtype)`: the Frobenius ratio is within the type's tolerance."""

    def check(got: Tensor, wanted: Tensor, dtype: torch.dtype = torch.float32) -> None:
        assert got.shape == wanted.shape
        with torch.no_grad():
            assert float((got.double() - wanted.double()).norm() / wanted.double().norm()) <= TOLERANCE[dtype]

    return check
