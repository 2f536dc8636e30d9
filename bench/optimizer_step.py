"""An optimiser's step on 100 million float32 parameters in the shapes of a transformer.

Twelve blocks 768 wide and a table of 20,000 tokens. AdamW is bound by memory: a step reads weight, gradient and two
moments, and writes weight and moments, seven passes of four bytes. The mean change of the weights tells whether both
sides do the same. `muon_step` is the same for Muon.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.measure import OURS, Calibration, Contender, Goal, Workload
from bench.pace import Pace

RATE, DECAY, BETAS, EPS = 1e-3, 0.1, (0.9, 0.95), 1e-10


@dataclass(frozen=True)
class Transformer:
    """Shapes of a transformer's parameters."""

    blocks: int
    width: int
    vocabulary: int

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Of a block, by name."""
        d = self.width
        return {"qkv": (3 * d, d), "out": (d, d), "up": (4 * d, d), "down": (d, 4 * d)}

    def block_names(self) -> list[str]:
        return [f"blocks.{k}" for k in range(self.blocks)]

    def parameter_count(self) -> int:
        block = sum(a * b for a, b in self.matrices().values()) + self.width
        return self.vocabulary * self.width + self.blocks * block


LARGE = Transformer(12, 768, 20_000)


def made_parameters(shape: Transformer) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) with gradients."""
    shapes: dict[str, tuple[int, ...]] = {"table.weight": (shape.vocabulary, shape.width)}
    for block in shape.block_names():
        shapes |= {f"{block}.{name}.weight": size for name, size in shape.matrices().items()}
        shapes[f"{block}.norm.weight"] = (shape.width,)
    torch.set_flush_denormal(True)
    generator = torch.Generator().manual_seed(0)
    named = [(name, nn.Parameter(torch.randn(*size, generator=generator) * 0.02)) for name, size in shapes.items()]
    for _, parameter in named:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 1e-3
    return named


def adamw_bytes() -> float:
    """Of one step: four passes read, three written."""
    return 7 * 4 * LARGE.parameter_count()


def run_steps(pace: Pace, named: list[tuple[str, nn.Parameter]], step: Callable[[], Any], note: str) -> None:
    """Step on and on; the mean change of the first step is the check."""
    before = [parameter.detach().clone() for _, parameter in named]
    step()
    pace.first()
    changes = [
        (parameter.detach() - old).abs().mean().item() for (_, parameter), old in zip(named, before, strict=True)
    ]
    del before
    step()
    pace.ready(sum(changes) / len(changes), note)
    while True:
        step()
        pace.window(1)


def run_ours(pace: Pace, shape: Transformer, build: Callable[[list[dict[str, Any]]], Any]) -> None:
    from layerwise.optim.groups import parameter_groups

    named = made_parameters(shape)
    optimizer = build(parameter_groups(named, weight_decay=DECAY, blocks=shape.block_names()))
    run_steps(pace, named, optimizer.step, optimizer.implementation)


def adamw_ours(pace: Pace) -> None:
    """`layerwise.optim.AdamW`."""
    from layerwise.optim.torch_optimizers import AdamW, AdamWConfig

    config = AdamWConfig(lr=RATE, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, weight_decay=DECAY)
    run_ours(pace, LARGE, lambda groups: AdamW(config, groups))


def torch_adamw(parameters: list[nn.Parameter], **form: bool) -> torch.optim.AdamW:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=RATE, betas=BETAS, eps=EPS, **form)


def adamw_torch(pace: Pace) -> None:
    """torch's fused AdamW."""
    named = made_parameters(LARGE)
    run_steps(pace, named, torch_adamw([p for _, p in named], fused=True).step, "fused")


def adamw_torch_default(pace: Pace) -> None:
    """torch's AdamW as it comes."""
    named = made_parameters(LARGE)
    run_steps(pace, named, torch_adamw([p for _, p in named]).step, "default")


DEFAULT = "torch AdamW, default"
FUSED = "torch AdamW, fused"
_RATE = ("GB/s", 1e-9 * adamw_bytes())


def _limit(calibration: Calibration) -> float:
    return adamw_bytes() / (1e9 * max(calibration["read_gb_per_s"], calibration["update_gb_per_s"]))


WORKLOAD = Workload(
    title=f"AdamW on {LARGE.parameter_count() / 1e6:.0f} million fp32 parameters in transformer shapes",
    unit="step",
    launches=2,
    turns=6,
    windows=3,
    contenders=(
        Contender(name=OURS, run="bench.optimizer_step:adamw_ours", rate=_RATE, limit=_limit),
        Contender(name=FUSED, run="bench.optimizer_step:adamw_torch", rate=_RATE, limit=_limit),
        Contender(name=DEFAULT, run="bench.optimizer_step:adamw_torch_default", rate=_RATE, limit=_limit),
    ),
    goals=(Goal(peers=(FUSED, DEFAULT), kind="speedup"),),
)
