"""Measures in a classifier's features against direct computation; pictures of what samples resemble."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from layerwise.api.models import create_model
from layerwise.core.errors import UnsupportedError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.models.generative.dcgan import DCGAN
from layerwise.models.generative.dcgan import PRESETS as DCGANS
from layerwise.models.vision.convnet import ConvNet, ConvNetConfig
from layerwise.tasks.image_classification import ImageClassification, ImageClassificationConfig
from layerwise.tasks.image_codes import ImageCodes, ImageCodesConfig
from layerwise.tasks.image_generation import ImageGeneration, ImageGenerationConfig, make_pictures
from layerwise.tasks.judge import Judge, JudgedMetrics

SIZE = 8


def make_pictures_like(count: int, seed: int, size: int = SIZE, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, size, size), generator=generator, dtype=torch.uint8)


def make_judge(border: int = 0, channels: int = 1) -> Judge:
    torch.manual_seed(0)
    network = ConvNet(ConvNetConfig(num_classes=2, in_channels=channels, widths=(8,), depth=1, num_groups=1)).eval()
    task = ImageClassification(ImageClassificationConfig(normalise="unit"))
    labels = torch.tensor([0, 1] * 5)
    columns = {"image": make_pictures_like(10, 9, channels=channels), "labels": labels}
    task.bind(Splits(train=TensorExamples(columns), facts={"num_classes": 2}))
    return Judge(network, task, "mine", "f00d", border)


def plain_features(judge: Judge, pictures: Tensor) -> np.ndarray:
    """The network's features of pictures as it was trained on them, one by one."""
    network = judge.network
    assert isinstance(network, ConvNet)
    with torch.no_grad():
        rows = [network.forward_features(picture[None].float() / 255)[0] for picture in pictures]
    return torch.stack(rows).double().numpy()


def test_features_are_those_of_the_network_on_its_own_inputs() -> None:
    judge, pictures = make_judge(), make_pictures_like(5, 1)
    assert judge.features(pictures).numpy() == pytest.approx(plain_features(judge, pictures), rel=1e-5, abs=1e-6)


def test_padding_is_cut_off() -> None:
    judge, pictures = make_judge(), make_pictures_like(5, 1)
    padded = nn.functional.pad(pictures, [2] * 4, value=255)
    assert torch.equal(make_judge(border=2).features(padded), judge.features(pictures))
    assert not torch.allclose(judge.features(padded), judge.features(pictures), atol=1e-3)


def test_other_sizes_and_channels_are_brought_to_the_classifiers() -> None:
    grey = make_pictures_like(4, 1)
    assert torch.equal(make_judge().features(grey.expand(-1, 3, -1, -1)), make_judge().features(grey))
    colour = make_judge(channels=3)
    assert torch.equal(colour.features(grey), colour.features(grey.repeat(1, 3, 1, 1)))
    doubled = torch.full((2, 1, 2 * SIZE, 2 * SIZE), 100, dtype=torch.uint8)
    assert torch.equal(make_judge().features(doubled), make_judge().features(doubled[:, :, :SIZE, :SIZE]))


