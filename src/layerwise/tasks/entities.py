"""Entities in BIO tags, and how well they are found: precision, recall and F1 of whole entities.

Tjong Kim Sang and Buchholz 2000 (the CoNLL evaluation): an entity counts as found where type, first and last word are
right.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Entity(NamedTuple):
    """A type and the words [start, end)."""

    type: str
    start: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """Entities of a sentence's tags. An I- that goes on with nothing of its type begins an entity, as in the CoNLL
    evaluation.

    Example:
        >>> entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
        [Entity(type='PER', start=0, end=2), Entity(type='LOC', start=3, end=4), Entity(type='LOC', start=4, end=5)]
    """
    found: list[Entity] = []
    start, kind = 0, None
    for place, tag in enumerate([*tags, "O"]):
        name = None if tag == "O" else tag[2:]
        if kind is not None and (name != kind or tag[0] == "B"):
            found.append(Entity(kind, start, place))
            kind = None
        if name is not None and kind is None:
            start, kind = place, name
    return found


class EntityCounts:
    """Entities predicted, there, and right, by type.

    Args:
        types: in order.
    """

    def __init__(self, types: Sequence[str]) -> None:
        self.types = list(types)
        self.counts: Tensor = torch.zeros(len(self.types), 3, dtype=torch.int64)

    def add(self, predicted: Sequence[str], true: Sequence[str]) -> None:
        """Take in the tags of one sentence."""
        found, wanted = set(entities(predicted)), set(entities(true))
        for column, group in enumerate((found, wanted, found & wanted)):
            for entity in group:
                self.counts[self.types.index(entity.type), column] += 1

    def scores(self) -> dict[str, float]:
        """`precision`, `recall` and `f1` over all entities, `macro_f1` over the types that there are."""
        predicted, true, right = self.counts.sum(0).tolist()
        each = [_f1(*row) for row in self.counts.tolist() if row[1]]
        return {
            "precision": right / predicted if predicted else 0.0,
            "recall": right / true if true else 0.0,
            "f1": _f1(predicted, true, right),
            "macro_f1": sum(each) / len(each) if each else 0.0,
        }

    def rows(self) -> list[dict[str, float | str | int]]:
        """A row a type."""
        return [
            {
                "type": name,
                "count": true,
                "predicted": predicted,
                "precision": right / predicted if predicted else 0.0,
                "recall": right / true if true else 0.0,
                "f1": _f1(predicted, true, right),
            }
            for name, (predicted, true, right) in zip(self.types, self.counts.tolist(), strict=True)
        ]


def _f1(predicted: int, true: int, right: int) -> float:
    return 2 * right / (predicted + true) if predicted + true else 0.0
