"""Texts that are nearly the same: overlap of their character n-grams, found by min-wise hashing.

A. Broder, "On the resemblance and containment of documents", 1997: two texts agree in one min-wise hash with the
probability of their Jaccard overlap. 16 bands of four hashes each are compared (J. Leskovec, A. Rajaraman, J. Ullman,
"Mining of Massive Datasets", section 3.4): a pair of overlap s meets in one with probability 1 - (1 - s^4)^16, which is
0.9998 at 0.8. Pairs that meet are then counted exactly.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

LENGTH = 5  # characters of a shingle
_BANDS, _ROWS = 16, 4
_MOST_CHARACTERS = 20_000  # of a text that are looked at
_CHARACTERS_AT_ONCE = 1 << 20
_MOST_IN_BUCKET = 200  # texts of one bucket that are compared each with each; of more, each with the first
_SEED = 1997


def plain(text: str) -> str:
    """A text as copies of it should look: case, kinds of blanks and ways to write the same character do not count.

    Example:
        >>> plain("  A  good\\tFilm ")
        'a good film'
    """
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().casefold()


def near_copies(texts: Sequence[str], least: float) -> list[tuple[int, int, float]]:
    """Pairs of different texts whose shingles overlap by at least `least` (Jaccard), with the overlap.

    Args:
        texts: as `plain` gives them.
        least: 0.7 to 1; lower ones would not be found surely.

    Example:
        >>> near_copies(["the brown fox jumps over the dog", "the brown fox jumps over the dogs", "no"], 0.8)
        [(0, 1, 0.9655172413793104)]
    """
    if not 0.7 <= least <= 1:
        raise ValueError(f"least={least}: must be 0.7 to 1")
    signatures = _signatures(texts)
    long_enough = np.array([len(text) >= LENGTH for text in texts], bool)
    pairs: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        rows = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        keys = rows.view([("", rows.dtype)] * _ROWS).ravel()
        _, bucket, counts = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.argsort(bucket, kind="stable")
        ends = np.cumsum(counts)
        for at in np.flatnonzero(counts > 1):
            members = [i for i in order[ends[at] - counts[at] : ends[at]].tolist() if long_enough[i]]
            firsts = members if len(members) <= _MOST_IN_BUCKET else members[:1]
            pairs.update((one, other) for k, one in enumerate(firsts) for other in members[k + 1 :])
    held: dict[int, frozenset[str]] = {}
    found: list[tuple[int, int, float]] = []
    for one, other in sorted(pairs):
        a, b = (held.setdefault(i, _shingles(texts[i])) for i in (one, other))
        overlap = len(a & b) / len(a | b)
        if overlap >= least and texts[one] != texts[other]:
            found.append((one, other, overlap))
    return found


def _shingles(text: str) -> frozenset[str]:
    text = text[:_MOST_CHARACTERS]
    return frozenset(text[i : i + LENGTH] for i in range(len(text) - LENGTH + 1))


def _signatures(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Min-wise hashes [N, bands * rows]; all ones where a text is shorter than a shingle."""
    generator = np.random.default_rng(_SEED)
    factors = generator.integers(1, 2**63, _BANDS * _ROWS, dtype=np.uint64) | np.uint64(1)
    terms = generator.integers(0, 2**63, _BANDS * _ROWS, dtype=np.uint64)
    made = np.full((len(texts), _BANDS * _ROWS), np.iinfo(np.uint64).max, np.uint64)
    for where, owners, shingles in _hashed(texts):
        firsts = np.flatnonzero(np.diff(owners, prepend=-1))
        for k in range(_BANDS * _ROWS):
            mixed = shingles * factors[k] + terms[k]
            mixed ^= mixed >> np.uint64(32)
            made[where + owners[firsts], k] = np.minimum.reduceat(mixed, firsts)
    return made


def _hashed(texts: Sequence[str]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint64]]]:
    """Pieces of texts: number of the first, and for every shingle its text's number in the piece and its hash."""
    start = 0
    while start < len(texts):
        stop, total = start, 0
        while stop < len(texts) and (stop == start or total + len(texts[stop]) <= _CHARACTERS_AT_ONCE):
            total += min(len(texts[stop]), _MOST_CHARACTERS)
            stop += 1
        cut = [text[:_MOST_CHARACTERS] for text in texts[start:stop]]
        lengths = np.array([len(text) for text in cut])
        points = np.frombuffer("".join(cut).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        owner = np.repeat(np.arange(len(cut)), lengths)
        count = max(0, len(points) - LENGTH + 1)
        hashes = np.zeros(count, np.uint64)
        for offset in range(LENGTH):  # modulo 2^64
            hashes = hashes * np.uint64(0x100000001B3) + points[offset : offset + count]
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
        inside = owner[:count] == owner[LENGTH - 1 : LENGTH - 1 + count]  # not across the end of a text
        if inside.any():
            yield start, owner[:count][inside], hashes[inside]
        start = stop
