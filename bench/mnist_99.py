"""LeNet-5 on MNIST until 99 % of the validation digits are right, from opening the files on.

The same network, batches of 128, AdamW and one-cycle schedule over nine epochs on every side, shifts of up to two
pixels, a look at 6,000 held-out digits every half epoch. Ours is the recipe `lenet5_mnist` with `eval.stop_at=0.99`.
The peers are a script as tutorials have it (a `DataLoader` with two workers, one PIL picture at a time), and the same
script with the pictures in memory and whole batches shifted at once. A window is one run with a seed of its own.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from bench.data_path import BATCH, MEAN, STD, Samples, made_data, shifted
from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import NotRunError, Pace

EPOCHS, LOOKS, WANTED, HELD_OUT = 9, 2, 0.99, 6_000
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 0.05


def recipe(pace: Pace) -> None:
    """`lenet5_mnist`, without the report."""
    from layerwise.api.configure import configure
    from layerwise.train.build import build

    overrides: dict[str, Any] = {
        "epochs": EPOCHS,
        "eval.every_epochs": 1 / LOOKS,
        "eval.monitor": "accuracy",
        "eval.stop_at": WANTED,
    }

    def train(seed: int) -> float:
        session = build(configure("lenet5_mnist", {**overrides, "seed": seed}.items()).recipe)
        trainer = session.trainer(0, 0, ())
        trainer.fit()
        assert trainer.best is not None
        return trainer.best["value"]

    _runs(pace, train, "the recipe's precision")


def _network() -> nn.Module:
    return nn.Sequential(
        nn.ReplicationPad2d(2),
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(),
        nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def _script(batches: Any, steps_per_epoch: int, images: Tensor, labels: Tensor, seed: int) -> float:
    """A plain training loop; the best accuracy seen."""
    torch.manual_seed(seed)
    network = _network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * steps_per_epoch)
    accuracy = 0.0
    for _ in range(EPOCHS):
        for index, (x, y) in enumerate(batches(), 1):
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            if index % (steps_per_epoch // LOOKS) == 0:
                network.eval()
                with torch.no_grad():
                    guesses = torch.cat([network(part).argmax(1) for part in images.split(512)])
                network.train()
                accuracy = max(accuracy, float((guesses == labels).double().mean()))
                if accuracy >= WANTED:
                    return accuracy
    return accuracy


def _parts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, labels, note = made_data()
    if note != "MNIST":
        raise NotRunError("the files of MNIST are not here")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images, labels, order[HELD_OUT:], order[:HELD_OUT]


def samples(pace: Pace) -> None:
    """Picture by picture."""

    def train(seed: int) -> float:
        images, labels, kept, held_out = _parts()
        data = Subset(Samples(images, labels), kept.tolist())
        loader: DataLoader[Any] = DataLoader(data, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
        x = (images[held_out].float() / 255 - MEAN) / STD
        return _script(lambda: iter(loader), len(loader), x, labels[held_out], seed)

    _runs(pace, train, "fp32")


def batched(pace: Pace) -> None:
    """Whole batches of tensors in memory."""

    def train(seed: int) -> float:
        images, labels, kept, held_out = _parts()

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for ids in kept[torch.randperm(len(kept))].split(BATCH):
                yield shifted(images.index_select(0, ids)), labels.index_select(0, ids)

        x = (images[held_out].float() / 255 - MEAN) / STD
        return _script(batches, -(-len(kept) // BATCH), x, labels[held_out], seed)

    _runs(pace, train, "fp32")


def _runs(pace: Pace, train: Any, note: str) -> None:
    """Run after run; the check is what a run reached."""
    torch.set_flush_denormal(True)
    reached = train(100)
    pace.first()
    if reached < WANTED:
        raise RuntimeError(f"{note}: {reached:.4f} after {EPOCHS} epochs, {WANTED} was wanted")
    pace.ready(reached, note)
    seed = 0
    while True:
        reached, seed = train(seed), seed + 1
        pace.window(1, reached=reached)


SCRIPTS = "script, DataLoader, samples", "script, batches in memory"

WORKLOAD = Workload(
    title="LeNet-5 on MNIST to 99 % of 6,000 held-out digits, batches of 128",
    unit="run",
    launches=1,
    turns=1,
    contenders=(
        Contender(name=OURS, run="bench.mnist_99:recipe"),
        Contender(name=SCRIPTS[0], run="bench.mnist_99:samples"),
        Contender(name=SCRIPTS[1], run="bench.mnist_99:batched"),
    ),
    goals=(
        Goal(peers=SCRIPTS[:1], kind="speedup", value=5.0),
        Goal(peers=SCRIPTS[1:], kind="speedup", value=1.2),
    ),
)
