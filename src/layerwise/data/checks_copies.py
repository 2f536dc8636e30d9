"""Copies, exact and near: what they mean for the parts that they lie in, and for the labels that they carry."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerwise.data.checks import Example, Finding, some
from layerwise.data.checks_scan import NO_LABEL, Pool


def equal_groups(keys: NDArray[np.int64]) -> list[list[int]]:
    """Positions of equal keys [N], groups of two and more, in order of their first position.

    Example:
        >>> equal_groups(np.array([7, 5, 7, 1, 5, 7]))
        [[0, 2, 5], [1, 4]]
    """
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    groups = [part.tolist() for part in np.split(order, edges) if len(part) > 1]
    return sorted(groups)


def exact_copy_findings(pool: Pool) -> list[Finding]:
    """Equal inputs within and across parts; in tables rows are copies where the target is equal as well."""
    same_inputs = equal_groups(pool.content)
    groups = equal_groups(pool.content * 31 + pool.targets) if pool.table else same_inputs
    return [*copy_findings(pool, groups, near=False), *conflict_findings(pool, same_inputs, near=False)]


def copy_findings(pool: Pool, groups: Sequence[Sequence[int]], *, near: bool) -> list[Finding]:
    """Findings on groups of copies.

    Args:
        groups: positions in the pool.
        near: whether they are near copies.
    """
    kind, code = ("near", "near_duplicates") if near else ("exact", "duplicates")
    found: list[Finding] = []
    parts = {name: place for place, name in enumerate(pool.parts)}

    def of(group: Sequence[int], part: str) -> list[int]:
        return [index for index in group if pool.part[index] == parts[part]]

    for part, other in (("val", "train"), ("test", "train"), ("test", "val")):
        if part not in parts or other not in parts:
            continue
        across = [(of(group, part), of(group, other)) for group in groups]
        across = [(here, there) for here, there in across if here and there]
        if not across:
            continue
        copies = [index for here, _ in across for index in here]
        ids = some(pool.sample_ids[copies].tolist())
        message = f"{len(copies):,} of {len(pool.examples(part)):,} examples of {part} are {kind} copies of "
        if other == "train":
            may = "may be" if near else "are"
            message += f"training examples (sample ids {ids}): figures on {part} {may} too good by as much."
        else:
            message += f"validation examples (sample ids {ids}): the validation part selects the weights."
        named = _named(pool, [[*here, *there] for here, there in across])
        name = f"{code}_{part}" if other == "train" else f"{code}_val_test"
        found.append(Finding("warning" if other == "train" else "note", name, message, named))
    for part in parts:
        within = [here for group in groups if len(here := of(group, part)) > 1]
        if within:
            repeated = sum(len(group) - 1 for group in within)
            what = "training examples" if part == "train" else f"examples of {part}"
            message = f"{repeated:,} of {len(pool.examples(part)):,} {what} are {kind} copies of others."
            name = f"{code}_train" if part == "train" else f"{code}_within_{part}"
            found.append(Finding("note", name, message, _named(pool, within)))
    return found


def conflict_findings(pool: Pool, groups: Sequence[Sequence[int]], *, near: bool) -> list[Finding]:
    """Copies that carry different labels: at most one of them can be right."""
    if pool.labels is None:
        return []
    labels = pool.labels
    torn = [list(group) for group in groups if len({*labels[list(group)].tolist()} - {NO_LABEL}) > 1]
    if not torn:
        return []
    kind = "near copies" if near else "equal inputs"
    count = sum(len(group) for group in torn)
    groups_of = "group" if len(torn) == 1 else "groups"
    message = (
        f"{len(torn):,} {groups_of} of {kind} ({count:,} examples) with different labels: no model can get all right."
    )
    code = "near_conflicting_labels" if near else "conflicting_labels"
    level = "note" if pool.table else "warning"  # rows of a table are often equal in what was written down, and no more
    return [Finding(level, code, message, _named(pool, torn))]


def _named(pool: Pool, groups: Sequence[Sequence[int]]) -> tuple[Example, ...]:
    return tuple(pool.example(index, group=number) for number, group in enumerate(groups) for index in group)
