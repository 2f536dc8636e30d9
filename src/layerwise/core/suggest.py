"""The nearest right name for a wrong one."""

from collections.abc import Iterable


def edit_distance(a: str, b: str) -> int:
    """Damerau-Levenshtein distance (optimal string alignment): insert, delete, replace, swap neighbours."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names nearest to `name`, best first; empty if none is near (more than half of its letters differ)."""
    scored = sorted((edit_distance(name.lower(), other.lower()), other) for other in set(known))
    if not scored or scored[0][0] > max(2, len(name) // 2):
        return []
    return [other for distance, other in scored if distance == scored[0][0]]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean X?' with the nearest known names, else the known names where they are few, else ''."""
    known = sorted(set(known))
    if close := nearest(name, known):
        return f" Did you mean {' or '.join(repr(c) for c in close[:3])}?"
    return f" Known: {', '.join(known)}." if 0 < len(known) <= 24 else ""
