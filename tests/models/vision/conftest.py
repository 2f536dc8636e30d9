"""Comparison of a network with the same one of a reference library: random weights copied over, both ways."""

import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}  # they separate slips from rounding

Compare = Callable[..., None]


def empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A network whose initial weights were never drawn: large ones take seconds to draw."""
    with torch.device("meta"):
        network = build()
    return network.to_empty(device="cpu")


@torch.no_grad()
def randomise(network: nn.Module) -> None:
    """Weights that keep the scale of maps, norms and running statistics away from 1 and 0."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict(keep_vars=True).items():
        if name.endswith("num_batches_tracked"):
            value.zero_()
        elif value.dim() > 1:
            value.normal_(0, math.sqrt(2 * value.shape[0] / value.numel()), generator=generator)
        elif name.endswith(("weight", "running_var")):
            value.uniform_(0.5, 1.5, generator=generator)
        else:
            value.normal_(0, 0.1, generator=generator)


def ratio(got: Tensor, wanted: Tensor) -> float:
    """Frobenius norm of the difference over that of what is wanted."""
    return float((got.double() - wanted.double()).norm() / wanted.double().norm())


def named(network: nn.Module, names: Mapping[str, str]) -> dict[str, Tensor]:
    return {names.get(name, name): value for name, value in network.state_dict().items()}


def outputs(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


@pytest.fixture
def compare() -> Compare:
    """`compare(ours, theirs, channels, sizes, dtype)`: logits in evaluation and training mode and running statistics
    afterwards agree, with weights copied from theirs to ours; ours fit into theirs.

    Args (of the function):
        ours, theirs: make the networks; dropout and stochastic depth are off.
        channels: of the pictures.
        sizes: (height, width) of the pictures of each comparison.
        dtype: of everything.
        names: our name of a tensor -> theirs, where they differ.
        order: position in our output of each of theirs, where theirs are several.
    """

    @torch.no_grad()
    def run(
        ours: Callable[[], nn.Module],
        theirs: Callable[[], nn.Module],
        channels: int,
        sizes: Sequence[tuple[int, int]],
        dtype: torch.dtype,
        *,
        names: Mapping[str, str] | None = None,
        order: Sequence[int] = (0,),
    ) -> None:
        names = names or {}
        our, their = empty(ours).to(dtype), empty(theirs).to(dtype)
        randomise(their)
        back = {theirs: ours for ours, theirs in names.items()}
        our.load_state_dict(named(their, back))
        their.load_state_dict(named(our, names))
        for size in sizes:
            images = torch.randn(3, channels, *size, dtype=dtype, generator=torch.Generator().manual_seed(sum(size)))
            for training in (False, True):
                our.train(training)
                their.train(training)
                wanted, got = outputs(their(images)), outputs(our(images))
                assert len(got) == len(wanted)
                for index, value in enumerate(wanted):
                    mine = got[order[index]]
                    assert mine.shape == value.shape
                    assert ratio(mine, value) <= TOLERANCE[dtype]
        for name, value in named(our, names).items():
            if name.endswith(("running_mean", "running_var")):
                assert ratio(value, their.state_dict()[name]) <= TOLERANCE[dtype]

    return run
