"""A training step of ResNet-50 and of ViT-S/16 on 16 pictures of 224 x 224, 1,000 classes, label smoothing 0.1, AdamW.

Ours is what `layerwise train` makes of the networks with pictures in memory: precision, memory format and optimiser are
chosen by it, and it normalises the pictures in the step. The peers are torchvision's and timm's own networks in a plain
loop on one batch that is ready, as they come (float32, contiguous, the default AdamW) and tuned (bf16 autocast,
channels_last where there are convolutions, the fused AdamW). The loss of the first step tells whether all have the same
task.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.measure import OURS, Calibration, Contender, Goal, Workload
from bench.pace import Pace
from bench.paced_recipe import train_paced
from bench.peers import peer

BATCH, SIDE, CLASSES, SMOOTHING, RATE = 16, 224, 1000, 0.1, 1e-4
WARM_UP = 2  # steps
RESNET, VIT = "resnet50", "vit_small_patch16_224"


def made_data() -> tuple[Tensor, Tensor]:
    """uint8 [B, 3, S, S] and classes [B]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, CLASSES, (BATCH,), generator=generator)


# ---------------------------------------------------------------------------------------------------------------- ours


@dataclass(frozen=True, kw_only=True)
class MadeConfig:
    """One batch, again and again."""


class Made:
    """The data set that ours trains on; a person's own is named in the same way, MODULE:CLASS."""

    def __init__(self, config: MadeConfig) -> None:
        self.config = config

    def splits(self) -> Any:
        from layerwise.data.examples import Splits, TensorExamples

        images, labels = made_data()
        part = TensorExamples({"image": images, "labels": labels})
        facts = {"num_classes": CLASSES, "in_channels": 3, "image_size": (SIDE, SIDE), "in_features": 3 * SIDE * SIDE}
        return Splits(train=part, val=part, facts=facts, class_names=[str(k) for k in range(CLASSES)])


def _recipe(pace: Pace, model: str) -> None:
    overrides: dict[str, Any] = {"data": f"{__name__}:Made", "batch_size": BATCH, "model": model}
    overrides |= {"optimizer.lr": RATE, "objective.label_smoothing": SMOOTHING}
    train_paced(pace, "image_classification", overrides, warm_up=WARM_UP)


def ours_resnet(pace: Pace) -> None:
    _recipe(pace, RESNET)


def ours_vit(pace: Pace) -> None:
    _recipe(pace, VIT)


# --------------------------------------------------------------------------------------------------------------- peers


def _loop(pace: Pace, network: nn.Module, *, tuned: bool) -> None:
    torch.set_flush_denormal(True)
    images, labels = made_data()
    x = (images.float() / 255 - 0.5) / 0.25
    if tuned:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, fused=True if tuned else None)
    network.train()

    def losses() -> Iterator[float]:
        while True:
            with torch.autocast("cpu", torch.bfloat16) if tuned else nullcontext():
                loss = F.cross_entropy(network(x), labels, label_smoothing=SMOOTHING)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield loss.item()

    steps = losses()
    first = next(steps)
    pace.first()
    for _ in range(WARM_UP - 1):
        next(steps)
    pace.ready(first, "bf16, channels_last, fused AdamW" if tuned else "fp32")
    for _ in steps:
        pace.window(1)


def _torchvision(pace: Pace, *, tuned: bool) -> None:
    models = peer("torchvision.models")
    torch.manual_seed(0)
    _loop(pace, models.resnet50(num_classes=CLASSES), tuned=tuned)


def _timm(pace: Pace, model: str, *, tuned: bool) -> None:
    timm = peer("timm")
    torch.manual_seed(0)
    _loop(pace, timm.create_model(model, num_classes=CLASSES), tuned=tuned)


def torchvision_resnet(pace: Pace) -> None:
    _torchvision(pace, tuned=False)


def torchvision_resnet_tuned(pace: Pace) -> None:
    _torchvision(pace, tuned=True)


def timm_resnet(pace: Pace) -> None:
    _timm(pace, RESNET, tuned=False)


def timm_resnet_tuned(pace: Pace) -> None:
    _timm(pace, RESNET, tuned=True)


def timm_vit(pace: Pace) -> None:
    _timm(pace, VIT, tuned=False)


def timm_vit_tuned(pace: Pace) -> None:
    _timm(pace, VIT, tuned=True)


# ------------------------------------------------------------------------------------------------------------ workload


@cache
def step_flops(model: str) -> int:
    """Of products and convolutions, forward and backward; counted on tensors without values."""
    from torch.utils.flop_counter import FlopCounterMode

    from layerwise.api.models import create_model

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        create_model(model)(torch.empty(BATCH, 3, SIDE, SIDE)).sum().backward()
    return counter.get_total_flops()


def _side(name: str, model: str, run: str, precision: str) -> Contender:
    def limit(calibration: Calibration) -> float:
        return step_flops(model) / (1e9 * calibration[f"{precision}_gflop_per_s"])

    kind = "ResNet-50" if model == RESNET else "ViT-S/16"
    return Contender(name=f"{name}, {kind}", run=f"{__name__}:{run}", rate=("pictures/s", BATCH), limit=limit)


_RESNET = (
    _side(OURS, RESNET, "ours_resnet", "bf16"),
    _side("torchvision", RESNET, "torchvision_resnet", "fp32"),
    _side("timm", RESNET, "timm_resnet", "fp32"),
    _side("torchvision tuned", RESNET, "torchvision_resnet_tuned", "bf16"),
    _side("timm tuned", RESNET, "timm_resnet_tuned", "bf16"),
)
_VIT = (
    _side(OURS, VIT, "ours_vit", "bf16"),
    _side("timm", VIT, "timm_vit", "fp32"),
    _side("timm tuned", VIT, "timm_vit_tuned", "bf16"),
)

WORKLOAD = Workload(
    title=f"training step of ResNet-50 and ViT-S/16, {BATCH} pictures of {SIDE} x {SIDE}, AdamW",
    unit="step",
    launches=1,
    turns=4,
    contenders=_RESNET + _VIT,
    goals=(
        Goal(ours=_RESNET[0].name, peers=tuple(c.name for c in _RESNET[1:3]), kind="speedup", value=2.0),
        Goal(ours=_RESNET[0].name, peers=tuple(c.name for c in _RESNET[3:]), kind="speedup", value=1.0),
        Goal(ours=_VIT[0].name, peers=(_VIT[1].name,), kind="speedup", value=2.0),
        Goal(ours=_VIT[0].name, peers=(_VIT[2].name,), kind="speedup", value=1.0),
    ),
)
