"""Shortest times by the products that a unit of work needs."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from bench.measure import Calibration, Contender


def by_products(flops: Callable[[], float], precision: str) -> Callable[[Calibration], float]:
    """A contender's limit: that many operations at the calibrated rate of products in "fp32" or "bf16"."""
    counted = cache(flops)
    return lambda calibration: counted() / (1e9 * calibration[f"{precision}_gflop_per_s"])


def sides(module: str, rate: tuple[str, float], flops: Callable[[], float]) -> Callable[[str, str, str], Contender]:
    """Makes the contenders of a benchmark, (name, function, precision): all work at the same thing.

    Args:
        module: that has the functions.
        rate: unit, and number of it in one piece of work.
        flops: of the products of that work.
    """

    def side(name: str, run: str, precision: str) -> Contender:
        return Contender(name=name, run=f"{module}:{run}", rate=rate, limit=by_products(flops, precision))

    return side


def counted_flops(work: Callable[[], Tensor], *, backward: bool = False) -> float:
    """Operations of products and convolutions of `work`, which makes its network and runs it; counted on tensors
    without values, with the backward pass where it is asked for.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        found = work()
        if backward:
            found.sum().backward()
    return float(counter.get_total_flops())
