"""Attention of packed sentences, forward and backward: documents one by one, and under one dense mask.

A row of about 2,048 tokens of sentences with the lengths of a film review's (log-normal, 25 tokens in the middle), 12
heads of 64 numbers, float32. The check is the sum of the result's squares.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import Pace

TOKENS, HEADS, HEAD_DIM = 2_048, 12, 64
MIDDLE, SPREAD = 25, 0.5


def made_lengths() -> list[int]:
    """Lengths that sum to `TOKENS`."""
    generator = torch.Generator().manual_seed(0)
    drawn = (MIDDLE * torch.exp(SPREAD * torch.randn(TOKENS, generator=generator))).long().clamp(3, 512)
    kept = drawn[: int((drawn.cumsum(0) < TOKENS).sum())].tolist()
    return [*kept, TOKENS - sum(kept)]


def _run(pace: Pace, packed: bool) -> None:
    from layerwise.ops.packed_attention import packed_attention

    lengths = made_lengths()
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    mask = (document[:, None] == document)[None, None]
    generator = torch.Generator().manual_seed(1)
    qkv = torch.randn(1, TOKENS, 3 * HEADS * HEAD_DIM, generator=generator).requires_grad_()

    def step() -> float:
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        out: Tensor = packed_attention(q, k, v, lengths) if packed else F.scaled_dot_product_attention(q, k, v, mask)
        total = out.square().sum()
        total.backward()
        qkv.grad = None
        return float(total.detach())

    check = step()
    pace.first()
    pace.ready(check, "fp32")
    while True:
        step()
        pace.window(1)


def ours(pace: Pace) -> None:
    _run(pace, packed=True)


def dense(pace: Pace) -> None:
    _run(pace, packed=False)


DENSE = "one dense mask"

WORKLOAD = Workload(
    title=f"Attention of {len(made_lengths())} packed sentences, {TOKENS:,} tokens, with gradients",
    unit="step",
    launches=1,
    turns=5,
    contenders=(
        Contender(name=OURS, run="bench.packed_attention:ours", rate=("tokens/s", float(TOKENS))),
        Contender(name=DENSE, run="bench.packed_attention:dense", rate=("tokens/s", float(TOKENS))),
    ),
    goals=(Goal(peers=(DENSE,), kind="speedup", value=5.0),),
)
