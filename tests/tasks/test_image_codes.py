"""Metrics of codes against direct counts; pictures of the report."""

import math
from pathlib import Path

import pytest
import torch

from layerwise.data.examples import Splits, TensorExamples
from layerwise.models.generative.vq_vae import PRESETS, VQVAE
from layerwise.tasks.image_codes import ImageCodes, ImageCodesConfig


def make_task(count: int = 30) -> tuple[ImageCodes, Splits]:
    image = torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    splits = Splits(train=TensorExamples({"image": image}), val=TensorExamples({"image": image}))
    task = ImageCodes(ImageCodesConfig())
    task.bind(splits)
    return task, splits


def make_vq_vae() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(PRESETS["vq-vae-tiny"]).eval()


def test_metrics_are_direct_counts_and_do_not_depend_on_batches() -> None:
    task, splits = make_task()
    net, whole, halves = make_vq_vae(), task.accumulator(), [task.accumulator() for _ in range(2)]
    assert splits.val is not None
    batch = task.inputs(splits.val.collate(torch.arange(30)))
    with torch.no_grad():
        whole.update(net, batch)
        for part, ids in zip(halves, torch.arange(30).split(20), strict=True):
            part.update(net, {name: value[ids] for name, value in batch.items()})
        made = net(batch["images"])
    halves[0].merge([part.state() for part in halves])
    found = whole.compute()
    codes = made.codes.flatten().tolist()
    shares = [codes.count(k) / len(codes) for k in set(codes)]
    assert found["codes_used"] == pytest.approx(len(set(codes)) / 6)
    assert found["perplexity"] == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    wanted = (made.reconstruction - batch["images"]).square().sum().item() / 30
    assert found["squared_error"] == pytest.approx(wanted, rel=1e-4)
    assert found["frechet_distance"] > 0
    assert halves[0].compute() == pytest.approx(found, rel=1e-6)


def test_report_has_samples_and_reconstructions(tmp_path: Path) -> None:
    task, splits = make_task()
    found = task.pictures(make_vq_vae(), splits, tmp_path)
    assert [path.name for _, path in found] == ["generated.png", "real.png", "reconstructions.png"]
    assert all(path.is_file() for _, path in found)
