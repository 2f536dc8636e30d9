"""What a look at every picture tells: near copies, blank pictures, values that use little of their range.

Two pictures are near copies if their perceptual hashes differ in at most 7 of 64 bits and, brought to 32 x 32, their
grey values correlate by at least 0.995 and their colours by at least 0.97 (JPEG keeps colours at half the detail). That
keeps a picture that was compressed again (JPEG, quality 75), resized by some per cent or made a little lighter or
darker, and tells handwritten digits of the same shape apart: of MNIST's 2.4 billion pairs none passes. What it misses:
pictures of nearly one colour, which have no shape to compare, resized pictures under about 50 pixels a side, which lose
their edges by it, and compressed ones of that size that are all fine texture.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.data.checks import Finding
from layerwise.data.checks_copies import conflict_findings, copy_findings
from layerwise.data.checks_scan import Pool, centred
from layerwise.data.picture_hash import close_pairs, connected, thumbnails

LEAST_CORRELATION, LEAST_COLOUR = 0.995, 0.97
_SIDE = 32
_ROUGHLY = 0.99  # correlation of the outlines, before the pictures are looked at again
_LEAST_CONTRAST = 4.0  # standard deviation of grey values (0 to 255) from which on a picture has a shape
_MOST_PAIRS = 2_000_000
_PAIRS_AT_ONCE, _PICTURES_AT_ONCE = 1 << 13, 256
_MANY = 0.01


def value_range_findings(pool: Pool) -> list[Finding]:
    """Blank pictures, values that use little of their range; nothing where examples are no pictures."""
    pictures = pool.pictures
    if pictures is None:
        return []
    found: list[Finding] = []
    blank = np.flatnonzero(pictures.blank)
    if len(blank):
        message = f"{len(blank):,} of {len(pool):,} pictures are of one colour ({pool.count(blank)})."
        named = tuple(pool.example(i) for i in blank.tolist())
        found.append(Finding("warning" if len(blank) > _MANY * len(pool) else "note", "blank_pictures", message, named))
    low, high = float(pictures.lowest.min()), float(pictures.highest.max())
    if high > low and high - low < 64:
        message = (
            f"Pixels lie between {low:g} and {high:g}, of 0 to 255 that they could use: were they scaled before they "
            f"were made bytes? Multiply them back, or expect dark, coarse pictures."
        )
        found.append(Finding("warning", "value_range", message))
    return found


def near_copy_findings(pool: Pool) -> list[Finding]:
    """Near copies by the definition above, exact ones left out."""
    pairs, complete = near_copies(pool)
    groups = connected(pairs)
    found = [*copy_findings(pool, groups, near=True), *conflict_findings(pool, groups, near=True)]
    if not complete:
        message = (
            f"The pictures are so alike that the search for near copies stopped at {_MOST_PAIRS:,} pairs: there are "
            f"more than those named."
        )
        found.append(Finding("warning", "near_duplicates_stopped", message))
    return found


def near_copies(pool: Pool) -> tuple[NDArray[np.int64], bool]:
    """Pairs of the pool's pictures [P, 2] that are near copies and no exact ones; False where there were too many."""
    if pool.pictures is None:
        return np.zeros((0, 2), np.int64), True
    outlines = torch.from_numpy(pool.pictures.outlines)
    _, first = np.unique(pool.content, return_index=True)  # one of each group of exact copies
    shaped = np.sort(first[pool.pictures.contrast[first] >= _LEAST_CONTRAST])
    rough: list[NDArray[np.int64]] = []
    total = 0
    complete = True
    for close in close_pairs(pool.pictures.hashes[shaped]):
        pairs = shaped[close]
        one, other = (outlines[torch.from_numpy(pairs[:, side])].float() for side in (0, 1))
        likely = pairs[(torch.linalg.vecdot(one, other) >= _ROUGHLY).numpy()]
        rough.append(likely)
        total += len(likely)
        if total > _MOST_PAIRS:
            complete = False
            break
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *rough])
    members, places = np.unique(pairs, return_inverse=True)
    sure = _alike(_look_again(pool, members), torch.from_numpy(places.reshape(-1, 2)))
    kept = np.sort(pairs[sure], axis=1)
    return kept[np.lexsort(kept.T[::-1])], complete


def _look_again(pool: Pool, indices: NDArray[np.int64]) -> Tensor:
    """The pictures at ascending `indices` as uint8 [M, C, 32 * 32]."""
    channels = 0 if pool.pictures is None else pool.pictures.channels
    made = torch.empty(len(indices), channels, _SIDE * _SIDE, dtype=torch.uint8)
    for start in range(0, len(indices), _PICTURES_AT_ONCE):
        some = indices[start : start + _PICTURES_AT_ONCE]
        images = [batch["image"] for batch in pool.collate(some).values()]  # ascending: part after part
        small = [thumbnails(image.expand(-1, channels, -1, -1), _SIDE).flatten(2) for image in images]
        made[start : start + len(some)] = torch.cat(small).round().clamp(0, 255).to(torch.uint8)
    return made


def _alike(pictures: Tensor, pairs: Tensor) -> NDArray[np.bool_]:
    """Which pairs [P, 2] of pictures uint8 [M, C, 32 * 32] correlate as copies do, [P]."""
    made: list[Tensor] = [torch.zeros(0, dtype=torch.bool)]
    for some in pairs.split(_PAIRS_AT_ONCE):
        one, other = (pictures[some[:, side]].float() for side in (0, 1))
        grey = torch.linalg.vecdot(centred(one.mean(1)), centred(other.mean(1)))
        colour = torch.linalg.vecdot(centred(one.flatten(1)), centred(other.flatten(1)))
        made.append((grey >= LEAST_CORRELATION) & (colour >= LEAST_COLOUR))
    return torch.cat(made).numpy()
