"""Mixing against written-out pixels, its split independence, and the distribution of its shares."""

import math

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Batch, TensorExamples
from layerwise.data.feed import Feed
from layerwise.data.mixing import CutMix, CutMixConfig, MixUp, MixUpConfig, beta_quantile
from layerwise.data.transforms import Flip, FlipConfig
from layerwise.objectives.base import Context
from layerwise.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
from layerwise.ops.random import Draws


def pictures(count: int, size: tuple[int, int] = (8, 10)) -> tuple[Batch, Batch]:
    """A batch and its mates."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2 * count, 3, *size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 5, (2 * count,), generator=generator)
    ids = torch.arange(2 * count)
    whole = {"image": image, "labels": labels, "sample_ids": ids}
    return {k: v[:count] for k, v in whole.items()}, {k: v[count:] for k, v in whole.items()}


def test_mixup_is_the_weighted_mean() -> None:
    batch, mates = pictures(16)
    mixed = MixUp(MixUpConfig(alpha=1.0))(batch, mates, Draws(0))
    share = mixed["own_share"][:, None, None, None]
    expected = share * batch["image"].double() + (1 - share) * mates["image"].double()
    assert float((mixed["image"].double() - expected).abs().max()) <= 0.5 + 1e-4  # rounded to a grey level
    assert torch.equal(mixed["labels"], batch["labels"])
    assert torch.equal(mixed["mate_labels"], mates["labels"])


def test_cutmix_takes_one_box_and_its_share_of_the_label() -> None:
    batch, mates = pictures(64)
    mixed = CutMix(CutMixConfig())(batch, mates, Draws(0))
    for own, other, image, share in zip(
        batch["image"], mates["image"], mixed["image"], mixed["own_share"], strict=True
    ):
        foreign = (image != own).any(0)
        if not foreign.any():
            continue
        rows, columns = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
        box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        assert torch.equal(image[:, box[0], box[1]], other[:, box[0], box[1]])
        inside = torch.zeros_like(foreign)
        inside[box] = True
        # A border line of the box may equal the own picture in all pixels by chance, hardly ever with three channels.
        assert float(share) == pytest.approx(1 - float(inside.double().mean()), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_beta_distributed(alpha: float) -> None:
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)); 2^14 draws: the tolerance is over five standard errors.
    u = Draws(0).uniform(torch.arange(1 << 14), (), "test", torch.float64)
    shares = beta_quantile(u, alpha)
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_a_second_mixing_leaves_what_the_first_took() -> None:
    batch, mates = pictures(256, (4, 4))
    first = MixUp(MixUpConfig(alpha=1.0, probability=0.5))(batch, mates, Draws(0))
    both = CutMix(CutMixConfig())(first, mates, Draws(0))
    taken = first["own_share"] < 1
    assert 90 < int(taken.sum()) < 166  # 128 +- 4.7 deviations of 8
    assert torch.equal(both["image"][taken], first["image"][taken])
    assert torch.equal(both["own_share"][taken], first["own_share"][taken])
    assert bool((both["own_share"][~taken] < 1).any())


@pytest.mark.parametrize("micro", [None, 3, 1])
@pytest.mark.parametrize("world", [1, 2])
def test_mixed_batches_do_not_depend_on_how_they_are_split(micro: int | None, world: int) -> None:
    batch, mates = pictures(10)
    examples = TensorExamples({k: torch.cat([batch[k], mates[k]]) for k in ("image", "labels")})

    def steps(micro: int | None, world: int) -> list[dict[int, tuple[Tensor, float, int]]]:
        feeds = [
            Feed(
                examples,
                lambda raw: raw,
                batch_size=8,
                micro_batch_size=micro,
                transforms=[Flip(FlipConfig()), MixUp(MixUpConfig(alpha=1.0, probability=0.5)), CutMix(CutMixConfig())],
                rank=rank,
                world_size=world,
            )
            for rank in range(world)
        ]
        found = []
        for _ in range(4):
            step: dict[int, tuple[Tensor, float, int]] = {}
            for feed in feeds:
                for part in feed.next_step():
                    rows = zip(*(part[k] for k in ("sample_ids", "image", "own_share", "mate_labels")), strict=True)
                    step |= {int(i): (image, float(share), int(mate)) for i, image, share, mate in rows}
            found.append(step)
        return found

    for whole, split in zip(steps(None, 1), steps(micro, world), strict=True):
        assert whole.keys() == split.keys()
        for key, (image, share, mate) in whole.items():
            assert torch.equal(image, split[key][0])
            assert (share, mate) == split[key][1:]


def test_loss_of_mixed_samples_is_the_mixture_of_two_losses() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 3, dtype=torch.float64)
    batch = {
        "images": logits,
        "labels": torch.tensor([0, 1, 2, 1]),
        "mate_labels": torch.tensor([2, 1, 0, 0]),
        "own_share": torch.tensor([0.25, 1.0, 0.5, 0.9], dtype=torch.float64),
        "sample_ids": torch.arange(4),
    }
    weights = (1.0, 2.0, 0.5)
    objective = CrossEntropy(CrossEntropyConfig(class_weights=weights))
    context = Context(step=0, epoch=0, phase="main", draws=Draws(0))

    class Given(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images

    term = objective(Given(), batch, context)["cross_entropy"]
    total = count = 0.0
    for row, own, mate, share in zip(
        logits.tolist(),
        batch["labels"].tolist(),
        batch["mate_labels"].tolist(),
        batch["own_share"].tolist(),
        strict=True,
    ):
        norm = math.log(sum(math.exp(value) for value in row))
        for label, part in ((own, share), (mate, 1 - share)):
            total += part * weights[label] * (norm - row[label])
            count += part * weights[label]
    assert float(term.sum) == pytest.approx(total, abs=1e-10)
    assert term.count == pytest.approx(count, abs=1e-12)


def test_mixing_comes_last() -> None:
    examples = TensorExamples({"image": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "labels": torch.zeros(2).long()})
    with pytest.raises(ConfigError, match="come last"):
        Feed(examples, lambda raw: raw, batch_size=2, transforms=[MixUp(MixUpConfig()), Flip(FlipConfig())])


def test_data_without_classes_is_refused() -> None:
    batch, mates = pictures(2)
    del batch["labels"]
    with pytest.raises(DataError, match="mixup mixes pictures with a class each"):
        MixUp(MixUpConfig())(batch, mates, Draws(0))
