"""The batch source of a fixed data set: every step's micro-batches are a pure function of (seed, step), so
resumption is a number.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import CheckpointError, ConfigError, DataError
from layerwise.core.seeding import derive_seed
from layerwise.data.examples import Batch, Examples
from layerwise.data.mixing import Mixing
from layerwise.data.transforms import RandomResizedCrop
from layerwise.ops.random import Draws, permutation, windowed_permutation

_SHARDS_AT_ONCE = 16  # archives whose examples are shuffled together
_POOL = 64  # batches among which examples are sorted by length
_STREAMS_READ = 16  # side by side in evaluation, always: the result must not depend on the batch size
_CHUNK_BYTES = 1 << 20  # of raw columns: what a core's cache holds


class Feed:
    """Shuffled micro-batches of a split, with batched transforms whose draws are hashed from (seed, epoch, sample id,
    operation).

    Args:
        examples: the split.
        inputs: raw batch -> model inputs (`Task.inputs`).
        batch_size: samples a step, over all processes. The last step of an epoch has what is left; a single sample
            joins the step before, since batch statistics need two.
        micro_batch_size: samples a forward pass, likewise; None takes this process's share at once.
        seed: of order and transforms.
        transforms: applied in order to raw batches; those that mix samples come last.
        rank, world_size: this process's share of every batch.
        weights: [N] sampling weights; given, an epoch is N draws with replacement.
        lengths: [N]; given, batches are of like lengths (`alike_order`).
        streams: read consecutive examples in order, as many streams side by side as a batch has rows (`stream_order`).
        prefetch: collate the next step in a thread meanwhile; pays where examples are decoded from files.
    """

    def __init__(
        self,
        examples: Examples,
        inputs: Callable[[Batch], Batch],
        *,
        batch_size: int,
        micro_batch_size: int | None = None,
        seed: int = 0,
        transforms: Sequence[Callable[[Batch, Draws], Batch] | Mixing] = (),
        rank: int = 0,
        world_size: int = 1,
        weights: Tensor | None = None,
        lengths: Tensor | None = None,
        streams: bool = False,
        prefetch: bool = False,
    ) -> None:
        if len(examples) == 0:
            raise DataError("The training part has no examples.")
        if streams and (not examples.consecutive or weights is not None):
            raise _not_consecutive()
        self.examples, self.inputs = examples, inputs
        self.mixings = tuple(each for each in transforms if isinstance(each, Mixing))
        self.transforms = tuple(each for each in transforms if not isinstance(each, Mixing))
        if tuple(transforms) != (*self.transforms, *self.mixings):
            raise ConfigError("data.augment: transforms that mix samples (mixup, cutmix) come last.")
        if any(getattr(each, "cuts_files", False) for each in self.transforms[1:]):
            raise ConfigError("data.augment: random_resized_crop with source=file cuts before all else: name it first.")
        self.batch_size, self.micro_batch_size, self.seed = min(batch_size, len(examples)), micro_batch_size, seed
        self.rank, self.world_size, self.weights, self.lengths = rank, world_size, weights, lengths
        self.streams = streams
        self.steps_per_epoch = len(_sizes(len(examples), self.batch_size))
        if streams:  # one that is left stays alone: it goes on from the step before
            self.steps_per_epoch = -(-len(examples) // self.batch_size)
        self.position = 0  # steps given so far
        self._order: tuple[int, Tensor] | None = None
        self._pass: tuple[int, Examples] | None = None
        self._together: int | None = None  # steps collated at once, known when the first is asked for
        self._made: tuple[tuple[int, int], list[list[Batch]]] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch") if prefetch else None
        self._ahead: tuple[int, Future[list[Batch]]] | None = None

    @property
    def epoch(self) -> int:
        return self.position // self.steps_per_epoch

    def _epoch_order(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            if self.streams:
                order = stream_order(len(self.examples), self.batch_size)
            elif self.weights is None and (shards := self.examples.shards()) is not None:
                order = windowed_permutation(shards, _SHARDS_AT_ONCE, self.seed, "epoch", epoch)
            elif self.weights is None and self.lengths is not None:
                order = alike_order(self.lengths, self.batch_size, self.seed, epoch)
            elif self.weights is None:
                order = permutation(len(self.examples), self.seed, "epoch", epoch)
            else:
                generator = torch.Generator().manual_seed(derive_seed(self.seed, "weighted", epoch))
                order = torch.multinomial(
                    self.weights.double(), len(self.examples), replacement=True, generator=generator
                )
            self._order = (epoch, order)
        return self._order[1]

    def make(self, index: int) -> list[Batch]:
        """This process's micro-batches of step `index`."""
        epoch, step = divmod(index, self.steps_per_epoch)
        if self._together is None:
            self._together = self._how_many_together(epoch)
        if self._together == 1:
            return [self.inputs(self._raw(*part, epoch)) for part in self._micro_batches(epoch, step)]
        # Small examples: several steps are collated and transformed at once, since the operators' start costs more
        # than their work. Draws are hashed by sample, so the values are the same.
        first = step - step % self._together
        if self._made is None or self._made[0] != (epoch, first):
            last = min(first + self._together, self.steps_per_epoch)
            self._made = (
                (epoch, first),
                self._collate_together([self._micro_batches(epoch, k) for k in range(first, last)], epoch),
            )
        return [self.inputs(part) for part in self._made[1][step - first]]

    def _micro_batches(self, epoch: int, step: int) -> list[tuple[Tensor, Tensor]]:
        """This process's (examples, their mates) a micro-batch; a mate is the one before in the step's whole batch."""
        first, last = step * self.batch_size, (step + 1) * self.batch_size
        whole = self._epoch_order(epoch)[first : last if step + 1 < self.steps_per_epoch else None]
        parts: list[tuple[Tensor, ...]] = []
        for ids in (whole, whole.roll(1) if self.mixings else whole):
            share = torch.tensor_split(ids, self.world_size)[self.rank] if self.world_size > 1 else ids
            parts.append(
                share.split(_sizes(len(share), self.micro_batch_size or len(share))) if len(share) else (share,)
            )
        return list(zip(*parts, strict=True))

    def _how_many_together(self, epoch: int) -> int:
        """Steps that fit into `_CHUNK_BYTES`; 1 for files, and for columns that are not one row a sample."""
        if self.examples.decodes:
            return 1
        few = self._epoch_order(epoch)[:2]
        probe = self._raw(few, few, epoch)
        count = probe["sample_ids"].shape[0]
        rows = all(value.dim() and value.shape[0] == count for value in probe.values())
        size = sum(value.nbytes for value in probe.values()) * self.batch_size // max(1, count)
        return max(1, _CHUNK_BYTES // max(1, size)) if rows and count == min(2, len(self.examples)) else 1

    def _collate_together(self, steps: list[list[tuple[Tensor, Tensor]]], epoch: int) -> list[list[Batch]]:
        ids, mates = zip(*(part for parts in steps for part in parts), strict=True)
        sizes = [part.numel() for part in ids]
        whole = self._raw(torch.cat(ids), torch.cat(mates), epoch)
        columns = {name: value.split(sizes) for name, value in whole.items()}
        raw = iter([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
        return [[next(raw) for _ in parts] for parts in steps]

    def _raw(self, ids: Tensor, mates: Tensor, epoch: int) -> Batch:
        """Examples collated, transformed and mixed with their mates."""
        draws = Draws(self.seed, "augment", epoch)
        batch = self._transformed(ids, draws, epoch)
        if self.mixings:
            others = _rows(batch, ids, mates)
            others = self._transformed(mates, draws, epoch) if others is None else others
            for mixing in self.mixings:
                batch = mixing(batch, others, draws)
        return batch

    def _transformed(self, ids: Tensor, draws: Draws, epoch: int) -> Batch:
        if self._pass is None or self._pass[0] != epoch:
            self._pass = (epoch, self.examples.at_epoch(self.seed, epoch))
        examples = self._pass[1]
        first = self.transforms[0] if self.transforms else None
        if isinstance(first, RandomResizedCrop) and first.cuts_files:
            size = first.config.size
            batch = examples.collate_windows(ids, lambda of, sizes: first.windows(of, sizes, draws), size)
        else:
            batch, first = examples.collate(ids), None
        for transform in self.transforms[first is not None :]:
            batch = transform(batch, draws)
        return batch

    def next_step(self, network: nn.Module | None = None) -> list[Batch]:
        index, self.position = self.position, self.position + 1
        if self._pool is None:
            return self.make(index)
        ready = self._ahead[1].result() if self._ahead is not None and self._ahead[0] == index else self.make(index)
        self._ahead = (index + 1, self._pool.submit(self.make, index + 1))
        return ready

    def smaller(self, steps: int) -> list[list[Batch]]:
        """The last `steps` steps again with micro-batches of half the size, which also stay halved (memory ran out).

        Raises:
            DataError: micro-batches have one sample already.
        """
        size = self.micro_batch_size or -(-self.batch_size // self.world_size)
        if size == 1:
            raise DataError("Memory does not suffice for a micro-batch of one sample.")
        self.micro_batch_size, self._ahead, self._together, self._made = -(-size // 2), None, None, None
        return [self.make(index) for index in range(self.position - steps, self.position)]

    def state(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "micro_batch_size": self.micro_batch_size,
            "length": len(self.examples),
            "batch_size": self.batch_size,
        }

    def load(self, tree: dict[str, Any]) -> None:
        if tree["length"] != len(self.examples) or tree["batch_size"] != self.batch_size:
            raise CheckpointError(
                f"The training data changed: the state was saved with {tree['length']} examples in batches of "
                f"{tree['batch_size']}, "
                f"now there are {len(self.examples)} in batches of {self.batch_size}."
            )
        self.position, self.micro_batch_size, self._ahead = tree["position"], tree["micro_batch_size"], None
        self._together, self._made = None, None


def alike_order(lengths: Tensor, batch_size: int, seed: int, epoch: int) -> Tensor:
    """A random order of examples in which those of a batch are about equally long, int64 [N].

    Of every `_POOL` batches' worth of examples, in random order, the lengths are sorted and cut into batches; then the
    order of all batches is drawn. The batch that is not full stays last.

    Args:
        lengths: [N].
        batch_size: examples a batch.
        seed, epoch: what decides the order, with the lengths.
    """
    order = permutation(len(lengths), seed, "epoch", epoch)
    pools = [pool[lengths[pool].argsort(stable=True)] for pool in order.split(_POOL * batch_size)]
    full = len(lengths) // batch_size * batch_size
    # A pool that is not full gives its own remainder, a random one, to the end.
    last = pools[-1]
    spare = permutation(len(last), seed, "remainder", epoch)[: len(lengths) - full]
    kept = torch.ones(len(last), dtype=torch.bool)
    kept[spare] = False
    batches = torch.cat([*pools[:-1], last[kept]]).view(-1, batch_size)
    return torch.cat([batches[permutation(len(batches), seed, "batches", epoch)].flatten(), last[~kept]])


def stream_order(length: int, streams: int) -> Tensor:
    """Consecutive examples as streams side by side: row b of every batch goes on where row b of the one before ended.

    The text is cut into `streams` parts of equally many examples, the first ones with one more where it does not come
    out even; those are left to a last batch that is not full.

    Example:
        >>> stream_order(8, 3).tolist()
        [0, 3, 6, 1, 4, 7, 2, 5]
    """
    each, over = divmod(length, streams)
    sizes = torch.full((streams,), each)
    sizes[:over] += 1
    starts = sizes.cumsum(0) - sizes
    return torch.cat([(starts + torch.arange(each)[:, None]).flatten(), starts[:over] + each])


def _not_consecutive() -> ConfigError:
    return ConfigError(
        "objective=truncated_bptt reads a text on from window to window, and these examples do not follow each other. "
        "Take data=text or one like it, and leave out task.stride, task.packed, data.weighted and limits of stages."
    )


def _sizes(count: int, most: int) -> list[int]:
    """`count` in pieces of `most`; a last piece of one joins the one before.

    Example:
        >>> _sizes(9, 4), _sizes(10, 4), _sizes(2, 1)
        ([4, 5], [4, 4, 2], [1, 1])
    """
    sizes = [min(most, count - first) for first in range(0, count, most)]
    return [*sizes[:-2], most + 1] if len(sizes) > 1 and sizes[-1] == 1 < most else sizes


def _rows(batch: Batch, ids: Tensor, wanted: Tensor) -> Batch | None:
    """The rows of `wanted` examples from a batch of the examples `ids`; None if it lacks one."""
    ordered, order = ids.sort()
    place = torch.searchsorted(ordered, wanted).clamp_(max=len(ids) - 1)
    if not torch.equal(ordered[place], wanted):
        return None
    return {name: column.index_select(0, order[place]) for name, column in batch.items() if len(column) == len(ids)}


def in_order(examples: Examples, inputs: Callable[[Batch], Batch], batch_size: int, rank: int = 0, world_size: int = 1):
    """Model inputs of a split in order, without transforms; each process gets every world_size-th example."""
    indices = torch.arange(rank, len(examples), world_size)
    for ids in indices.split(batch_size):
        yield inputs(examples.collate(ids))


def in_streams(examples: Examples, inputs: Callable[[Batch], Batch], rank: int = 0, world_size: int = 1):
    """Model inputs of a split of consecutive examples as streams side by side; each process reads streams of its own.

    Raises:
        ConfigError: the examples do not follow each other.
    """
    if not examples.consecutive:
        raise _not_consecutive()
    count = min(_STREAMS_READ, len(examples))
    for ids in stream_order(len(examples), count).split(count):
        if len(own := ids[rank::world_size]):
            yield inputs(examples.collate(own))
