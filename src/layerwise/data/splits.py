"""What lies between a data set and training: validation and test parts, limits, sampling weights, checks, fingerprint.

Everything here is a pure function of the data and the seed.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layerwise.core.config import Component
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.checks import findings
from layerwise.data.examples import Examples, Splits, Subset
from layerwise.ops.random import permutation

DEFAULT_SHARE = 0.1


def prepare(data: Component, seed: int) -> Splits:
    """Build a data set and make it ready for training: parts taken off, limited, checked.

    Args:
        data: a resolved data component, or a person's own `torch.utils.data.Dataset` by dotted name.
        seed: decides which examples become validation data and which stay under `limit`.

    Returns:
        The splits; `extras["groups"]` of the data set (int64 [len(train)]), whose examples stay together, and
        `extras["strata"]` (likewise), of which every part gets its share, have been used up.

    Raises:
        DataError: the data cannot be trained on; the message says why.
    """
    splits = load(data)
    splits = parted(splits, data, seed)
    if (limit := _option(data, "limit")) is not None and splits.train is not None:
        splits = replace(splits, train=limited(splits.train, limit, seed))
    found = findings(splits)
    if errors := [finding.message for finding in found if finding.level == "error"]:
        raise DataError(" ".join(errors))
    splits.warnings = [*splits.warnings, *(finding.message for finding in found if finding.level == "warning")]
    return splits


def parted(splits: Splits, data: Component, seed: int) -> Splits:
    """`with_parts` as the component's options ask; data sets with an option `test` are a person's own."""
    val, test = _option(data, "val"), _option(data, "test")
    own = hasattr(data.config, "test")
    if (folds := _folds(data)) is None:
        return with_parts(splits, val=val, test=test, seed=seed, own=own)
    if splits.cut or splits.train is None:
        raise ConfigError(f"data.folds={folds[1]}: data={data.name} is not made of examples that could be dealt out.")
    return with_fold(splits, *folds, test=test, seed=seed, own=own)


def _folds(data: Component) -> tuple[int, int] | None:
    """(fold, folds) where they are asked for.

    Raises:
        ConfigError: one without the other, no such fold, or validation data of another kind as well.
    """
    fold, folds, val = (_option(data, name) for name in ("fold", "folds", "val"))
    if fold is None and folds is None:
        return None
    if fold is None or folds is None:
        have, lack = ("fold", "folds") if folds is None else ("folds", "fold")
        raise ConfigError(f"data.{have}={fold or folds}: give data.{lack} as well, as in data.fold=1 data.folds=5.")
    if fold > folds:
        raise ConfigError(f"data.fold={fold}: folds are numbered 1 to data.folds={folds}.")
    if val is not None:
        raise ConfigError(f"data.val={val}: with data.folds={folds} the validation part is fold {fold}; leave it out.")
    return fold, folds


def load(data: Component) -> Splits:
    """The splits as the data set gives them: no part taken off, nothing checked."""
    built = data.build()
    if hasattr(built, "splits"):
        return built.splits()
    from layerwise.data.own import splits_of

    return splits_of(data, built)


def _option(data: Component, name: str) -> Any:
    return getattr(data.config, name, None)


def with_parts(
    splits: Splits, *, val: float | str | None, test: float | str | None, seed: int, own: bool = False
) -> Splits:
    """Take test and validation parts off train where the data set has none or a share is asked for.

    Args:
        splits: as the data set gave them.
        val: None takes the data set's own, else a tenth of train; a share is taken from train (0: no validation data);
            a path was read by the data set.
        test: None takes the data set's own, else what `own` says; a share is taken from train first (0: no test part).
        seed: of the choice.
        own: a person's own data: without a test part a tenth of train becomes one, so that the report can be honest.
    """
    if splits.train is None or splits.cut:
        return splits
    warnings = list(splits.warnings)
    groups: Tensor | None = splits.extras.get("groups")
    rest = torch.arange(len(splits.train))
    parts: dict[str, Examples | None] = {"val": splits.val, "test": splits.test}
    for name, asked in (("test", test), ("val", val)):
        if isinstance(asked, str) and parts[name] is None:
            raise ConfigError(f"data.{name}={asked}: this data set takes a share of train here, not a path.")
        share = asked if isinstance(asked, float | int) else None
        if share is not None and (given := parts[name]) is not None:
            note = f"the data set's own {name} part ({len(given)} examples) is left out"
            warnings.append(f"data.{name}={share:g}: {note}; a share of train takes its place.")
        elif share is None and parts[name] is None and (name == "val" or own):
            share = DEFAULT_SHARE
        if share is None:
            continue
        parts[name] = None
        if share > 0:
            labels = splits.extras.get("strata", splits.train.labels())
            keep, taken = stratified_split(
                len(rest),
                share,
                seed,
                labels=None if labels is None else labels[rest],
                groups=None if groups is None else groups[rest],
                name=name,
            )
            if not len(keep) or not len(taken):
                raise DataError(f"data.{name}={share:g} of {len(rest)} examples leaves one part empty.")
            parts[name], rest = Subset(splits.train, rest[taken]), rest[keep]
    train = splits.train if len(rest) == len(splits.train) else Subset(splits.train, rest)
    extras = {key: value for key, value in splits.extras.items() if key not in ("groups", "strata")}
    return replace(splits, train=train, val=parts["val"], test=parts["test"], extras=extras, warnings=warnings)


def with_fold(
    splits: Splits, fold: int, folds: int, *, test: float | str | None, seed: int, own: bool = False
) -> Splits:
    """Take the test part off as `with_parts` does, the same for every fold, and part `fold` of the rest as validation.

    Args:
        splits: as the data set gave them, with examples in train.
        fold: 1 to `folds`.
        test, seed, own: see `with_parts`.

    Raises:
        DataError: fewer examples or groups than folds.
    """
    rest = with_parts(replace(splits, val=None), val=0.0, test=test, seed=seed, own=own)
    train = rest.train
    assert splits.train is not None
    assert train is not None
    chosen = train.indices if train is not splits.train and isinstance(train, Subset) else torch.arange(len(train))
    labels, groups = splits.extras.get("strata", splits.train.labels()), splits.extras.get("groups")
    numbers = fold_numbers(
        len(chosen),
        folds,
        seed,
        labels=None if labels is None else labels[chosen],
        groups=None if groups is None else groups[chosen],
    )
    warnings = list(rest.warnings)
    if splits.val is not None:
        note = f"the data set's own val part ({len(splits.val)} examples) is left out"
        warnings.append(f"data.folds={folds}: {note}; fold {fold} of train takes its place.")
    inside, outside = (torch.nonzero(where).flatten() for where in (numbers == fold - 1, numbers != fold - 1))
    return replace(
        rest, train=Subset(splits.train, chosen[outside]), val=Subset(splits.train, chosen[inside]), warnings=warnings
    )


def fold_numbers(
    length: int, folds: int, seed: int, *, labels: Tensor | None = None, groups: Tensor | None = None
) -> Tensor:
    """Which of `folds` parts each example is in, int64 [length], 0 to folds - 1; a pure function of the arguments.

    Without groups, examples are dealt out one by one, class after class, each class in random order: sizes differ by at
    most one, in all and in every class. With groups, whole groups go, the largest first, to the part that has the least
    of their classes so far, and of those to the smallest.

    Args:
        length: number of examples.
        folds: number of parts.
        seed: of the random order.
        labels: int64 [length], classes.
        groups: int64 [length]; examples of one group stay together.

    Raises:
        DataError: fewer examples or groups than folds.
    """
    members = length if groups is None else len(torch.unique(groups))
    if members < folds:
        raise DataError(f"data.folds={folds}: there are only {members} {'examples' if groups is None else 'groups'}.")
    order = permutation(length, seed, "folds")
    classes = torch.zeros(length, dtype=torch.int64) if labels is None else torch.unique(labels, return_inverse=True)[1]
    if groups is None:
        numbers = torch.empty(length, dtype=torch.int64)
        numbers[order[torch.argsort(classes[order], stable=True)]] = torch.arange(length) % folds
        return numbers
    _, group_of, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    by_group = order[torch.argsort(group_of[order], stable=True)].split(sizes.tolist())
    in_random_order = list(dict.fromkeys(group_of[order].tolist()))
    totals = torch.bincount(classes).double()
    held = torch.zeros(folds, len(totals), dtype=torch.float64)  # examples of every class in every part so far
    numbers = torch.empty(length, dtype=torch.int64)
    for group in sorted(in_random_order, key=lambda one: -int(sizes[one])):
        present, counts = torch.unique(classes[by_group[group]], return_counts=True)
        overlap = (held[:, present] * (counts / totals[present].square())).sum(1)
        best = torch.nonzero(overlap == overlap.min()).flatten()
        part = int(best[held[best].sum(1).argmin()])
        held[part, present] += counts
        numbers[by_group[group]] = part
    return numbers


def stratified_split(
    length: int, share: float, seed: int, *, labels: Tensor | None = None, groups: Tensor | None = None, name: str
) -> tuple[Tensor, Tensor]:
    """Positions split in two: (kept, taken), both ascending.

    Without groups every class gives its share (largest remainders rounded up, so that the total is right; a class of
    two or more keeps at least one on the kept side). With groups whole groups are taken, in random order, as long as
    they fit into the share.

    Args:
        length: number of examples.
        share: of the examples that are taken, 0 to 1.
        seed, name: of the random order.
        labels: int64 [length], classes.
        groups: int64 [length]; examples of one group stay together.
    """
    order = permutation(length, seed, "split", name)
    target = round(share * length)
    if groups is not None:
        taken = _take_groups(order, groups, target)
    elif labels is None:
        taken = order[:target]
    else:
        classes, position = torch.unique(labels, return_inverse=True)
        counts = torch.bincount(position, minlength=len(classes))
        exact = counts.double() * share
        quota = exact.floor().long()
        by_remainder = torch.argsort(exact - quota, descending=True, stable=True)
        quota[by_remainder[: max(0, target - int(quota.sum()))]] += 1
        quota = torch.minimum(quota, (counts - 1).clamp(min=0)) if share < 1 else counts
        ordered = position[order]
        by_class = torch.argsort(ordered, stable=True)  # class by class, each in random order
        starts = torch.cumsum(counts, 0) - counts
        rank = torch.arange(length) - starts[ordered[by_class]]
        taken = order[by_class[rank < quota[ordered[by_class]]]]
    mask = torch.zeros(length, dtype=torch.bool)
    mask[taken] = True
    return torch.nonzero(~mask).flatten(), torch.nonzero(mask).flatten()


def _take_groups(order: Tensor, groups: Tensor, target: int) -> Tensor:
    names, inverse, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(
            "data.group: all examples are of one group; a part that shares no group with train cannot be made."
        )
    first_seen = dict.fromkeys(inverse[order].tolist())  # groups in random order
    chosen: list[int] = []
    total = 0
    for group in first_seen:
        size = int(counts[group])
        if total + size <= target:
            chosen.append(group)
            total += size
    if not chosen and target > 0:
        chosen = [int(counts.argmin())]  # every group is larger than the share: the smallest one
    return torch.nonzero(torch.isin(inverse, torch.tensor(chosen, dtype=inverse.dtype))).flatten()


def limited(examples: Examples, limit: int, seed: int) -> Examples:
    """At most `limit` examples a class (of all where there are no classes), chosen by the seed, in their order."""
    order = permutation(len(examples), seed, "limit")
    labels = examples.labels()
    if labels is None:
        chosen = order[:limit]
    else:
        ordered = labels[order]
        by_class = torch.argsort(ordered, stable=True)
        _, counts = torch.unique(ordered, return_counts=True)
        starts = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
        chosen = order[by_class[torch.arange(len(order)) - starts < limit]]
    return examples if len(chosen) == len(examples) else Subset(examples, chosen.sort().values)


def sampling_weights(examples: Examples) -> Tensor:
    """Weight of every example, float64 [N], so that classes are drawn equally often; they sum to one.

    Raises:
        ConfigError: the examples have no classes.
    """
    labels = examples.labels()
    if labels is None:
        raise ConfigError("data.weighted=true: the data has no classes to balance.")
    _, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / (counts.double()[inverse] * len(counts))


def describe(splits: Splits) -> dict[str, Any]:
    """What RUN/data.json holds: per part the number of examples, of each class, and a fingerprint."""
    described: dict[str, Any] = {}
    for name in ("train", "val", "test"):
        examples: Examples | None = getattr(splits, name)
        if examples is None:
            described[name] = None
            continue
        part: dict[str, Any] = {"examples": len(examples), "fingerprint": examples.fingerprint()}
        if (labels := examples.labels()) is not None:
            counts = np.bincount(labels.numpy(), minlength=len(splits.class_names or ()))
            names = splits.class_names or [str(label) for label in range(len(counts))]
            part["classes"] = dict(zip(names, counts.tolist(), strict=False))
        described[name] = part
    return described
