"""An epoch of MNIST as a network takes it.

Batches of 128, shuffled, moved by up to two pixels, normalised, float32 [128, 1, 28, 28]. Ours is a `Feed` over the
split with the `shift` transform and the task's normalisation, as a run has. The peers are a `DataLoader` that makes one
sample at a time (PIL, the operations of torchvision's RandomCrop(28, padding=2), ToTensor and Normalize), with and
without workers, and one sample path written for whole batches: in a `DataLoader` that is asked for batches of indices,
and in a plain loop. The mean square of the values made tells whether all do the same work. Without the files of MNIST,
pictures of the same size and sparsity.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from bench.measure import OURS, Calibration, Contender, Goal, Workload
from bench.pace import Pace

BATCH, PIXELS = 128, 2
MEAN, STD = 0.1307, 0.3081
EPOCH = 60_000


def made_data() -> tuple[Tensor, Tensor, str]:
    """uint8 images [N, 1, 28, 28], labels [N] and which they are."""
    from layerwise.core.errors import LayerwiseError
    from layerwise.data.examples import TensorExamples
    from layerwise.data.idx import MNIST, MNISTConfig

    try:
        train = MNIST(MNISTConfig()).splits().train
    except LayerwiseError:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (EPOCH, 1, 28, 28), generator=generator, dtype=torch.uint8)
        images *= torch.rand(EPOCH, 1, 28, 28, generator=generator) < 0.19
        return images, torch.randint(0, 10, (EPOCH,), generator=generator), "made-up pictures"
    assert isinstance(train, TensorExamples)
    return train.columns["image"], train.columns["labels"], "MNIST"


def _run(pace: Pace, epochs: Iterator[Iterator[Tensor]], note: str) -> None:
    """Go through epochs; the first one is warm-up and gives the check."""
    squares, count = 0.0, 0
    for images in next(epochs):
        if not count:
            pace.first()
        squares, count = squares + images.square().sum().item(), count + images.numel()
    pace.ready(squares / count, note)
    for epoch in epochs:
        samples = 0
        for images in epoch:
            samples += len(images)
        pace.window(samples)


# ---------------------------------------------------------------------------------------------------------------- ours


def feed(pace: Pace) -> None:
    """`layerwise.data.feed.Feed`."""
    from layerwise.data.examples import TensorExamples
    from layerwise.data.feed import Feed
    from layerwise.data.transforms import Shift, ShiftConfig
    from layerwise.tasks.preprocessing import Normalise

    torch.use_deterministic_algorithms(True)
    images, labels, note = made_data()
    normalise = Normalise([MEAN], [STD])

    def inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"images": normalise(batch["image"]), "labels": batch["labels"], "sample_ids": batch["sample_ids"]}

    source = Feed(
        TensorExamples({"image": images, "labels": labels}),
        inputs,
        batch_size=BATCH,
        transforms=[Shift(ShiftConfig(pixels=PIXELS))],
    )

    def epochs() -> Iterator[Iterator[Tensor]]:
        while True:
            yield (source.next_step()[0]["images"] for _ in range(source.steps_per_epoch))

    _run(pace, epochs(), f"{note}, hashed draws")


# ----------------------------------------------------------------------------------------------------- sample by sample


class Samples(Dataset[tuple[Tensor, int]]):
    """As torchvision's MNIST with RandomCrop(28, padding=2), ToTensor and Normalize, step for step."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images[:, 0], labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        import numpy as np
        from PIL import Image, ImageOps

        picture = Image.fromarray(self.images[index].numpy())
        picture = ImageOps.expand(picture, border=PIXELS, fill=0)
        top, left = (int(torch.randint(0, 2 * PIXELS + 1, size=(1,)).item()) for _ in range(2))
        picture = picture.crop((left, top, left + 28, top + 28))
        image = torch.from_numpy(np.array(picture, copy=True)).view(28, 28, 1).permute(2, 0, 1).contiguous()
        image = image.to(torch.float32).div(255)
        image.sub_(torch.as_tensor([MEAN]).view(-1, 1, 1)).div_(torch.as_tensor([STD]).view(-1, 1, 1))
        return image, int(self.labels[index])


