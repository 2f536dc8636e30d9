"""Hashed draws: SplitMix64 by its definition, uniformity, independence of who else is in the batch."""

import math

import pytest
import torch

from layerwise.ops.random import Draws, hash_bits, permutation

WORD = (1 << 64) - 1


def splitmix(x: int) -> int:
    """The finaliser as in Steele, Lea, Flood (2014), with Python's unbounded integers."""
    x = (x + 0x9E3779B97F4A7C15) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def test_the_finaliser_gives_the_published_first_output_of_seed_zero() -> None:
    assert splitmix(0) == 0xE220A8397B1DCDAF  # first output of the reference generator for seed 0


@pytest.mark.parametrize("seed", [0, 5, (1 << 63) - 1])
def test_words_are_the_chained_finaliser(seed: int) -> None:
    ids = [0, 1, 7, 2**40]
    words = hash_bits(seed, torch.tensor(ids), 3)
    for row, sample in enumerate(ids):
        for position in range(3):
            expected = splitmix(splitmix(splitmix(sample) ^ seed) ^ splitmix(position))
            assert int(words[row, position]) & WORD == expected


def test_other_devices_get_the_same_words() -> None:
    from unittest import mock

    ids = torch.arange(50)
    here = hash_bits(123, ids, 9)
    with mock.patch("layerwise.ops.random.np", None):  # the branch for other devices needs no numpy

        class Elsewhere(torch.Tensor):
            @property
            def device(self) -> object:  # pyright: ignore[reportIncompatibleVariableOverride]
                class Device:
                    type = "elsewhere"

                return Device()

        with mock.patch("layerwise.ops.random.torch.arange", lambda count, device: torch.tensor(range(count))):
            there = hash_bits(123, ids.as_subclass(Elsewhere), 9)
    assert torch.equal(here, there.as_subclass(torch.Tensor))


def test_a_sample_draws_the_same_whatever_its_batch() -> None:
    draws = Draws(3, "epoch", 1)
    alone = draws.normal(torch.tensor([42]), (3, 5), "noise")
    together = draws.normal(torch.tensor([7, 42, 9]), (3, 5), "noise")
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("other", [Draws(4, "epoch", 1), Draws(3, "epoch", 2), Draws(3, "step", 1)])
def test_seed_and_names_change_the_draw(other: Draws) -> None:
    ids = torch.arange(8)
    assert not torch.equal(Draws(3, "epoch", 1).uniform(ids, (2,), "a"), other.uniform(ids, (2,), "a"))
    draws = Draws(3, "epoch", 1)
    assert not torch.equal(draws.uniform(ids, (2,), "a"), draws.uniform(ids, (2,), "b"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_draws_have_the_moments_and_range_of_the_law(dtype: torch.dtype) -> None:
    u = Draws(0).uniform(torch.arange(1000), (100,), "u", dtype)
    assert u.dtype == dtype
    assert u.min() >= 0
    assert u.max() < 1
    # standard errors of mean and variance over 100,000 draws: 0.0009 and 0.0003; five of each
    assert abs(u.mean().item() - 0.5) < 0.0046
    assert abs(u.var().item() - 1 / 12) < 0.0013
    counts = torch.histc(u.float(), bins=20, min=0, max=1)
    chi2 = ((counts - 5000) ** 2 / 5000).sum().item()
    assert chi2 < 43.8  # 99.9 % of chi-squared with 19 degrees of freedom


def test_normal_draws_have_the_moments_of_the_law() -> None:
    z = Draws(1).normal(torch.arange(2000), (51,), "z", torch.float64)
    assert z.shape == (2000, 51)
    assert torch.isfinite(z).all()
    assert abs(z.mean().item()) < 0.016
    assert abs(z.std().item() - 1) < 0.012
    inside = (z.abs() < 1).double().mean().item()
    assert abs(inside - math.erf(1 / math.sqrt(2))) < 0.008


def test_integers_cover_their_range_evenly() -> None:
    found = Draws(2).integers(torch.arange(10_000), (5,), "i", 5)
    counts = torch.bincount(found.flatten(), minlength=5)
    assert len(counts) == 5
    assert ((counts - 10_000).abs() < 450).all()  # five standard deviations


def test_permutations_are_functions_of_seed_and_names() -> None:
    assert torch.equal(permutation(20, 1, "a"), permutation(20, 1, "a"))
    assert not torch.equal(permutation(20, 1, "a"), permutation(20, 1, "b"))
    assert sorted(permutation(20, 1, "a").tolist()) == list(range(20))


def test_uniform_pairs_are_uniform_and_depend_on_sample_and_name_alone() -> None:
    """Mean 1/2, variance 1/12, no correlation between the two halves of a word, within five standard errors."""
    draws, ids = Draws(3, "pairs"), torch.arange(2000)
    found = draws.uniform_pairs(ids, (51,), "x")
    assert found.shape == (2000, 51)
    assert float(found.min()) >= 0
    assert float(found.max()) < 1
    count = found.numel()
    assert float(found.mean()) == pytest.approx(0.5, abs=5 * (1 / 12 / count) ** 0.5)
    assert float(found.var()) == pytest.approx(1 / 12, abs=5 * (1 / 180 / count) ** 0.5)
    first, second = found[:, 0:50:2].flatten() - 0.5, found[:, 1:50:2].flatten() - 0.5
    assert abs(float((first * second).mean())) < 5 / 12 / len(first) ** 0.5
    assert torch.equal(draws.uniform_pairs(ids[7:9], (51,), "x"), found[7:9])
    assert not torch.equal(draws.uniform_pairs(ids, (51,), "y"), found)


def test_uniform_pairs_of_float64_have_all_their_bits() -> None:
    draws, ids = Draws(3, "pairs"), torch.arange(5)
    found = draws.uniform_pairs(ids, (4,), "x", torch.float64)
    assert torch.equal(found, draws.uniform(ids, (4,), "x", torch.float64))
