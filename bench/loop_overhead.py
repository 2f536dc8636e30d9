"""What the trainer adds to a step: three-layer MLP 784-128-128-10, batch 32, float32, one thread.

All sides draw shuffled batches from tensors in memory by `index_select`, take the mean cross-entropy, and step the
fused AdamW with decay on matrices and none on biases. Ours has its tripwires on (finite loss every step, parameters
without gradient, out of memory), deterministic algorithms, metrics every 50 steps and one hook, as a run has. The
labels come from a fixed linear teacher, so that the mean loss of the first steps tells whether all sides learn alike.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import NotRunError, Pace

SAMPLES, BATCH, CLASSES = 60_000, 32, 10
RATE, DECAY = 1e-3, 0.01
CHECKED = 500  # steps whose mean loss is compared; also the warm-up
WINDOW = 40  # steps


class MLP(nn.Module):
    """784-128-128-10 with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def made_data() -> tuple[Tensor, Tensor]:
    """Images [N, 784] and the labels [N] of a linear teacher."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(SAMPLES, 784, generator=generator)
    teacher = torch.randn(784, CLASSES, generator=generator)
    return images, ((images - 0.5) @ teacher).argmax(1)


def made_network() -> MLP:
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    return MLP()


def decay_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Decay on matrices, none on biases, as nanoGPT's `configure_optimizers`."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


# ---------------------------------------------------------------------------------------------------------------- ours


def trainer(pace: Pace) -> None:
    """`layerwise.train.loop.Trainer` on a `Feed`."""
    from layerwise.data.examples import TensorExamples
    from layerwise.data.feed import Feed
    from layerwise.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
    from layerwise.optim.groups import parameter_groups
    from layerwise.optim.schedules import Constant, ConstantConfig
    from layerwise.optim.torch_optimizers import AdamW, AdamWConfig
    from layerwise.train.loop import Hooks, LoopSettings, PhasePlan, Trainer

    class Paced(Hooks):
        def __init__(self) -> None:
            self.total = 0.0

        def on_step(self, trainer: Trainer) -> None:
            if trainer.step > CHECKED:
                if trainer.step % WINDOW == 0:
                    pace.window(WINDOW)
                return
            self.total += trainer.last_loss
            if trainer.step == 1:
                pace.first()
            if trainer.step == CHECKED:
                pace.ready(self.total / CHECKED, "tripwires on")

    torch.use_deterministic_algorithms(True)  # this and the next line as `layerwise.train.build.build`
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    network = made_network()
    images, labels = made_data()
    named = list(network.named_parameters())
    optimizer = AdamW(AdamWConfig(lr=RATE, weight_decay=DECAY), parameter_groups(named, weight_decay=DECAY))
    feed = Feed(TensorExamples({"images": images, "labels": labels}), lambda batch: batch, batch_size=BATCH)
    plan = PhasePlan(name="main", parameters=named, optimizer=optimizer, schedule=Constant(ConstantConfig()).factor)
    Trainer(
        network, CrossEntropy(CrossEntropyConfig()), feed, [plan], LoopSettings(max_steps=None), hooks=[Paced()]
    ).fit()


# --------------------------------------------------------------------------------------------------------------- peers


def batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches without end."""
    generator = torch.Generator().manual_seed(1)
    while True:
        for ids in torch.randperm(SAMPLES, generator=generator).split(BATCH):
            yield images.index_select(0, ids), labels.index_select(0, ids)


def _bare(pace: Pace, note: str, checks_loss: bool, groups: Callable[[nn.Module], Any] = decay_groups) -> None:
    network = made_network()
    optimizer = torch.optim.AdamW(groups(network), lr=RATE, weight_decay=DECAY, fused=True)
    total = torch.zeros(())
    network.train()
    for step, (images, labels) in enumerate(batches(*made_data()), 1):
        loss = F.cross_entropy(network(images), labels)
        if checks_loss and not abs(loss.item()) < float("inf"):
            raise FloatingPointError(f"loss {loss.item()} at step {step}")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step > CHECKED:
            if step % WINDOW == 0:
                pace.window(WINDOW)
            continue
        total += loss.detach()
        if step == 1:
            pace.first()
        if step == CHECKED:
            pace.ready(total.item() / CHECKED, note)


def bare(pace: Pace) -> None:
    """A plain loop that looks at nothing."""
    _bare(pace, "no look at the loss", checks_loss=False)


def bare_checked(pace: Pace) -> None:
    """A plain loop that reads the loss and stops if it is not finite."""
    _bare(pace, "loss read every step", checks_loss=True)


def bare_one_group(pace: Pace) -> None:
    """A plain loop with one parameter group, whose biases decay too: less work for the optimiser, another training."""
    _bare(pace, "biases decay too", checks_loss=True, groups=lambda network: network.parameters())


def lightning(pace: Pace) -> None:
    """Lightning's trainer in its fastest setting, `barebones=True`, on the same iterator of batches."""
    try:
        import lightning  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise NotRunError("lightning is not installed in that interpreter") from None

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.total, self.done = made_network(), torch.zeros(()), 0

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(decay_groups(self.network), lr=RATE, weight_decay=DECAY, fused=True)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            images, labels = batch
            loss = F.cross_entropy(self.network(images), labels)
            if self.done < CHECKED:
                self.total += loss.detach()
            return loss

        def on_train_batch_end(self, *ignored: object) -> None:
            self.done += 1
            if self.done > CHECKED:
                if self.done % WINDOW == 0:
                    pace.window(WINDOW)
            elif self.done == 1:
                pace.first()
            elif self.done == CHECKED:
                pace.ready(self.total.item() / CHECKED, f"{lightning.__version__}, barebones")

    class Stream(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return batches(*made_data())

    loader = torch.utils.data.DataLoader(Stream(), batch_size=None)
    lightning.Trainer(accelerator="cpu", barebones=True, max_epochs=1).fit(Module(), loader)


BARE, CHECK, ONE, LIGHTNING = "torch loop", "torch loop, checked", "torch loop, one group", "Lightning"
WORKLOAD = Workload(
    title="training step of an MLP 784-128-128-10, batch 32, fp32, fused AdamW",
    unit="step",
    threads=1,
    launches=3,
    turns=20,
    windows=6,
    contenders=(
        Contender(name=OURS, run="bench.loop_overhead:trainer"),
        Contender(name=BARE, run="bench.loop_overhead:bare"),
        Contender(name=CHECK, run="bench.loop_overhead:bare_checked"),
        Contender(name=ONE, run="bench.loop_overhead:bare_one_group"),
        Contender(name=LIGHTNING, run="bench.loop_overhead:lightning", interpreter="BENCH_PEER_PYTHON"),
    ),
    goals=(
        Goal(peers=(CHECK,), kind="overhead", value=1.03),
        Goal(peers=(BARE,), kind="overhead", value=1.03),
        Goal(peers=(ONE,), kind="overhead"),
        Goal(peers=(LIGHTNING,), kind="speedup", value=1.0),
    ),
)