def test_large_pictures_are_looked_at_a_few_at_a_time() -> None:
    """As many pixels as 256 pictures of 128 x 128, and one picture in any case."""
    judge = make_inception(published=True)
    seen: list[int] = []
    judge.network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    judge.recognise(make_pictures_like(60, 1))
    assert seen == [4_194_304 // 299**2, 60 - 4_194_304 // 299**2]
    assert make_judge()._at_once == 256


def test_a_network_without_features_cannot_judge() -> None:
    task = make_judge().task
    with pytest.raises(UnsupportedError, match=r"task\.judge=mine.*forward_features"):
        Judge(make_gan(), task, "mine", "")


def test_measures_equal_direct_computation() -> None:
    judge, real, made = make_judge(), make_pictures_like(60, 1), make_pictures_like(60, 2) // 2 + 60
    training = TensorExamples({"image": make_pictures_like(70, 3)})
    metrics = JudgedMetrics(judge, 50, training)
    for part in range(0, 60, 20):
        metrics.update_from(real[part : part + 20], made[part : part + 20])
    found = metrics.compute()
    x, y, t = (plain_features(judge, p) for p in (real[:50], made[:50], training.columns["image"]))
    c1, c2 = np.cov(x.T, ddof=0), np.cov(y.T, ddof=0)
    distance = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(c1 + c2)
    distance -= 2 * np.sqrt(np.linalg.eigvals(c1 @ c2).real.clip(0)).sum()
    assert found["feature_distance"] == pytest.approx(distance, rel=1e-4)

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return math.dist(a.tolist(), b.tolist())

    def among(points: np.ndarray, held: np.ndarray) -> float:
        radii = [sorted(apart(h, o) for j, o in enumerate(held) if j != i)[2] for i, h in enumerate(held)]
        return sum(any(apart(p, h) <= r for h, r in zip(held, radii, strict=True)) for p in points) / len(points)

    assert (found["precision"], found["recall"]) == pytest.approx((among(y, x), among(x, y)))
    nearest = [sorted(min(apart(p, h) for h in t) for p in points)[24] for points in (y, x)]  # the lower median
    assert found["nearest_ratio"] == pytest.approx(nearest[0] / nearest[1], rel=1e-4)
    table = metrics.table()
    some = t[np.linspace(0, 69, 50).round().astype(int)]
    c3 = np.cov(some.T, ddof=0)
    floor = np.square(x.mean(0) - some.mean(0)).sum() + np.trace(c1 + c3)
    floor -= 2 * np.sqrt(np.linalg.eigvals(c1 @ c3).real.clip(0)).sum()
    assert table.pop("feature_distance_of_training") == pytest.approx(floor, rel=1e-4)
    assert table == {"judge": "mine", "judge_fingerprint": "f00d", "judged": 50, "judged_neighbours": 3}


def make_inception(seed: int = 0, **options: bool) -> Judge:
    """The form of the Frechet Inception distance with few maps."""
    torch.manual_seed(seed)
    network = create_model("inception_v3-fid", width=1 / 32, num_classes=4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(0.5, 1.0)
    task = ImageClassification(ImageClassificationConfig(normalise="symmetric"))
    columns = {"image": make_pictures_like(4, 9, channels=3), "labels": torch.tensor([0, 1] * 2)}
    task.bind(Splits(train=TensorExamples(columns), facts={"num_classes": 2}))
    return Judge(network, task, "fid", "f1d", **options)


@torch.no_grad()
def inception_features(network: nn.Module, pictures: Tensor) -> np.ndarray:
    """Bytes to features as the published definition has it, of pictures of 8 x 8 pixels one by one and by hand."""
    rows: list[Tensor] = []
    for picture in pictures.double():
        places = ((torch.arange(299, dtype=torch.float64) + 0.5) * SIZE / 299 - 0.5).clamp(min=0)
        low = places.floor().long()
        high, share = (low + 1).clamp(max=SIZE - 1), places - low
        x = picture.expand(3, -1, -1) / 255
        x = x[:, low] * (1 - share)[:, None] + x[:, high] * share[:, None]
        x = x[:, :, low] * (1 - share) + x[:, :, high] * share
        rows.append(network.forward_features((2 * x - 1)[None])[0])  # pyright: ignore[reportCallIssue]
    return torch.stack(rows).numpy()


def test_inception_is_shown_numbers_resized_as_published() -> None:
    """Bilinear at the centres of pixels, neither antialiased nor rounded to bytes; grey is repeated."""
    judge, grey = make_inception(published=True), make_pictures_like(3, 1)
    got = judge.features(grey).double().numpy()
    wanted = inception_features(copy.deepcopy(judge.network).double(), grey)
    assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)
    assert torch.equal(judge.features(grey.repeat(1, 3, 1, 1)), judge.features(grey))
    padded = nn.functional.pad(grey, [2] * 4, value=255)
    judge.border = 2
    assert torch.equal(judge.features(padded), torch.from_numpy(got).float())


def test_the_frechet_inception_distance_is_its_authors_formula() -> None:
    """`scipy.linalg.sqrtm` of the product of the covariances of `numpy.cov`, which divides by N - 1. Features that are
    the same in all pictures add nothing, and scipy's matrices are not singular without them.
    """
    linalg = pytest.importorskip("scipy.linalg")
    judge, real, made = make_inception(published=True), make_pictures_like(150, 1), make_pictures_like(150, 2) // 2 + 60
    metrics = JudgedMetrics(judge, 150)
    metrics.update_from(real, made)
    x, y = (judge.features(pictures).double().numpy() for pictures in (real, made))
    constant = np.concatenate([x, y]).std(0) == 0
    x, y = x[:, ~constant], y[:, ~constant]
    assert x.shape[1] > 50
    c1, c2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(c1 @ c2)
    wanted = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(c1 + c2 - 2 * root.real)
    found = metrics.compute()["feature_distance"]
    assert found == pytest.approx(wanted, rel=1e-4)
    divided_by_n = wanted - np.trace(c1 + c2 - 2 * root.real) / 150
    assert found != pytest.approx(divided_by_n, rel=1e-4)


def test_a_judge_keeps_float32_where_the_judged_network_computes_in_less() -> None:
    judge, pictures = make_judge(), make_pictures_like(5, 1)
    with torch.autocast("cpu", torch.bfloat16):
        features, seen = judge.features(pictures), judge.recognise(pictures)
    assert torch.equal(features, judge.features(pictures))
    assert torch.equal(seen, judge.recognise(pictures))


def test_so_many_training_pictures_are_held_against_as_were_asked_for() -> None:
    task, splits = make_task(judged_training=9)
    assert task.judge is not None
    assert splits.train is not None
    task.judge.most_training = 9
    task.concludes = True
    assert task.judge.training_places(splits.train).tolist() == [round(42 * i / 8) for i in range(9)]
    metrics, _ = evaluate(task, splits, make_gan())
    assert metrics["nearest_ratio"] > 0
    assert len(task.judge.training_features(splits.train)) == 9


def test_without_training_pictures_nobody_looks_for_copies(tmp_path: Path) -> None:
    task, splits = make_task(judged_training=0)
    task.concludes = True
    metrics, table = evaluate(task, splits, make_gan())
    assert "nearest_ratio" not in metrics
    assert "feature_distance_of_training" not in table
    shown = {path.name for _, path in task.pictures(make_gan(), splits, tmp_path)}
    assert shown == {"generated.png", "real.png"}


def test_merged_processes_equal_one() -> None:
    judge, real, made = make_judge(), make_pictures_like(30, 1), make_pictures_like(30, 2)
    whole, parts = JudgedMetrics(judge, 99), [JudgedMetrics(judge, 99) for _ in range(3)]
    whole.update_from(real, made)
    parts[0].update_from(real[:20], made[:20])
    parts[1].update_from(real[20:], made[20:])
    merged = JudgedMetrics(judge, 99)
    merged.merge([part.state() for part in parts])
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-9)
    assert parts[2].compute() == {}


