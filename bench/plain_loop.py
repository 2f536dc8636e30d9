"""What the peers of measurements of training steps have in common: a plain loop, as tutorials have it or tuned by
hand.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from bench.pace import Pace


def autocast(bf16: bool) -> AbstractContextManager[object]:
    """Products in bf16, or nothing."""
    return torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()


def train_plainly(
    pace: Pace,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor],
    note: str,
    *,
    tuned: bool,
    warm_up: int,
    window: int = 1,
    clip: float | None = None,
    check: float | None = None,
) -> None:
    """Train without end.

    Args:
        loss: of the next batch.
        note: see `Pace.ready`.
        tuned: losses are computed under bf16 autocast.
        warm_up, window, check: see `Pace.steps`.
        clip: norm that gradients are clipped to.
    """
    torch.set_flush_denormal(True)
    network.train()

    def losses() -> Iterator[float]:
        while True:
            with autocast(tuned):
                found = loss()
            found.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield found.item()

    pace.steps(losses(), note, warm_up=warm_up, window=window, check=check)
