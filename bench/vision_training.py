"""A training step of ResNet-50 and of ViT-S/16 on 16 pictures of 224 x 224, 1,000 classes, label smoothing 0.1, AdamW.

Ours is what `layerwise train` makes of the networks with pictures in memory: precision, memory format and optimiser are
chosen by it, and it normalises the pictures in the step. The peers are torchvision's and timm's own networks in a plain
loop on one batch that is ready, as they come (float32, contiguous, the default AdamW) and tuned (bf16 autocast,
channels_last where there are convolutions, the fused AdamW). The loss of the first step tells whether all have the same
task.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.limits import by_products, counted_flops
from bench.made import PicturesConfig, made_pictures
from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import Pace
from bench.paced_recipe import train_paced
from bench.peers import peer
from bench.plain_loop import train_plainly

BATCH, SIDE, CLASSES, SMOOTHING, RATE = 16, 224, 1000, 0.1, 1e-4
WARM_UP = 2  # steps
RESNET, VIT = "resnet50", "vit_small_patch16_224"


# ---------------------------------------------------------------------------------------------------------------- ours


def _recipe(pace: Pace, model: str) -> None:
    data = {"name": "bench.made:Pictures", "count": BATCH, "size": (SIDE, SIDE), "num_classes": CLASSES}
    overrides: dict[str, Any] = {"data": data, "batch_size": BATCH, "model": model}
    overrides |= {"optimizer.lr": RATE, "objective.label_smoothing": SMOOTHING}
    train_paced(pace, "image_classification", overrides, warm_up=WARM_UP)


def ours_resnet(pace: Pace) -> None:
    _recipe(pace, RESNET)


def ours_vit(pace: Pace) -> None:
    _recipe(pace, VIT)


# --------------------------------------------------------------------------------------------------------------- peers


def _loop(pace: Pace, network: nn.Module, *, tuned: bool) -> None:
    images, labels = made_pictures(PicturesConfig(count=BATCH, size=(SIDE, SIDE), num_classes=CLASSES))
    x = (images.float() / 255 - 0.5) / 0.25
    if tuned:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, fused=True if tuned else None)

    def loss() -> Tensor:
        return F.cross_entropy(network(x), labels, label_smoothing=SMOOTHING)

    note = "bf16, channels_last, fused AdamW" if tuned else "fp32"
    train_plainly(pace, network, optimizer, loss, note, tuned=tuned, warm_up=WARM_UP)


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


def step_flops(model: str) -> float:
    """Forward and backward."""
    from layerwise.api.models import create_model

    return counted_flops(lambda: create_model(model)(torch.empty(BATCH, 3, SIDE, SIDE)), backward=True)


def _side(name: str, model: str, run: str, precision: str) -> Contender:
    kind = "ResNet-50" if model == RESNET else "ViT-S/16"
    limit = by_products(lambda: step_flops(model), precision)
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
