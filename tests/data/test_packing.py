"""Packing: what a row holds, that a pass is a function of seed and epoch, that nothing changes in the loss."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.examples import Subset
from layerwise.data.feed import Feed
from layerwise.data.packing import FILLING, MemoryTokens, PackedDocuments, best_fit
from layerwise.models.language.gpt import GPT, GPTConfig
from layerwise.objectives.autoregressive import Autoregressive, AutoregressiveConfig
from layerwise.objectives.base import Context
from layerwise.ops.random import Draws


def documents(count: int = 40, most: int = 12, seed: int = 0) -> list[Tensor]:
    draw = random.Random(seed)
    return [torch.tensor([draw.randrange(1, 30) for _ in range(draw.randrange(1, most))]) for _ in range(count)]


def packed(seq_len: int = 16, **options: bool) -> PackedDocuments:
    return PackedDocuments(MemoryTokens(documents()), seq_len, **options)


def runs(rows: dict[str, Tensor]) -> list[list[int]]:
    """Tokens of every document of every row."""
    found: list[list[int]] = []
    for tokens, numbers in zip(rows["tokens"].tolist(), rows["documents"].tolist(), strict=True):
        for number in dict.fromkeys(numbers):
            if number != FILLING:
                found.append([t for t, n in zip(tokens, numbers, strict=True) if n == number])
    return found


# Best fit with the longest first needs at most 11/9 of the fewest rows and one more (Johnson et al. 1974); where the
# longest fill half a row, nearly the fewest.
@pytest.mark.parametrize(("longest", "factor"), [(64, 11 / 9), (32, 1.01)])
def test_best_fit_leaves_little_room_and_never_too_little(longest: int, factor: float) -> None:
    draw = random.Random(1)
    lengths = sorted((draw.randrange(1, longest + 1) for _ in range(2_000)), reverse=True)
    found = best_fit(lengths, 64)
    rows = [found.row(number) for number in range(len(found))]
    assert sorted(place for row in rows for place in row) == list(range(2_000))
    assert max(sum(lengths[place] for place in row) for row in rows) <= 64
    assert len(rows) <= 1 + factor * sum(lengths) / 64


@pytest.mark.parametrize("epoch", [None, 0, 1])
def test_every_document_stands_in_one_row_whole_and_alone(epoch: int | None) -> None:
    examples = packed(next_token=False)
    rows = (examples if epoch is None else examples.at_epoch(3, epoch)).collate(torch.arange(len(examples)))
    assert sorted(runs(rows)) == sorted(each.tolist() for each in documents())
    assert bool((rows["tokens"][rows["documents"] == FILLING] == 0).all())


def test_labels_are_the_next_tokens_of_the_same_document() -> None:
    examples = packed()
    rows = examples.collate(torch.arange(len(examples)))
    for tokens, labels, numbers in zip(rows["tokens"], rows["labels"], rows["documents"], strict=True):
        for t in range(16):
            inside = t + 1 < 16 and numbers[t] == numbers[t + 1] != FILLING
            assert int(labels[t]) == (int(tokens[t + 1]) if inside else -100)


def test_a_long_document_is_cut_and_loses_no_target() -> None:
    text = torch.arange(1, 11)
    examples = PackedDocuments(MemoryTokens([text, torch.tensor([20])]), 4)
    rows = examples.collate(torch.arange(len(examples)))
    pairs = [(int(a), int(b)) for a, b in zip(rows["tokens"].flatten(), rows["labels"].flatten(), strict=True)]
    assert sorted(pair for pair in pairs if pair[1] != -100) == [(i, i + 1) for i in range(1, 10)]


def test_passes_differ_have_equally_many_rows_and_are_functions_of_seed_and_epoch() -> None:
    examples = packed()
    all_ = torch.arange(len(examples))
    one, same, other, seeded = (
        examples.at_epoch(seed, epoch).collate(all_)["tokens"] for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, seeded)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_feed_goes_on_exactly_where_it_stopped(stop: int) -> None:
    def feed() -> Feed:
        examples = packed()
        return Feed(
            Subset(examples, torch.arange(len(examples))), lambda b: b, batch_size=4, micro_batch_size=3, seed=7
        )

    whole = feed()
    wanted = [whole.next_step() for _ in range(3 * whole.steps_per_epoch)]
    broken = feed()
    for _ in range(stop):
        broken.next_step()
    resumed = feed()
    resumed.load(broken.state())
    for step in wanted[stop:]:
        for got, want in zip(resumed.next_step(), step, strict=True):
            assert all(torch.equal(got[name], want[name]) for name in want)
    passes = [wanted[i * whole.steps_per_epoch : (i + 1) * whole.steps_per_epoch] for i in range(3)]
    texts = [sorted(run for step in each for part in step for run in runs(part)) for each in passes]
    assert texts[0] == texts[1] == texts[2]  # each pass has every document once


def test_loss_and_gradients_of_packed_rows_are_those_of_separate_documents() -> None:
    torch.manual_seed(0)
    network = GPT(GPTConfig(vocab_size=30, max_seq_len=16, d_model=16, num_layers=2, num_heads=2, dropout=0.0)).double()
    objective = Autoregressive(AutoregressiveConfig())
    context = Context(step=0, epoch=0, phase="main", draws=Draws(0))
    examples = packed()
    rows = examples.at_epoch(0, 5).collate(torch.arange(len(examples)))
    together = objective(network, rows, context)["nll"]
    grads = torch.autograd.grad(together.sum, list(network.parameters()))
    total, count, sums = 0.0, 0.0, [torch.zeros_like(grad) for grad in grads]
    for document in documents():
        if len(document) > 1:
            alone = {"tokens": document[None, :-1], "labels": document[None, 1:], "sample_ids": torch.zeros(1)}
            term = objective(network, alone, context)["nll"]
            total, count = total + float(term.sum.detach()), count + term.count
            for running, grad in zip(sums, torch.autograd.grad(term.sum, list(network.parameters())), strict=True):
                running += grad
    assert (float(together.sum.detach()), together.count) == (pytest.approx(total, abs=1e-9), count)
    for got, want in zip(grads, sums, strict=True):
        torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)


def test_documents_without_a_next_token_are_named() -> None:
    with pytest.raises(DataError, match="No document has 2 tokens"):
        PackedDocuments(MemoryTokens([torch.tensor([1])]), 4)


def test_rows_are_read_from_arrays_of_few_bits_as_from_memory() -> None:
    store = MemoryTokens(documents())
    wanted = PackedDocuments(store, 16).collate(torch.arange(3))
    store.tokens = store.tokens.astype(np.uint16)
    got = PackedDocuments(store, 16).collate(torch.arange(3))
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)
