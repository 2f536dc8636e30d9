"""A folder of JPEGs to training batches: windows of random area and shape at 224 x 224, mirrored by chance, normalised,
float32 [32, 3, 224, 224].

The pictures are the 364 of the BCCD set, 640 x 480. Ours is a `Feed` over the folder whose `random_resized_crop` cuts
out of the files, as a run has that decodes for every batch; and, without a goal, the one of a folder that fits into
memory, whose windows are cut out of pictures decoded once. The peer is torchvision's ImageFolder with
RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize in a DataLoader with two workers that stay. The bare
decoder is Pillow in two threads: every file to RGB pixels and nothing else. The mean square of the values made tells
whether all do the same work.
"""

import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import NotRunError, Pace
from bench.peers import peer

BATCH, SIDE = 32, 224
MEAN, STD = (0.66, 0.64, 0.68), (0.25, 0.25, 0.22)


def unpack(folder: Path) -> list[Path]:
    """The pictures as files in two class folders."""
    data = Path(os.environ.get("LAYERWISE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    source = data / "detection" / "bccd" / "BCCD.zip"
    if not source.is_file():
        raise NotRunError(f"{source} is not here")
    made: list[Path] = []
    with zipfile.ZipFile(source) as archive:
        for place, name in enumerate(sorted(n for n in archive.namelist() if n.endswith(".jpg"))):
            path = folder / ("even", "odd")[place % 2] / Path(name).name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(archive.read(name))
            made.append(path)
    return made


def _run(pace: Pace, epochs: Iterator[Iterator[Tensor]], note: str) -> None:
    """Go through epochs; the first one is warm-up and gives the check."""
    squares, count = 0.0, 0
    for images in next(epochs):
        if not count:
            pace.first()
        squares, count = squares + images.square().sum().item(), count + images.numel()
    pace.ready(squares / count, note)
    for epoch in epochs:
        pace.window(sum(len(images) for images in epoch))


def _feed(pace: Pace, source: str, note: str) -> None:
    from layerwise.core.config import parse
    from layerwise.data.feed import Feed
    from layerwise.data.image_folder import ImageFolder, ImageFolderConfig
    from layerwise.tasks.preprocessing import Normalise

    torch.use_deterministic_algorithms(True)
    with tempfile.TemporaryDirectory() as folder:
        unpack(Path(folder))
        augment: list[Any] = [{"name": "random_resized_crop", "source": source}, "flip"]
        config = parse(ImageFolderConfig, {"root": folder, "size": [SIDE, SIDE], "augment": augment})
        train = ImageFolder(config).splits().train
        assert train is not None
        normalise = Normalise(MEAN, STD)
        feed = Feed(
            train,
            lambda batch: {"images": normalise(batch["image"])},
            batch_size=BATCH,
            transforms=[each.build() for each in config.augment],
            prefetch=train.decodes,
        )

        def epochs() -> Iterator[Iterator[Tensor]]:
            while True:
                yield (feed.next_step()[0]["images"] for _ in range(feed.steps_per_epoch))

        _run(pace, epochs(), note)


def ours(pace: Pace) -> None:
    """Decoded for every batch."""
    _feed(pace, "file", "hashed draws")


def ours_in_memory(pace: Pace) -> None:
    """Decoded once, to 224 x 224."""
    _feed(pace, "picture", "hashed draws, pictures of 224 x 224 kept")


def loader(pace: Pace) -> None:
    """torchvision's folder and transforms in a DataLoader."""
    transforms, datasets = peer("torchvision.transforms"), peer("torchvision.datasets")
    steps = [
        transforms.RandomResizedCrop(SIDE),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    with tempfile.TemporaryDirectory() as folder:
        unpack(Path(folder))
        data = datasets.ImageFolder(folder, transforms.Compose(steps))
        batches = torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=2, persistent_workers=True)

        def epochs() -> Iterator[Iterator[Tensor]]:
            while True:
                yield (batch[0] for batch in batches)

        _run(pace, epochs(), "2 workers")


def decoder(pace: Pace) -> None:
    """Pillow alone."""
    from PIL import Image

    def decode(content: bytes) -> int:
        with Image.open(io.BytesIO(content)) as opened:
            return opened.convert("RGB").width

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        contents = [path.read_bytes() for path in unpack(Path(folder))]
        assert set(pool.map(decode, contents)) == {640}
        pace.first()
        pace.ready(note="whole pictures, 2 threads")
        while True:
            pace.window(len(list(pool.map(decode, contents))))


LOADER, DECODER = "DataLoader, torchvision", "Pillow's decoder alone"
PICTURE = ("pictures/s", 1.0)

WORKLOAD = Workload(
    title="a folder of JPEGs of 640 x 480 to batches of 32 at 224 x 224, random windows, mirrored, normalised",
    unit="picture",
    launches=1,
    turns=6,
    contenders=(
        Contender(name=OURS, run="bench.jpeg_folder:ours", rate=PICTURE),
        Contender(name=LOADER, run="bench.jpeg_folder:loader", rate=PICTURE),
        Contender(name=DECODER, run="bench.jpeg_folder:decoder", rate=PICTURE),
        Contender(name=f"{OURS}, in memory", run="bench.jpeg_folder:ours_in_memory", rate=PICTURE),
    ),
    goals=(
        Goal(peers=(LOADER,), kind="speedup", value=1.3),
        Goal(peers=(DECODER,), kind="speedup", value=0.9),
    ),
)
