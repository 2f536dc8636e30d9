"""An epoch of training on Adult (census income): rows to model inputs, forward, backward, AdamW.

The preset `mlp-tabular` (256 and 128 units, category vectors), batches of 256, shuffled, fp32, one thread. Ours is the
trainer on a `Feed` with the task's preprocessing, as a run has it. The peers train the same network: from a
`DataLoader` that makes one row at a time (standardised, missing values marked, tensors made, stacked), from a
`DataLoader` over rows made ready before (`TensorDataset`), and from batches cut out of tensors made ready before. The
last is the network's own time and nothing else: it bounds what any data path can gain. The mean loss of the first epoch
tells whether all do the same work. Without the file of Adult, made-up rows of the same shape.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import Pace

BATCH, RATE, DECAY = 256, 2e-3, 0.01
ROWS, NUMBERS, SIZES = 26_049, 6, (9, 16, 7, 15, 6, 5, 2, 42)
Inputs = tuple[Tensor, Tensor, Tensor]


def made_data() -> tuple[Tensor, Tensor, Tensor, str]:
    """Raw numbers [N, 6] with NaN where missing, raw categories [N, 8], labels [N], and which they are."""
    from layerwise.core.errors import LayerwiseError
    from layerwise.data.adult import Adult, AdultConfig

    try:
        train = Adult(AdultConfig()).splits().train
    except LayerwiseError:
        generator = torch.Generator().manual_seed(0)
        numeric = torch.randn(ROWS, NUMBERS, generator=generator)
        categories = torch.stack([torch.randint(0, s + 1, (ROWS,), generator=generator) for s in SIZES], 1)
        return numeric, categories, (numeric.sum(1) > 1.5).long(), "made-up rows"
    assert train is not None
    batch = train.collate(torch.arange(len(train)))
    return batch["numeric"], batch["categories"], batch["labels"], "Adult"


def preprocessing(numeric: Tensor, categories: Tensor) -> nn.Module:
    """The task's own, of these rows."""
    from layerwise.data.examples import TensorExamples
    from layerwise.tasks.table_preprocessing import TablePreprocessing, measure

    return TablePreprocessing(measure(TensorExamples({"numeric": numeric, "categories": categories}), min_count=1))


