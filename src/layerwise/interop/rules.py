"""The rules that turn another library's names and tensors into ours, and back. Imports no torch.

A rule reads "their names, our names, operation". A name may hold one `*`, which stands for any text and is the same on
both sides of the rule (`layer.0.norm.*` for its weight and bias). Every operation can be undone, so one tuple of rules
serves loading and saving; a tensor belongs to one rule only.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from layerwise.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, Any]  # name -> tensor; torch is not imported here


class Operation(Protocol):
    """What becomes of the tensors of a rule."""

    def load(self, theirs: "Sequence[Tensor]") -> "list[Tensor]":
        """Our tensors, one for each of our names."""
        ...

    def save(self, ours: "Sequence[Tensor]", count: int) -> "list[Tensor]":
        """Their tensors, `count` of them."""
        ...


class Rename:
    """The tensor as it is."""

    def load(self, theirs: "Sequence[Tensor]") -> "list[Tensor]":
        return list(theirs)

    def save(self, ours: "Sequence[Tensor]", count: int) -> "list[Tensor]":
        return list(ours)


@dataclass(frozen=True)
class Permute:
    """Dimensions in another order: ours are theirs by `dims`."""

    dims: tuple[int, ...]

    def load(self, theirs: "Sequence[Tensor]") -> "list[Tensor]":
        return [tensor.permute(self.dims) for tensor in theirs]

    def save(self, ours: "Sequence[Tensor]", count: int) -> "list[Tensor]":
        back = sorted(range(len(self.dims)), key=lambda i: self.dims[i])
        return [tensor.permute(back) for tensor in ours]


TRANSPOSE = Permute((1, 0))  # a matrix kept as [in, out]


@dataclass(frozen=True)
class CoveringConvolution:
    """A convolution's weight [out, in, *window] there, that of the linear layer on the flattened window here.

    Args:
        window: height and width of the maps, all of which the convolution covers.
    """

    window: tuple[int, int]

    def load(self, theirs: "Sequence[Tensor]") -> "list[Tensor]":
        return [tensor.flatten(1) for tensor in theirs]

    def save(self, ours: "Sequence[Tensor]", count: int) -> "list[Tensor]":
        return [tensor.unflatten(1, (-1, *self.window)) for tensor in ours]


@dataclass(frozen=True)
class Concat:
    """Their tensors joined into one of ours along `dim`, in the order of their names, in equal parts."""

    dim: int = 0

    def load(self, theirs: "Sequence[Tensor]") -> "list[Tensor]":
        import torch

        return [torch.cat(list(theirs), self.dim)]

    def save(self, ours: "Sequence[Tensor]", count: int) -> "list[Tensor]":
        return [part.contiguous() for part in ours[0].chunk(count, self.dim)]


class Tie:
    """Several of their names for one tensor of ours; a file may have any of them.

    Raises:
        CheckpointError: their tensors differ: they are not tied in this checkpoint.
    """

    def load(self, theirs: "Sequence[Tensor]") -> "list[Tensor]":
        if any(not bool((tensor == theirs[0]).all()) for tensor in theirs[1:]):
            raise CheckpointError("tensors that share one weight in this architecture differ in the file.")
        return [theirs[0]]

    def save(self, ours: "Sequence[Tensor]", count: int) -> "list[Tensor]":
        return [ours[0], *(ours[0].clone() for _ in range(count - 1))]


@dataclass(frozen=True)
class Constant:
    """A tensor of theirs that ours computes or does without: not taken in, written anew by `make`."""

    make: "Callable[[], Tensor]"

    def load(self, theirs: "Sequence[Tensor]") -> "list[Tensor]":
        return []

    def save(self, ours: "Sequence[Tensor]", count: int) -> "list[Tensor]":
        return [self.make() for _ in range(count)]


@dataclass(frozen=True)
class Rule:
    """Their names, our names, what happens between them."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    operation: Operation = field(default_factory=Rename)


def rule(theirs: str | Sequence[str], ours: str | Sequence[str], operation: Operation | None = None) -> Rule:
    """A `Rule`; a single name needs no tuple."""

    def names(given: str | Sequence[str]) -> tuple[str, ...]:
        return (given,) if isinstance(given, str) else tuple(given)

    return Rule(names(theirs), names(ours), operation or Rename())


@dataclass
class Mapped:
    """A state dict under the other side's names.

    Args:
        state: mapped tensors.
        unknown: names that no rule has.
        incomplete: names that were looked for beside others of the same rule and are not there.
    """

    state: State
    unknown: list[str]
    incomplete: list[str]


def to_ours(rules: Iterable[Rule], theirs: Mapping[str, Any]) -> Mapped:
    """Their state dict under our names."""
    return _mapped(rules, theirs, lambda r: (r.theirs, r.ours), lambda r, tensors: r.operation.load(tensors))


def to_theirs(rules: Iterable[Rule], ours: Mapping[str, Any]) -> Mapped:
    """Our state dict under their names."""
    return _mapped(
        rules, ours, lambda r: (r.ours, r.theirs), lambda r, tensors: r.operation.save(tensors, len(r.theirs))
    )


def _mapped(
    rules: Iterable[Rule],
    state: Mapping[str, Any],
    sides: Callable[[Rule], tuple[tuple[str, ...], tuple[str, ...]]],
    operate: Callable[[Rule, list[Any]], list[Any]],
) -> Mapped:
    left = dict(state)
    found, incomplete = State(), list[str]()
    for entry in rules:
        sources, targets = sides(entry)
        for text in _matches(sources, left):
            names = [source.replace("*", text) for source in sources]
            if isinstance(entry.operation, Tie):
                names = [name for name in names if name in left]
            if absent := [name for name in names if name not in left]:
                incomplete += absent
                continue
            made = operate(entry, [left.pop(name) for name in names])
            found |= zip([target.replace("*", text) for target in targets], made, strict=False)
    return Mapped(found, sorted(left), incomplete)


def _matches(sources: tuple[str, ...], state: Mapping[str, Any]) -> list[str]:
    """What `*` stands for in each match of a rule's names; one "" for a rule without `*`; none for a rule without
    names on this side, but for constants, which are always made.
    """
    if not sources:
        return [""]
    if "*" not in sources[0]:
        return [""] if any(source in state for source in sources) else []
    found: dict[str, None] = {}
    for source in sources:
        pattern = re.compile(re.escape(source).replace(r"\*", "(.+)"))
        found |= {match[1]: None for match in map(pattern.fullmatch, state) if match}
    return list(found)
