"""Masked texts: what is hidden and by what, that pairs are what they say, that a sample is a function of its number."""

import random

import pytest
import torch

from layerwise.core.errors import DataError
from layerwise.data.examples import Batch
from layerwise.data.masked_texts import MaskedTexts, Masking, Sentences, Vocabulary, mask_words
from layerwise.ops.linear_cross_entropy import IGNORED
from layerwise.ops.random import Draws

SIZE = 1000
VOCABULARY = Vocabulary(size=SIZE, mask=4, cls=2, sep=3, pad=0, special=(0, 1, 2, 3, 4))


def documents(count: int = 12, seed: int = 0) -> list[list[torch.Tensor]]:
    """Document k has words k * 50 + 100 to k * 50 + 149 alone, so that a word tells its document."""
    draw = random.Random(seed)
    return [
        [
            torch.tensor([100 + 50 * k + draw.randrange(50) for _ in range(draw.randrange(1, 12))])
            for _ in range(draw.randrange(1, 15))
        ]
        for k in range(count)
    ]


def samples(pairs: bool = True, **options: object) -> MaskedTexts:
    made = {"share": 0.15, "drawn": "dynamic", **options}
    return MaskedTexts(
        Sentences(documents(), most=14),
        VOCABULARY,
        max_tokens=32,
        pairs=pairs,
        masking=Masking(**made),  # pyright: ignore[reportArgumentType]
    )


def original(batch: Batch) -> torch.Tensor:
    return torch.where(batch["labels"] == IGNORED, batch["tokens"], batch["labels"])


def test_shares_are_those_of_the_paper() -> None:
    """15 % of words exactly, up to rounding; 80, 10 and 10 % of 30,000 chosen ones within five deviations."""
    tokens = torch.randint(5, SIZE, (1000, 200), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[:, 90], tokens[:, 150] = 2, 3, 1
    there = torch.arange(200) < torch.randint(1, 201, (1000, 1), generator=torch.Generator().manual_seed(1))
    hidden, labels = mask_words(tokens, there, torch.arange(1000), Draws(0), VOCABULARY, 0.15)
    chosen, words = labels != IGNORED, there & (tokens >= 5)
    assert not bool((chosen & ~words).any())
    assert torch.equal(labels[chosen], tokens[chosen])
    assert torch.equal(hidden[~chosen], tokens[~chosen])
    wanted = [min(n, max(1, round(0.15 * n))) for n in words.sum(1).tolist()]
    assert chosen.sum(1).tolist() == wanted
    count = int(chosen.sum())
    fates = {
        "mask": (hidden == 4) & chosen,
        "other": (hidden != 4) & (hidden != tokens) & chosen,
        "same": (hidden == tokens) & chosen,
    }
    for name, share in (("mask", 0.8), ("other", 0.1 * (1 - 1 / 995)), ("same", 0.1 + 0.1 / 995)):
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs(int(fates[name].sum()) / count - share) < 5 * deviation, name
    assert int(hidden[fates["other"]].min()) >= 5
    places = chosen.float().sum(0)[(tokens >= 5).all(0)][:80]  # no place is favoured
    assert float(places.max()) < 2 * float(places.mean())


@pytest.mark.parametrize("pairs", [False, True])
def test_special_tokens_stand_around_the_texts_and_are_never_hidden(pairs: bool) -> None:
    found = samples(pairs)
    batch = found.at_epoch(1, 0).collate(torch.arange(len(found)))
    there, whole = batch["mask"], original(batch)
    assert whole.shape[1] <= 32
    assert bool((whole[:, 0] == 2).all())
    assert ((whole == 3) & there).sum(1).tolist() == [2 if pairs else 1] * len(found)
    ends = there.sum(1) - 1
    assert bool((whole.gather(1, ends[:, None]) == 3).all())
    assert bool((batch["tokens"][~there] == 0).all())
    assert bool((batch["labels"][(whole < 5) | ~there] == IGNORED).all())
    assert bool(((batch["labels"] != IGNORED).sum(1) >= 1).all())


def test_pairs_belong_together_or_not_half_each() -> None:
    found = samples()
    text = [torch.cat(document).tolist() for document in documents()]
    replaced: list[int] = []
    for epoch in range(40):
        batch = found.at_epoch(3, epoch).collate(torch.arange(len(found)))
        whole = original(batch)
        for row in range(len(found)):
            numbers = whole[row][batch["mask"][row]].tolist()
            kinds = batch["segments"][row][batch["mask"][row]].tolist()
            middle = numbers.index(3)
            assert kinds == [0] * (middle + 1) + [1] * (len(numbers) - middle - 1)
            first, second = numbers[1:middle], numbers[middle + 1 : -1]
            assert first
            assert second
            owners = [{(word - 100) // 50 for word in each} for each in (first, second)]
            assert all(len(each) == 1 for each in owners)
            replaced.append(int(batch["next_sentence"][row]))
            if replaced[-1]:
                assert owners[0] != owners[1]
                assert _is_inside(second, text[owners[1].pop()])
            else:
                assert _is_inside(first + second, text[owners[0].pop()])
    deviation = (0.25 / len(replaced)) ** 0.5
    assert abs(sum(replaced) / len(replaced) - 0.5) < 5 * deviation


def _is_inside(part: list[int], whole: list[int]) -> bool:
    return any(whole[at : at + len(part)] == part for at in range(len(whole)))


def test_stretches_without_pairs_are_every_word_of_longer_documents_once() -> None:
    found = samples(pairs=False)
    batch = found.collate(torch.arange(len(found)))
    whole = original(batch)
    met = sorted(whole[batch["mask"] & (whole >= 5)].tolist())
    every = sorted(word for document in documents() for word in torch.cat(document).tolist())
    assert len(every) - len(met) <= len(documents())  # a last word alone is left out
    assert not set(met) - set(every)


def test_a_sample_is_a_function_of_seed_pass_and_number() -> None:
    found = samples()
    one = found.at_epoch(5, 2).collate(torch.tensor([3]))
    many = found.at_epoch(5, 2).collate(torch.tensor([7, 3, 1]))
    length = int(one["mask"].sum())
    for name in ("tokens", "labels", "segments"):
        assert torch.equal(one[name][0, :length], many[name][1, :length])
    ids = torch.arange(len(found))
    passes = [found.at_epoch(5, epoch).collate(ids)["labels"] for epoch in (0, 1)]
    assert passes[0].shape != passes[1].shape or not torch.equal(*passes)
    static = samples(drawn="static")
    passes = [static.at_epoch(5, epoch).collate(ids)["labels"] for epoch in (0, 1)]
    assert torch.equal(*passes)
    other = static.at_epoch(6, 0).collate(ids)["labels"]
    assert passes[0].shape != other.shape or not torch.equal(passes[0], other)


def test_what_cannot_be_learned_from_is_named() -> None:
    with pytest.raises(DataError, match="too few words"):
        MaskedTexts(Sentences([[]], most=4), VOCABULARY, max_tokens=16, pairs=False, masking=Masking())
    one = Sentences([[torch.tensor([9, 10, 11])]], most=6)
    with pytest.raises(DataError, match=r"two documents at least.*next_sentence=false"):
        MaskedTexts(one, VOCABULARY, max_tokens=16, pairs=True, masking=Masking())