def made_network(sizes: tuple[int, ...]) -> nn.Module:
    """`mlp-tabular` for two classes."""
    from layerwise.models.classic.tabular_mlp import TabularMLP, TabularMLPConfig

    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    return TabularMLP(TabularMLPConfig(num_numeric=NUMBERS, category_sizes=sizes, num_outputs=2))


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

    numeric, categories, labels, note = made_data()
    prepare = preprocessing(numeric, categories)
    steps = -(-len(labels) // BATCH)

    class Paced(Hooks):
        def __init__(self) -> None:
            self.total = 0.0

        def on_step(self, trainer: Trainer) -> None:
            if trainer.step > steps:
                if trainer.step % steps == 0:
                    pace.window(len(labels))
                return
            self.total += trainer.last_loss
            if trainer.step == 1:
                pace.first()
            if trainer.step == steps:
                pace.ready(self.total / steps, f"{note}, tripwires on")

    def inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        made, known = prepare(batch["numeric"], batch["categories"])
        return {"numeric": made, "categories": known, "labels": batch["labels"], "sample_ids": batch["sample_ids"]}

    torch.use_deterministic_algorithms(True)  # this and the next line as `layerwise.train.build.build`
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    network = made_network(_sizes(prepare(numeric, categories)[1]))
    named = list(network.named_parameters())
    optimizer = AdamW(AdamWConfig(lr=RATE, weight_decay=DECAY), parameter_groups(named, weight_decay=DECAY))
    examples = TensorExamples({"numeric": numeric, "categories": categories, "labels": labels})
    feed = Feed(examples, inputs, batch_size=BATCH)
    plan = PhasePlan(name="main", parameters=named, optimizer=optimizer, schedule=Constant(ConstantConfig()).factor)
    settings = LoopSettings(max_steps=None)
    Trainer(network, CrossEntropy(CrossEntropyConfig()), feed, [plan], settings, hooks=[Paced()]).fit()


def _sizes(categories: Tensor) -> tuple[int, ...]:
    return tuple(int(size) for size in categories.amax(0) + 1)


# --------------------------------------------------------------------------------------------------------------- peers


def train(pace: Pace, epoch: Callable[[], Iterable[Inputs]], sizes: tuple[int, ...], rows: int, note: str) -> None:
    """A plain loop; `epoch` gives an epoch's batches."""
    network = made_network(sizes)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in network.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
    total, steps, first = 0.0, 0, True
    while True:
        for numeric, categories, labels in epoch():
            loss = F.cross_entropy(network(numeric, categories), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if first:
                total, steps = total + loss.item(), steps + 1
                if steps == 1:
                    pace.first()
        if first:
            pace.ready(total / steps, note)
            first = False
        else:
            pace.window(rows)


class Rows(Dataset[Inputs]):
    """One row at a time, from raw values to tensors."""

    def __init__(self, numeric: Tensor, categories: Tensor, labels: Tensor) -> None:
        self.numeric, self.categories, self.labels = numeric.numpy(), categories.numpy(), labels.numpy()
        self.mean, self.std = np.nanmean(self.numeric, 0), np.nanstd(self.numeric, 0)
        values = [np.unique(column[column > 0]).tolist() for column in self.categories.T]
        self.places = [{value: place for place, value in enumerate((0, -1, *known))} for known in values]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Inputs:
        numbers = np.nan_to_num((self.numeric[index] - self.mean) / self.std).astype(np.float32)
        known = [places[int(value)] for places, value in zip(self.places, self.categories[index], strict=True)]
        return torch.from_numpy(numbers), torch.tensor(known), torch.tensor(self.labels[index])


def loader_rows(pace: Pace) -> None:
    """A DataLoader that prepares every row."""
    numeric, categories, labels, note = made_data()
    sizes = _sizes(preprocessing(numeric, categories)(numeric, categories)[1])
    loader = DataLoader(Rows(numeric, categories, labels), BATCH, shuffle=True)
    train(pace, lambda: loader, sizes, len(labels), note)


def _ready() -> tuple[Inputs, tuple[int, ...], str]:
    numeric, categories, labels, note = made_data()
    made, known = preprocessing(numeric, categories)(numeric, categories)
    return (made, known, labels), _sizes(known), note


def loader_ready(pace: Pace) -> None:
    """A DataLoader over rows that were prepared at once before."""
    tensors, sizes, note = _ready()
    loader = DataLoader(TensorDataset(*tensors), BATCH, shuffle=True)
    train(pace, lambda: loader, sizes, len(tensors[2]), note)


def batched(pace: Pace) -> None:
    """Batches out of tensors that were prepared at once before."""
    (numeric, categories, labels), sizes, note = _ready()

    def epoch() -> Iterator[Inputs]:
        for ids in torch.randperm(len(labels)).split(BATCH):
            yield numeric.index_select(0, ids), categories.index_select(0, ids), labels.index_select(0, ids)

    train(pace, epoch, sizes, len(labels), note)


ROW_BY_ROW, READY, BATCHED = "DataLoader, rows", "DataLoader, prepared rows", "torch loop, prepared batches"
SAMPLE = ("rows/s", 1.0)

WORKLOAD = Workload(
    title="an epoch on Adult, perceptron of 256 and 128 units with category vectors, batches of 256, fp32, fused AdamW",
    unit="row",
    threads=1,
    launches=1,
    turns=4,
    contenders=(
        Contender(name=OURS, run="bench.tabular_epoch:trainer", rate=SAMPLE),
        Contender(name=ROW_BY_ROW, run="bench.tabular_epoch:loader_rows", rate=SAMPLE),
        Contender(name=READY, run="bench.tabular_epoch:loader_ready", rate=SAMPLE),
        Contender(name=BATCHED, run="bench.tabular_epoch:batched", rate=SAMPLE),
    ),
    goals=(
        Goal(peers=(ROW_BY_ROW,), kind="speedup", value=10.0),
        Goal(peers=(READY,), kind="speedup"),
        Goal(peers=(BATCHED,), kind="overhead", value=1.1),
    ),
)
