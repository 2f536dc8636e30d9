"""What a look at every text tells: empty ones, broken characters, lengths far off, near copies.

Texts are compared as `plain` leaves them: case, blanks and ways to write the same character do not count. Two texts are
near copies if four fifths of the runs of five characters that either has are in both.
"""

import re

import numpy as np

from layerwise.data.checks import Finding
from layerwise.data.checks_copies import conflict_findings, copy_findings
from layerwise.data.checks_scan import Pool
from layerwise.data.picture_hash import connected
from layerwise.data.shingles import near_copies, plain

LEAST_OVERLAP = 0.8
_LEAST_TEXTS = 20
_FAR = 3.0  # times the middle half's breadth (of logarithms) beyond it
_SHORT, _LONG = 1 / 4, 4.0  # and at least so many times shorter or longer than the median
_BROKEN = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f]|\u00c3[\u0080-\u00bf]|\u00e2\u20ac[\u0090-\u2122]")


def text_findings(pool: Pool) -> list[Finding]:
    """Findings on texts; nothing where examples are none. Exact copies are found where all copies are."""
    if pool.texts is None:
        return []
    texts = [plain(text) for text in pool.texts]
    found: list[Finding] = []
    empty = [i for i, text in enumerate(texts) if not text]
    if empty:
        named = tuple(pool.example(i, "empty") for i in empty)
        found.append(Finding("warning", "empty_texts", f"{len(empty):,} texts are empty ({pool.count(empty)}).", named))
    broken = [(i, match[0]) for i, text in enumerate(pool.texts) if (match := _BROKEN.search(text))]
    if broken:
        named = tuple(pool.example(i, f"has {part!r}") for i, part in broken)
        message = (
            f"{len(broken):,} texts have characters that were read in the wrong encoding or are no text "
            f"({pool.count([i for i, _ in broken])})."
        )
        found.append(Finding("warning", "broken_characters", message, named))
    return [*found, *_length_findings(pool, texts), *_near_copy_findings(pool, texts)]


def _length_findings(pool: Pool, texts: list[str]) -> list[Finding]:
    """Lengths in characters, by their logarithm: beyond three breadths of the middle half, and far from the median."""
    lengths = np.array([len(text) for text in texts], np.float64)
    there = lengths[lengths > 0]
    if len(there) < _LEAST_TEXTS:
        return []
    low, middle, high = np.quantile(np.log(there), [0.25, 0.5, 0.75])
    logs = np.log(np.maximum(lengths, 1))
    found: list[Finding] = []
    longest = max(high + _FAR * (high - low), middle + np.log(_LONG))
    shortest = min(low - _FAR * (high - low), middle + np.log(_SHORT))
    for code, mask, what in (
        ("long_texts", logs > longest, "far longer"),
        ("short_texts", (logs < shortest) & (lengths > 0), "far shorter"),
    ):
        at = np.flatnonzero(mask)
        if not len(at):
            continue
        at = at[np.argsort(-np.abs(logs[at] - middle), kind="stable")]
        named = tuple(pool.example(i, f"{int(lengths[i]):,} characters") for i in at.tolist())
        message = (
            f"{len(at):,} texts are {what} than the others ({pool.count(at)}): the median is "
            f"{round(float(np.exp(middle))):,} characters, theirs are {int(lengths[at].min()):,} to "
            f"{int(lengths[at].max()):,}."
        )
        found.append(Finding("note", code, message, named))
    return found


def _near_copy_findings(pool: Pool, texts: list[str]) -> list[Finding]:
    _, first = np.unique(pool.content, return_index=True)  # one of each group of exact copies
    chosen = np.sort(first)
    pairs = near_copies([texts[i] for i in chosen.tolist()], LEAST_OVERLAP)
    groups = connected(chosen[np.array([(one, other) for one, other, _ in pairs], np.int64).reshape(-1, 2)])
    return [*copy_findings(pool, groups, near=True), *conflict_findings(pool, groups, near=True)]
