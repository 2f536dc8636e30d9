"""Random draws that are a hash of who asks, never a stream.

A draw depends on (seed, names, sample id, position) alone, so that micro-batches, ranks, prefetching and resumption all
see the same numbers.
The hash is the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"),
chained over the parts.
"""

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from layerwise.core.seeding import derive_seed


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_WORD = (1 << 64) - 1
_GAMMA, _MIX_1, _MIX_2 = _signed(0x9E3779B97F4A7C15), _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical (unsigned) shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = x + _GAMMA
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _mix_cpu(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(_GAMMA & _WORD)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1 & _WORD)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2 & _WORD)
    return x ^ (x >> np.uint64(31))


def hash_bits(seed: int, sample_ids: Tensor, count: int) -> Tensor:
    """Pseudo-random 64-bit words, int64 [B, count], for each of the B sample ids. The same on every device."""
    if sample_ids.device.type == "cpu":  # numpy's operators start in a tenth of the time of torch's
        ids = sample_ids.long().numpy().view(np.uint64)
        own = _mix_cpu(_mix_cpu(ids) ^ np.uint64(seed & _WORD))
        words = _mix_cpu(own[:, None] ^ _mix_cpu(np.arange(count, dtype=np.uint64)))
        return torch.from_numpy(words.view(np.int64))
    keys = _mix(_mix(sample_ids.long()) ^ _signed(seed))
    positions = torch.arange(count, device=sample_ids.device)
    return _mix(keys[:, None] ^ _mix(positions)[None, :])


class Draws:
    """Draws for the samples of a batch at one point of training.

    Args:
        seed: the run's seed.
        names: what else the draw depends on (epoch or step, phase).

    Example:
        >>> draws = Draws(0, "epoch", 3)
        >>> ids = torch.tensor([7, 9])
        >>> bool((draws.uniform(ids, (2,), "flip")[1] == draws.uniform(ids[1:], (2,), "flip")[0]).all())
        True
    """

    def __init__(self, seed: int, *names: int | str) -> None:
        self._from = (seed, *names)

    @cached_property
    def key(self) -> int:
        """Seed of these draws."""
        return derive_seed(*self._from)

    def uniform(
        self, sample_ids: Tensor, shape: tuple[int, ...], name: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Uniform on [0, 1), [B, *shape]."""
        words = hash_bits(derive_seed(self.key, name), sample_ids, math.prod(shape))
        bits = 53 if dtype == torch.float64 else 24
        return (_shift_right(words, 64 - bits).to(dtype) * 2.0**-bits).view(-1, *shape)

    def uniform_pairs(
        self, sample_ids: Tensor, shape: tuple[int, ...], name: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Uniform on [0, 1), [B, *shape]: other numbers than `uniform` has, two from each hashed word and so in less
        than half the time, for where very many are needed. Float64 has no room for two and is `uniform`.
        """
        if dtype == torch.float64:
            return self.uniform(sample_ids, shape, name, dtype)
        count = math.prod(shape)
        words = hash_bits(derive_seed(self.key, name), sample_ids, (count + 1) // 2)
        if words.device.type == "cpu":
            halves = (words.numpy().view(np.uint32) >> np.uint32(8)).astype(np.float32)
            halves *= np.float32(2.0**-24)
            numbers = torch.from_numpy(halves).to(dtype)
        else:
            numbers = ((words.view(torch.int32) >> 8) & 0xFFFFFF).to(dtype) * 2.0**-24
        return numbers[:, :count].reshape(-1, *shape)

    def normal(
        self, sample_ids: Tensor, shape: tuple[int, ...], name: str, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Standard normal by Box and Muller, [B, *shape]."""
        count = math.prod(shape)
        half = (count + 1) // 2
        u = self.uniform(sample_ids, (2 * half,), name, dtype)
        radius = torch.sqrt(-2.0 * torch.log1p(-u[:, :half]))
        angle = 2.0 * math.pi * u[:, half:]
        return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count].reshape(-1, *shape)

    def integers(self, sample_ids: Tensor, shape: tuple[int, ...], name: str, high: int) -> Tensor:
        """Uniform integers in [0, high), [B, *shape]."""
        words = hash_bits(derive_seed(self.key, name), sample_ids, math.prod(shape))
        return (_shift_right(words, 1) % high).view(-1, *shape)


def permutation(length: int, seed: int, *names: int | str) -> Tensor:
    """A random order of 0..length-1, a pure function of seed and names. int64 [length]."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "permutation", *names))
    return torch.randperm(length, generator=generator)


def windowed_permutation(shards: Tensor, window: int, seed: int, *names: int | str) -> Tensor:
    """A random order of 0..length-1 that reads few shards at a time, a pure function of its arguments. int64 [length].

    Shards come in random order; `window` of them after the other are pooled, and the pool's examples are shuffled. With
    a window of all shards that is `permutation`'s distribution.

    Args:
        shards: int64 [length], the shard each example lies in.
        window: shards in a pool.
        seed, names: of the order.
    """
    order = permutation(len(shards), seed, *names)
    present, shard = torch.unique(shards, return_inverse=True)
    pool = permutation(len(present), seed, "shards", *names) // window
    return order[torch.argsort(pool[shard[order]], stable=True)]
