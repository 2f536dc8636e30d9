"""The feed: steps collated together equal steps collated one by one, whatever the columns."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from layerwise.core.config import parse_component
from layerwise.core.errors import ConfigError
from layerwise.data import feed as module
from layerwise.data.examples import Batch, Subset, TensorExamples
from layerwise.data.feed import Feed, alike_order, in_streams, stream_order
from layerwise.data.token_windows import TokenWindows


def pictures(count: int = 50) -> TensorExamples:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (count, 2, 9, 8), dtype=torch.uint8, generator=generator)
    return TensorExamples({"image": image, "labels": torch.arange(count)})


def make(examples: Any, **options: Any) -> Feed:
    transforms = [parse_component("transform", {"name": name}, "t").build() for name in ("shift", "flip")]
    return Feed(examples, lambda batch: {**batch, "image": batch["image"].float()}, transforms=transforms, **options)


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 8}, {"batch_size": 8, "micro_batch_size": 3}, {"batch_size": 7, "rank": 1, "world_size": 2}],
)
def test_steps_together_are_the_steps_one_by_one(options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    together = make(pictures(), **options)
    found = [together.next_step() for _ in range(15)]
    assert together._together is not None
    assert together._together > 3
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1)
    alone = make(pictures(), **options)
    for step in found:
        expected = alone.next_step()
        assert len(step) == len(expected)
        for a, b in zip(step, expected, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)
    assert alone._together == 1


@pytest.mark.parametrize("position", [1, 5, 6, 9])
def test_a_restored_feed_gives_the_same_steps(position: int) -> None:
    straight = make(pictures(), batch_size=8)
    steps = [straight.next_step() for _ in range(14)]
    feed = make(pictures(), batch_size=8)
    feed.load({"position": position, "micro_batch_size": None, "length": 50, "batch_size": 8})
    for expected in steps[position:]:
        for a, b in zip(feed.next_step(), expected, strict=True):
            assert all(torch.equal(a[name], b[name]) for name in b)


class Ragged(TensorExamples):
    """Two boxes for even samples, one for odd ones: rows that are not samples."""

    def collate(self, indices: Tensor) -> Batch:
        batch = super().collate(indices)
        owners = torch.cat([torch.full((2 - i % 2,), k) for k, i in enumerate(indices.tolist())])
        return {**batch, "box_sample": owners}


def test_ragged_columns_are_collated_step_by_step() -> None:
    base = pictures()
    feed = Feed(Ragged(base.columns), lambda batch: batch, batch_size=4)
    for _ in range(5):
        (batch,) = feed.next_step()
        assert int(batch["box_sample"].max()) == 3
        assert feed._together == 1


def test_smaller_gives_the_last_steps_again_in_halves() -> None:
    feed = make(pictures(), batch_size=8)
    steps = [feed.next_step() for _ in range(3)]
    again = feed.smaller(2)
    for (whole,), parts in zip(steps[1:], again, strict=True):
        assert [len(part["labels"]) for part in parts] == [4, 4]
        assert torch.equal(torch.cat([part["image"] for part in parts]), whole["image"])
    assert [len(part["labels"]) for part in feed.next_step()] == [4, 4]


def test_a_last_sample_alone_joins_the_step_before() -> None:
    """Batch statistics of one sample do not exist: torch refuses it."""
    feed = make(pictures(), batch_size=7)  # 50 = 7 * 7 + 1
    sizes = [sum(len(part["sample_ids"]) for part in feed.next_step()) for _ in range(feed.steps_per_epoch)]
    assert sizes == [7] * 6 + [8]
    split = make(pictures(), batch_size=9, micro_batch_size=4)
    assert [len(part["sample_ids"]) for part in split.next_step()] == [4, 5]
    single = make(pictures(), batch_size=1)
    assert single.steps_per_epoch == 50


def test_batches_of_like_lengths_hold_every_example_once() -> None:
    lengths = torch.randint(1, 50, (1003,), generator=torch.Generator().manual_seed(0))
    order = alike_order(lengths, 8, seed=5, epoch=2)
    assert torch.equal(order.sort().values, torch.arange(1003))
    spread = torch.stack([lengths[ids].max() - lengths[ids].min() for ids in order[:1000].view(-1, 8)])
    assert float(spread.double().mean()) < 2  # a random batch of eight has about 38 between its ends
    first = torch.stack([lengths[ids].double().mean() for ids in order[:1000].view(-1, 8)])
    assert float((first[1:] >= first[:-1]).double().mean()) == pytest.approx(0.5, abs=0.15)  # in no order of length


def test_order_by_length_depends_on_seed_and_epoch_alone() -> None:
    lengths = torch.randint(1, 50, (100,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(alike_order(lengths, 8, 1, 2), alike_order(lengths, 8, 1, 2))
    assert not torch.equal(alike_order(lengths, 8, 1, 2), alike_order(lengths, 8, 1, 3))
    assert not torch.equal(alike_order(lengths, 8, 1, 2), alike_order(lengths, 8, 2, 2))


def test_examples_that_fill_no_batch_are_not_the_longest_ones_every_time() -> None:
    lengths = torch.arange(21)
    last = {tuple(sorted(alike_order(lengths, 4, 0, epoch)[20:].tolist())) for epoch in range(20)}
    assert len(last) > 5


def test_feed_of_like_lengths_fills_up_less() -> None:
    lengths = torch.randint(1, 50, (64,), generator=torch.Generator().manual_seed(0))
    examples = TensorExamples({"features": lengths.float()[:, None]})
    feed = Feed(examples, lambda batch: batch, batch_size=8, seed=0, lengths=lengths)
    batches = [feed.next_step()[0]["features"] for _ in range(feed.steps_per_epoch)]
    assert sum(float(batch.max() - batch.min()) for batch in batches) / 8 < 10


@pytest.mark.parametrize(("length", "streams"), [(12, 3), (13, 3), (14, 3), (5, 5), (7, 1), (2, 2)])
def test_streams_cut_the_text_into_rows_that_go_on(length: int, streams: int) -> None:
    order = stream_order(length, streams)
    assert sorted(order.tolist()) == list(range(length))
    batches = [batch.tolist() for batch in order.split(streams)]
    for before, after in itertools.pairwise(batches):
        assert [row + 1 for row in before[: len(after)]] == after
    assert batches[0][0] == 0
    parts = [len([batch for batch in batches if row < len(batch)]) for row in range(streams)]
    assert max(parts) - min(parts) <= 1


def test_a_feed_of_streams_reads_the_text_in_order_in_every_pass() -> None:
    windows = TokenWindows(torch.arange(101), 10)
    feed = Feed(windows, dict, batch_size=3, streams=True)
    assert feed.steps_per_epoch == 4  # four windows, then three
    for _ in range(2):
        rows: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for batch in (feed.next_step()[0] for _ in range(3)):
            for row, tokens in enumerate(batch["tokens"]):
                rows[row] += tokens.tolist()
        assert rows == {0: list(range(30)), 1: list(range(40, 70)), 2: list(range(70, 100))}
        assert feed.next_step()[0]["tokens"].tolist() == [list(range(30, 40))]


def test_processes_read_streams_of_their_own() -> None:
    windows = TokenWindows(torch.arange(1051), 10)  # 105 windows in 16 streams: nine of seven, seven of six
    seen: list[int] = []
    for rank in range(3):
        ends: dict[int, int] = {}
        for batch in in_streams(windows, dict, rank, 3):
            for row, start in enumerate(batch["sample_ids"].tolist()):
                assert ends.get(row, start) == start  # no other process's stream is gone on with
                ends[row] = start + 10
                seen.append(start)
    assert sorted(seen) == list(range(0, 1050, 10))


def test_streams_need_examples_that_follow_each_other() -> None:
    with pytest.raises(ConfigError, match=r"leave out task\.stride, task\.packed"):
        next(iter(in_streams(Subset(TokenWindows(torch.arange(101), 10), torch.tensor([3, 1])), dict)))
    with pytest.raises(ConfigError, match="truncated_bptt"):
        Feed(pictures(), dict, batch_size=3, streams=True)
