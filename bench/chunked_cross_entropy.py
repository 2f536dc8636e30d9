"""The last product and the cross-entropy of 8,192 tokens over GPT-2's vocabulary, forward and backward, 768 wide.

The check is the loss. Memory is the process's peak, interpreter and library included.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.measure import OURS, Calibration, Contender, Goal, Workload
from bench.pace import NotRunError, Pace

TOKENS, VOCABULARY, WIDTH = 8_192, 50_257, 768
FLOPS = 6 * TOKENS * VOCABULARY * WIDTH  # logits, gradient of features, gradient of the table

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def _run(pace: Pace, loss_of: Loss, bf16: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TOKENS, WIDTH, generator=generator).requires_grad_()
    weight = (0.02 * torch.randn(VOCABULARY, WIDTH, generator=generator)).requires_grad_()
    labels = torch.randint(VOCABULARY, (TOKENS,), generator=generator)

    def step() -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = loss_of(x, weight, labels) / TOKENS
        loss.backward()
        x.grad = weight.grad = None
        return float(loss.detach())

    check = step()
    pace.first()
    pace.ready(check, "bf16" if bf16 else "fp32")
    while True:
        step()
        pace.window(1)


def _ours(x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    from layerwise.ops.linear_cross_entropy import linear_cross_entropy

    return linear_cross_entropy(x, weight, labels)


def _plain(x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, weight).float(), labels, reduction="sum")


def ours_fp32(pace: Pace) -> None:
    _run(pace, _ours, bf16=False)


def ours_bf16(pace: Pace) -> None:
    _run(pace, _ours, bf16=True)


def plain_fp32(pace: Pace) -> None:
    _run(pace, _plain, bf16=False)


def plain_bf16(pace: Pace) -> None:
    _run(pace, _plain, bf16=True)


def torch_fp32(pace: Pace) -> None:
    """torch's own chunked form, from 2.13 on."""
    if not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise NotRunError(f"torch {torch.__version__} has no chunked linear_cross_entropy")
    options = torch.nn.LinearCrossEntropyOptions()

    def loss_of(x: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        return F.linear_cross_entropy(x, weight, labels, reduction="sum", options=options)

    _run(pace, loss_of, bf16=False)


def _limit(kind: str) -> Callable[[Calibration], float]:
    return lambda calibration: FLOPS / (1e9 * calibration[f"{kind}_gflop_per_s"])


SIDES = {
    f"{OURS}, fp32": ("ours_fp32", "fp32"),
    "linear + cross_entropy, fp32": ("plain_fp32", "fp32"),
    "torch linear_cross_entropy, fp32": ("torch_fp32", "fp32"),
    f"{OURS}, bf16": ("ours_bf16", "bf16"),
    "linear + cross_entropy, bf16": ("plain_bf16", "bf16"),
}

WORKLOAD = Workload(
    title=f"Linear layer and cross-entropy, {TOKENS:,} tokens, {VOCABULARY:,} words, {WIDTH} wide, with gradients",
    unit="step",
    launches=1,
    turns=2,
    contenders=tuple(
        Contender(
            name=name,
            run=f"bench.chunked_cross_entropy:{run}",
            rate=("tokens/s", float(TOKENS)),
            limit=_limit(kind),
        )
        for name, (run, kind) in SIDES.items()
    ),
    goals=(
        Goal(ours=f"{OURS}, fp32", peers=("linear + cross_entropy, fp32",), kind="speedup", value=1.0),
        Goal(ours=f"{OURS}, fp32", peers=("linear + cross_entropy, fp32",), kind="memory", value=0.4),
        Goal(ours=f"{OURS}, fp32", peers=("torch linear_cross_entropy, fp32",), kind="speedup"),
        Goal(ours=f"{OURS}, bf16", peers=("linear + cross_entropy, bf16",), kind="speedup", value=1.0),
        Goal(ours=f"{OURS}, bf16", peers=("linear + cross_entropy, bf16",), kind="memory", value=0.4),
    ),
)
