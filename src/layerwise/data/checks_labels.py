"""Labels that look wrong: confident learning on the judgement of a classifier that did not see them.

C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021,
https://arxiv.org/abs/1911.00068, equations 1 and 2: an example is confidently of class j if its out-of-fold probability
of j reaches the mean of that probability over the examples labelled j; of several such classes the likeliest counts. A
candidate is an example labelled i that is confidently of another class.

The classifier is ridge regression on the classes (closed form, no random start), on principal components of the
features and radial basis functions of them around examples drawn by a fixed seed. Equal inputs stay in one fold, so
that copies do not vouch for one another. Where this classifier is weak its doubts mean nothing, and nothing is
reported.

Shapes: M examples, D features, K classes, R functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from layerwise.data.checks import Finding
from layerwise.data.checks_scan import NO_LABEL, Pool
from layerwise.ops.random import permutation

LEAST_SKILL = 0.6  # share of the commonest class's errors that the classifier must avoid to be believed
FOLDS = 5
_LEAST_A_CLASS = 2 * FOLDS
_COMPONENTS, _FUNCTIONS = 64, 1000
_PENALTIES = (0.1, 1.0, 10.0)
_SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0)
_WIDTH = 0.5  # of a function: its squared width over the median squared distance of two examples
_SEED = 1911
_AT_ONCE = 4096


@dataclass(frozen=True)
class Suspects:
    """Candidates for wrong labels, the surest first.

    Args:
        indices: of the examples given, [S].
        suggested: the class that each confidently is, [S].
        margin: probability of that class less that of the label, [S].
        accuracy: of the classifier on labels that it did not see.
        skill: share of the commonest class's errors that it avoids, by the lower end of the accuracy's 95 % interval.
    """

    indices: NDArray[np.int64]
    suggested: NDArray[np.int64]
    margin: NDArray[np.float32]
    accuracy: float
    skill: float


def label_findings(pool: Pool, features: Tensor | None) -> tuple[list[Finding], str]:
    """Candidates of all parts.

    Args:
        features: [M, D] of the examples `pool.judged`; None where there are none.

    Returns:
        Findings, and what was looked at or why nothing was.
    """
    if pool.labels is None or features is None:
        return [], "no classes, or no features that a simple classifier takes"
    if features.is_floating_point() and not bool(torch.isfinite(features).all()):
        return [], "none: features are not finite"
    labels = pool.labels[pool.judged]
    classes, counts = np.unique(labels, return_counts=True)
    known = classes[(counts >= _LEAST_A_CLASS) & (classes != NO_LABEL)]
    usable = np.flatnonzero(np.isin(labels, known))
    if len(known) < 2:
        return [], f"fewer than two classes have {_LEAST_A_CLASS} examples"
    found = suspects(
        features[torch.from_numpy(usable)],
        torch.from_numpy(np.searchsorted(known, labels[usable])),
        pool.content[pool.judged[usable]],
    )
    told = f"{len(usable):,} labels by a classifier right on {found.accuracy:.1%} of those it did not see"
    if found.skill < LEAST_SKILL:
        return [], f"none: a classifier right on {found.accuracy:.1%} of {len(usable):,} is too weak to doubt labels by"
    if not len(found.indices):
        return [], told
    at = pool.judged[usable[found.indices]]
    examples = tuple(
        pool.example(index, f"labelled {pool.class_name(index)}, looks like {pool.name_of(int(known[suggested]))}")
        for index, suggested in zip(at.tolist(), found.suggested.tolist(), strict=True)
    )
    message = (
        f"{len(at):,} of {len(usable):,} labels look wrong to a simple classifier that did not see them "
        f"({pool.count(at)}; it is right on {found.accuracy:.1%}). Look at them before you change any."
    )
    return [Finding("note", "label_noise", message, examples)], told


def suspects(features: Tensor, labels: Tensor, keys: NDArray[np.int64]) -> Suspects:
    """Candidates among examples.

    Args:
        features: [M, D], any real type, finite.
        labels: int64 [M], classes 0 to K - 1, each with several examples.
        keys: [M]; examples of equal keys are judged together.
    """
    functions = _functions(features)
    folds = _folds(keys)
    logits = _out_of_fold(functions, labels, folds)
    probabilities = (logits * _sharpness(logits, labels)).softmax(1)
    classes = logits.shape[1]
    own = probabilities.gather(1, labels[:, None])[:, 0]
    counts = torch.bincount(labels, minlength=classes)
    thresholds = torch.zeros(classes, dtype=own.dtype).index_add_(0, labels, own) / counts
    confident = torch.where(probabilities >= thresholds, probabilities, -1.0)
    best, suggested = confident.max(1)
    at = torch.nonzero((best >= 0) & (suggested != labels)).flatten()
    margin = best[at] - own[at]
    order = torch.argsort(margin, descending=True, stable=True)
    right = float((logits.argmax(1) == labels).double().mean())
    surely = right - 1.96 * (right * (1 - right) / len(labels)) ** 0.5
    commonest = float(counts.max()) / len(labels)
    return Suspects(
        at[order].numpy(),
        suggested[at[order]].numpy(),
        margin[order].numpy(),
        right,
        (surely - commonest) / max(1 - commonest, 1e-9),
    )


def _folds(keys: NDArray[np.int64]) -> Tensor:
    """A fold of each example [M]: equal keys in one, folds of nearly equal size."""
    distinct, place = np.unique(keys, return_inverse=True)
    order = permutation(len(distinct), _SEED, "folds")
    fold = torch.empty(len(distinct), dtype=torch.int64)
    fold[order] = torch.arange(len(distinct)) % FOLDS
    return fold[torch.from_numpy(place)]


def _functions(features: Tensor) -> Tensor:
    """Principal components, radial basis functions around some examples, and one: float32 [M, R]."""
    count, width = features.shape
    total, products = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    shift = features[:_AT_ONCE].double().mean(0)
    for rows in features.split(_AT_ONCE):
        centred = rows.double() - shift
        total += centred.sum(0)
        products += (centred.float().T @ centred.float()).double()
    mean = total / count
    covariance = products / count - mean[:, None] * mean
    vectors = torch.linalg.eigh(covariance).eigenvectors[:, -min(_COMPONENTS, width) :].float()
    centre = (shift + mean).float()
    components = torch.cat([(rows.float() - centre) @ vectors for rows in features.split(_AT_ONCE)])
    components /= components.square().sum(1).mean().sqrt().clamp(min=1e-12)
    drawn = permutation(count, _SEED, "centres")
    centres = components[drawn[: min(_FUNCTIONS, count // 2)]]
    distances = torch.pdist(components[drawn[:1000]]).square()
    apart = distances[distances > 0]
    squared_width = _WIDTH * float(apart.median()) if len(apart) else 1.0
    near = torch.cat(
        [torch.exp(-torch.cdist(rows, centres).square() / squared_width) for rows in components.split(_AT_ONCE)]
    )
    return torch.cat([near, components, torch.ones(count, 1)], dim=1)


def _out_of_fold(functions: Tensor, labels: Tensor, folds: Tensor) -> Tensor:
    """Ridge regression on the classes, fitted without each example's fold, [M, K]; the penalty is the best of three by
    log-likelihood out of fold.
    """
    width, classes = functions.shape[1], int(labels.max()) + 1
    grams = torch.zeros(FOLDS, width, width, dtype=torch.float64)
    sums = torch.zeros(FOLDS, width, classes, dtype=torch.float64)
    members = [torch.nonzero(folds == fold).flatten() for fold in range(FOLDS)]
    for fold in range(FOLDS):
        for some in members[fold].split(_AT_ONCE):
            rows = functions[some]
            grams[fold] += (rows.T @ rows).double()
            sums[fold] += (rows.T @ F.one_hot(labels[some], classes).float()).double()
    best: tuple[float, Tensor] | None = None
    for penalty in _PENALTIES:
        logits = torch.zeros(len(labels), classes)
        for fold in range(FOLDS):
            gram = grams.sum(0) - grams[fold]
            gram.diagonal().add_(penalty)
            weights = torch.cholesky_solve(sums.sum(0) - sums[fold], torch.linalg.cholesky(gram)).float()
            for some in members[fold].split(_AT_ONCE):
                logits[some] = functions[some] @ weights
        loss = float(F.cross_entropy(logits * _sharpness(logits, labels), labels))
        if best is None or loss < best[0]:
            best = (loss, logits)
    assert best is not None
    return best[1]


def _sharpness(logits: Tensor, labels: Tensor) -> float:
    """The factor under which softmax gives the labels the most likelihood."""
    return min(_SHARPNESS, key=lambda factor: float(F.cross_entropy(logits * factor, labels)))


def table_features(table: dict[str, Tensor], chosen: NDArray[np.int64]) -> Tensor | None:
    """Numbers in standard scores, with a mark for missing ones, and a column for each common value of a category."""
    at = torch.from_numpy(chosen)
    made: list[Tensor] = []
    if "numeric" in table and table["numeric"].shape[1]:
        numbers = table["numeric"][at].double()
        usable = torch.isfinite(numbers)
        held = torch.where(usable, numbers, 0.0)
        count = usable.sum(0).clamp(min=1)
        mean = held.sum(0) / count
        deviation = (torch.where(usable, numbers - mean, 0.0).square().sum(0) / count).sqrt()
        scores = torch.where(usable, (numbers - mean) / torch.where(deviation > 0, deviation, 1.0), 0.0)
        made += [scores.clamp(-5, 5).float(), (~usable)[:, (~usable).any(0)].float()]
    for column in table["categories"][at].unbind(1) if "categories" in table else ():
        values, counts = torch.unique(column, return_counts=True)
        common = values[torch.argsort(counts, descending=True, stable=True)[:_COMPONENTS]]
        made.append((column[:, None] == common).float())
    return torch.cat(made, dim=1) if made else None


def text_features(texts: Sequence[str], width: int = 1024) -> Tensor:
    """Words hashed into `width` signed columns, weighted by rarity, rows of length one, [M, width]."""
    import re
    import zlib

    columns: dict[str, tuple[int, float]] = {}
    made = np.zeros((len(texts), width), np.float32)
    for row, text in enumerate(texts):
        for word in set(re.findall(r"\w+|[^\w\s]", text)):
            if word not in columns:
                code = zlib.crc32(word.encode("utf-8", "surrogatepass"))
                columns[word] = (code % width, 1.0 - 2.0 * ((code >> 20) & 1))
            at, sign = columns[word]
            made[row, at] += sign
    present = (made != 0).mean(0)
    made *= np.log(1.0 / np.maximum(present, 1.0 / max(1, len(texts))))
    return torch.from_numpy(made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-9))