def test_real_pictures_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, real = make_judge(), make_pictures_like(20, 1)
    seen: list[int] = []
    plain = judge.features
    monkeypatch.setattr(judge, "features", lambda pictures: (seen.append(len(pictures)), plain(pictures))[1])
    for seed in range(3):
        JudgedMetrics(judge, 20).update_from(real, make_pictures_like(10, seed))
    assert seen == [10, 10, 10, 10]  # the real ones, and three times what was made
    JudgedMetrics(judge, 20).update_from(make_pictures_like(20, 5), make_pictures_like(10, 0))
    assert len(seen) == 6  # other real ones


def make_task(count: int = 40, **options: object) -> tuple[ImageGeneration, Splits]:
    """A task with a judge; the training part begins with what the network makes."""
    task = ImageGeneration(ImageGenerationConfig(judge="mine", components=4, **options))  # pyright: ignore[reportArgumentType]
    copied = make_pictures(make_gan(), 3, 0)
    train = torch.cat([make_pictures_like(count, 3), copied])
    splits = Splits(train=TensorExamples({"image": train}), val=TensorExamples({"image": make_pictures_like(20, 4)}))
    task.bind(splits)
    task.judge = make_judge()
    return task, splits


def make_gan() -> DCGAN:
    torch.manual_seed(0)
    return DCGAN(DCGANS["dcgan-tiny"]).eval()


def evaluate(task: ImageGeneration, splits: Splits, network: nn.Module) -> tuple[dict[str, float], dict[str, object]]:
    assert splits.val is not None
    with torch.no_grad():
        return task.evaluate(network, [task.inputs(splits.val.collate(torch.arange(20)))])


def test_the_last_evaluation_makes_what_is_judged_and_looks_for_copies() -> None:
    task, splits = make_task(evaluated=6, judged=15)
    assert task.monitor == ("feature_distance", "min")
    metrics, table = evaluate(task, splits, make_gan())
    assert (table["made"], table["judged"]) == (6, 6)
    assert "nearest_ratio" not in metrics
    task.concludes = True
    metrics, table = evaluate(task, splits, make_gan())
    assert (table["made"], table["judged"]) == (15, 15)
    assert metrics["nearest_ratio"] > 0
    assert {"feature_distance", "precision", "recall", "frechet_distance", "diversity"} <= set(metrics)


def test_evaluating_without_the_judge_that_was_asked_for_is_an_error() -> None:
    task, _ = make_task()
    task.judge = None
    with pytest.raises(RuntimeError, match=r"task\.judge=mine"):
        task.accumulator()


def test_the_report_shows_a_copy_beside_its_original_first(tmp_path: Path) -> None:
    task, splits = make_task()
    task.concludes = True
    evaluate(task, splits, make_gan())
    found = {path.name: caption for caption, path in task.pictures(make_gan(), splits, tmp_path)}
    assert {"generated.png", "real.png", "nearest_training.png", "nearest_distances.png"} == set(found)
    with Image.open(tmp_path / "nearest_training.png") as grid:
        pixels = np.asarray(grid)
    side = 5 * SIZE  # of a picture enlarged to 40 pixels
    tiles = [pixels[:side, left : left + side] for left in range(0, 12 * (side + 2), side + 2)]
    for pair in range(3):  # the three that were copied
        assert np.array_equal(tiles[2 * pair], tiles[2 * pair + 1])
    assert not np.array_equal(tiles[6], tiles[7])


def test_codes_are_judged_too() -> None:
    task = ImageCodes(ImageCodesConfig(judge="mine", judged=5, evaluated=7))
    assert (task.config.judge, task.config.judged, task.config.evaluated) == ("mine", 5, 7)
    assert task.monitor == ("feature_distance", "min")
