"""Muon's step on the parameters of transformers: that of `optimizer_step`, 768 wide, and one of many small matrices.

Five Newton-Schulz iterations for every matrix of a block, AdamW for the rest. It is bound by products. The mean change
of the weights tells whether both sides do the same.
"""

import torch

from bench.measure import OURS, Calibration, Contender, Goal, Workload
from bench.optimizer_step import BETAS, DECAY, EPS, LARGE, RATE, Transformer, made_parameters, run_ours, run_steps
from bench.optimizer_step import torch_adamw as made_adamw
from bench.pace import Pace

ITERATIONS, MUON_RATE = 5, 0.02
SMALL = Transformer(24, 128, 20_000)


def muon_flops(shape: Transformer) -> float:
    """Of the iterations: X X^T, A A and (b A + c A A) X for every matrix, rows <= columns."""
    sides = [(min(size), max(size)) for size in shape.matrices().values()]
    return shape.blocks * ITERATIONS * sum(4 * m * m * n + 2 * m**3 for m, n in sides)


def _ours(pace: Pace, shape: Transformer) -> None:
    from layerwise.optim.muon import Muon, MuonConfig

    config = MuonConfig(
        lr=MUON_RATE, weight_decay=DECAY, adamw_lr=RATE, adamw_beta1=BETAS[0], adamw_beta2=BETAS[1], adamw_eps=EPS
    )
    run_ours(pace, shape, lambda groups: Muon(config, groups))


def _peer(pace: Pace, shape: Transformer) -> None:
    """torch's Muon for the blocks' matrices, its fused AdamW for the rest."""
    named = made_parameters(shape)
    inside = [p for name, p in named if name.startswith("blocks.") and p.ndim == 2]
    rest = [p for name, p in named if not (name.startswith("blocks.") and p.ndim == 2)]
    muon = torch.optim.Muon(inside, lr=MUON_RATE, weight_decay=DECAY, ns_steps=ITERATIONS)
    adamw = made_adamw(rest, fused=True)

    def step() -> None:
        muon.step()
        adamw.step()

    run_steps(pace, named, step, "bf16+fused")


def ours_large(pace: Pace) -> None:
    _ours(pace, LARGE)


def ours_small(pace: Pace) -> None:
    _ours(pace, SMALL)


def peer_large(pace: Pace) -> None:
    _peer(pace, LARGE)


def peer_small(pace: Pace) -> None:
    _peer(pace, SMALL)


PEER = "torch.optim.Muon"


def _sides(shape: Transformer, kind: str) -> tuple[Contender, Contender]:
    def limit(calibration: Calibration) -> float:
        return muon_flops(shape) / (1e9 * max(calibration["bf16_gflop_per_s"], calibration["fp32_gflop_per_s"]))

    rate = ("GFLOP/s", 1e-9 * muon_flops(shape))
    sides = [(OURS, "ours"), (PEER, "peer")]
    one, other = (
        Contender(name=f"{name}, {shape.width} wide", run=f"bench.muon_step:{run}_{kind}", rate=rate, limit=limit)
        for name, run in sides
    )
    return one, other


_LARGE, _SMALL = _sides(LARGE, "large"), _sides(SMALL, "small")
WORKLOAD = Workload(
    title=f"Muon, fp32 weights, {LARGE.parameter_count() / 1e6:.0f} and {SMALL.parameter_count() / 1e6:.0f} million",
    unit="step",
    launches=1,
    turns=6,
    contenders=_LARGE + _SMALL,
    goals=tuple(Goal(ours=a.name, peers=(b.name,), kind="speedup", value=1.0) for a, b in (_LARGE, _SMALL)),
)
