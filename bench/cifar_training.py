"""Steps of ResNet-18 for pictures of CIFAR's size on a folder of CIFAR's PNGs, batches of 128, the data's path
included.

Mirrored, padded by 4 and cut at random, normalised, SGD with momentum; a 3 x 3 stem without pooling. Ours is what
`layerwise train` makes of it: pictures decoded once, whole batches changed at once, precision and memory format as
chosen. The peer is timm's resnet18 with torchvision's ImageFolder and transforms in a DataLoader with two workers, as
it comes (float32, contiguous) and tuned (bf16 autocast, channels_last, fused SGD). The loss of the first step tells
whether all have the same task.
"""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.limits import counted_flops, sides
from bench.measure import OURS, Goal, Workload
from bench.pace import NotRunError, Pace
from bench.paced_recipe import train_paced
from bench.peers import peer
from bench.plain_loop import train_plainly

BATCH, CLASSES, RATE, MOMENTUM = 128, 10, 0.01, 0.9
WARM_UP, WINDOW = 2, 1  # steps
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def unpack(folder: str) -> Path:
    """The training pictures in class folders."""
    data = Path(os.environ.get("LAYERWISE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    source = data / "images" / "cifar10-subset" / "cifar10_train4000_test1000_png.zip"
    if not source.is_file():
        raise NotRunError(f"{source} is not here")
    with zipfile.ZipFile(source) as archive:
        archive.extractall(folder)
    return next(path for path in sorted(Path(folder).rglob("train")) if path.is_dir())


def ours(pace: Pace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        overrides: dict[str, Any] = {
            "model": "resnet18",
            "model.stem": "cifar",
            "data.root": str(unpack(folder)),
            "data.augment": ["flip", {"name": "crop", "padding": 4}],
            "optimizer": "SGD",
            "optimizer.lr": RATE,
            "optimizer.momentum": MOMENTUM,
            "objective.label_smoothing": 0.0,
            "batch_size": BATCH,
        }
        train_paced(pace, "image_classification", overrides, warm_up=WARM_UP, window=WINDOW)


def _network() -> nn.Module:
    """timm's, with the stem that is usual for such pictures."""
    torch.manual_seed(0)
    network = peer("timm").create_model("resnet18", num_classes=CLASSES)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _batches(folder: str) -> Iterator[tuple[Tensor, Tensor]]:
    transforms, datasets = peer("torchvision.transforms"), peer("torchvision.datasets")
    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    data = datasets.ImageFolder(str(unpack(folder)), transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=2, persistent_workers=True, drop_last=True
    )
    while True:
        yield from loader


def _loop(pace: Pace, *, tuned: bool) -> None:
    network = _network()
    if tuned:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, fused=True if tuned else None)
    with tempfile.TemporaryDirectory() as folder:
        batches = _batches(folder)

        def loss() -> Tensor:
            images, labels = next(batches)
            if tuned:
                images = images.contiguous(memory_format=torch.channels_last)
            return F.cross_entropy(network(images), labels)

        note = "bf16, channels_last, fused SGD" if tuned else "fp32"
        train_plainly(pace, network, optimizer, loss, note, tuned=tuned, warm_up=WARM_UP, window=WINDOW)


def timm_default(pace: Pace) -> None:
    _loop(pace, tuned=False)


def timm_tuned(pace: Pace) -> None:
    _loop(pace, tuned=True)


def step_flops() -> float:
    """Forward and backward."""
    from layerwise.api.models import create_model

    def work() -> Tensor:
        return create_model("resnet18", stem="cifar", num_classes=CLASSES)(torch.empty(BATCH, 3, 32, 32))

    return counted_flops(work, backward=True)


_side = sides(__name__, ("pictures/s", BATCH), step_flops)
DEFAULT, TUNED = "timm, DataLoader", "timm tuned, DataLoader"
WORKLOAD = Workload(
    title=f"training step of ResNet-18 on a folder of CIFAR's pictures, batches of {BATCH}, SGD",
    unit="step",
    launches=1,
    turns=5,
    contenders=(
        _side(OURS, "ours", "bf16"),
        _side(DEFAULT, "timm_default", "fp32"),
        _side(TUNED, "timm_tuned", "bf16"),
    ),
    goals=(
        Goal(peers=(DEFAULT,), kind="speedup", value=2.0),
        Goal(peers=(TUNED,), kind="speedup", value=1.0),
    ),
)