def _loader(pace: Pace, workers: int) -> None:
    images, labels, note = made_data()
    loader: DataLoader[Any] = DataLoader(
        Samples(images, labels), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )

    def epochs() -> Iterator[Iterator[Tensor]]:
        while True:
            yield (batch[0] for batch in loader)

    _run(pace, epochs(), note)


def loader_0(pace: Pace) -> None:
    """A DataLoader in the training process."""
    _loader(pace, 0)


def loader_2(pace: Pace) -> None:
    """A DataLoader with two workers that stay."""
    _loader(pace, 2)


# ------------------------------------------------------------------------------------------------------ batch by batch


def shifted(images: Tensor) -> Tensor:
    """Every picture moved on its own, normalised: one gather, values scaled in place."""
    padded = F.pad(images, (PIXELS,) * 4)
    top, left = torch.randint(0, 2 * PIXELS + 1, (2, len(images)))
    windows = padded.unfold(2, 28, 1).unfold(3, 28, 1)[torch.arange(len(images)), :, top, left]
    return windows.float().mul_(1 / (255 * STD)).sub_(MEAN / STD)


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches by a list of indices."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        ids = torch.tensor(indices)
        return shifted(self.images.index_select(0, ids)), self.labels.index_select(0, ids)


def batched_loader(pace: Pace) -> None:
    """A DataLoader whose sampler gives batches of indices."""
    images, labels, note = made_data()
    data = Batches(images, labels)
    loader: DataLoader[Any] = DataLoader(
        data, batch_size=None, sampler=BatchSampler(RandomSampler(data), BATCH, drop_last=False)
    )

    def epochs() -> Iterator[Iterator[Tensor]]:
        while True:
            yield (batch[0] for batch in loader)

    _run(pace, epochs(), note)


def batched(pace: Pace) -> None:
    """A plain loop over tensors in memory."""
    images, labels, note = made_data()

    def epoch() -> Iterator[Tensor]:
        for ids in torch.randperm(len(images)).split(BATCH):
            made, _ = shifted(images.index_select(0, ids)), labels.index_select(0, ids)
            yield made

    def epochs() -> Iterator[Iterator[Tensor]]:
        while True:
            yield epoch()

    _run(pace, epochs(), note)


PER_SAMPLE = "DataLoader, samples", "DataLoader, samples, 2 workers"
BATCHED = "DataLoader, batches", "torch loop, batches"
SAMPLE = ("samples/s", 1.0)


def _limit(calibration: Calibration) -> float:
    """Reading a byte and writing a float for every pixel."""
    return 28 * 28 * 5 / (1e9 * max(calibration["read_gb_per_s"], calibration["update_gb_per_s"]))


WORKLOAD = Workload(
    title="an epoch of MNIST, shift and normalise, batches of 128, fp32",
    unit="sample",
    threads=1,
    launches=1,
    turns=4,
    contenders=(
        Contender(name=OURS, run="bench.data_path:feed", rate=SAMPLE, limit=_limit),
        Contender(name=PER_SAMPLE[0], run="bench.data_path:loader_0", rate=SAMPLE),
        Contender(name=PER_SAMPLE[1], run="bench.data_path:loader_2", rate=SAMPLE),
        Contender(name=BATCHED[0], run="bench.data_path:batched_loader", rate=SAMPLE),
        Contender(name=BATCHED[1], run="bench.data_path:batched", rate=SAMPLE, limit=_limit),
    ),
    goals=(
        Goal(peers=PER_SAMPLE, kind="speedup", value=20.0),
        Goal(peers=BATCHED[:1], kind="speedup", value=1.5),
        Goal(peers=BATCHED[1:], kind="speedup", value=1.5),
    ),
)
