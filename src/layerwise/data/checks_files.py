"""What the headers of picture files tell: modes, sizes, and kinds of file that go with a class.

A class of which all pictures are of one kind (all cats PNG, all dogs JPEG; one camera's size) is learned by its kind.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from layerwise.core.errors import DataError
from layerwise.data.checks import Finding
from layerwise.data.checks_scan import NO_LABEL, Pool
from layerwise.data.checks_tables import errors_avoided
from layerwise.data.examples import Examples, Subset
from layerwise.data.files import FileTree, TarTree, ZipTree
from layerwise.data.pictures import UNREADABLE, open_picture, orientation
from layerwise.ops.random import permutation

_TOLD = 0.5  # share of the errors that the kind of file alone may explain before it is told
_LEAST_FILES = 50
_ENLARGED, _CUT = 2.0, 2.0
_SEED = 1


@dataclass(frozen=True)
class _Header:
    kind: str
    mode: str
    width: int
    height: int


def files_of(pool: Pool) -> list[str] | None:
    """The file of every example; None where examples are not one file each.

    Parts that were taken off train have train's files.
    """
    listed: dict[str, list[str]] | None = pool.splits.extras.get("files")
    if listed is None:
        return None
    found: list[str] = []
    train = None if pool.splits.train is None else _whole(pool.splits.train)
    for part, name in enumerate(pool.parts):
        examples = pool.examples(name)
        names = listed.get("train" if _whole(examples) is train else name, [])
        ids = pool.sample_ids[pool.part == part]
        if not len(ids) or not 0 <= ids.min() <= ids.max() < len(names):
            return None
        found += [names[i] for i in ids.tolist()]
    return found


def _whole(examples: Examples) -> Examples:
    while isinstance(examples, Subset):
        examples = examples.parent
    return examples


def file_findings(pool: Pool) -> list[Finding]:
    """Findings on files; nothing where examples are no pictures in files."""
    files = files_of(pool)
    if files is None or pool.pictures is None:
        return []
    headers = _headers(files)
    found: list[Finding] = []
    modes = Counter(header.mode for header in headers)
    if len(modes) > 1:
        usual = modes.most_common(1)[0][0]
        named = tuple(pool.example(i, f"mode {h.mode}") for i, h in enumerate(headers) if h.mode != usual)
        shown = ", ".join(f"{mode} {count:,}" for mode, count in modes.most_common())
        becomes = "grey" if pool.pictures.channels == 1 else "colour (RGB)"
        message = f"Pictures are of {len(modes)} modes ({shown}); all become {becomes}."
        found.append(Finding("note", "picture_modes", message, named))
    found += _size_findings(pool, headers)
    if len(files) >= _LEAST_FILES and pool.labels is not None and not (pool.labels == NO_LABEL).any():
        found += _kind_findings(pool, headers, pool.labels)
    return found


def _size_findings(pool: Pool, headers: list[_Header]) -> list[Finding]:
    """Pictures much smaller than what they are brought to, or of quite another shape."""
    assert pool.pictures is not None
    height, width = pool.pictures.height, pool.pictures.width
    found: list[Finding] = []
    scale = [max(height / header.height, width / header.width) for header in headers]
    small = sorted((i for i, value in enumerate(scale) if value > _ENLARGED), key=lambda i: -scale[i])
    if small:
        named = tuple(pool.example(i, f"{headers[i].width} x {headers[i].height}") for i in small)
        message = (
            f"Pictures so small that they are enlarged more than {_ENLARGED:g} times to {width} x {height}: "
            f"{pool.count(small)}."
        )
        found.append(Finding("note", "small_pictures", message, named))
    shape = [(header.width / header.height) / (width / height) for header in headers]
    off = [max(value, 1 / value) for value in shape]
    cut = sorted((i for i, value in enumerate(off) if value > _CUT), key=lambda i: -off[i])
    if cut:
        named = tuple(pool.example(i, f"{headers[i].width} x {headers[i].height}") for i in cut)
        message = (
            f"Pictures more than {_CUT:g} times wider or higher than {width} x {height} asks for, of which most is "
            f"cut off, or squashed: {pool.count(cut)}."
        )
        found.append(Finding("note", "elongated_pictures", message, named))
    return found


def _kind_findings(pool: Pool, headers: list[_Header], labels: NDArray[np.int64]) -> list[Finding]:
    half = permutation(len(headers), _SEED, "halves").numpy() < len(headers) // 2
    found: list[Finding] = []
    kinds: dict[str, Callable[[_Header], str]] = {
        "file format": lambda header: header.kind,
        "mode (colours, transparency)": lambda header: header.mode,
        "size": lambda header: f"{header.width} x {header.height}",
    }
    for what, kind in kinds.items():
        names = [kind(header) for header in headers]
        distinct, cells = np.unique(names, return_inverse=True)
        if len(distinct) < 2 or (told := errors_avoided(cells, labels, half)) < _TOLD:
            continue
        shown: list[str] = []
        for label in np.unique(labels).tolist()[:3]:
            at = np.flatnonzero(labels == label)
            common, count = Counter(names[i] for i in at.tolist()).most_common(1)[0]
            shown.append(f"{pool.class_name(int(at[0]))!r} is {common} in {count:,} of {len(at):,}")
        message = (
            f"The {what} of a file alone tells {told:.0%} of what the commonest class leaves open "
            f"({'; '.join(shown)}): a network learns that instead of what the pictures show, and fails on other files."
        )
        found.append(Finding("warning", "leaking_files", message))
    return found


def _headers(files: list[str]) -> list[_Header]:
    """Format, mode and size of each; a file that has become unreadable has none."""
    archives: dict[Path, FileTree] = {}
    found: list[_Header] = []
    for name in files:
        try:
            with open_picture(_source(name, archives)) as picture:
                width, height = picture.size
                if orientation(picture) >= 5:
                    width, height = height, width
                found.append(_Header(picture.format or "", picture.mode, max(1, width), max(1, height)))
        except (*UNREADABLE, DataError, KeyError):
            found.append(_Header("unreadable", "unreadable", 1, 1))
    return found


def _source(name: str, archives: dict[Path, FileTree]) -> Path | io.BytesIO:
    """A file, or a member of a zip or tar on the way to it."""
    path = Path(name)
    if path.is_file():
        return path
    above = next((folder for folder in path.parents if folder.is_file()), None)
    if above is None:
        return path
    inside = path.relative_to(above).as_posix()
    if above not in archives:
        archives[above] = ZipTree(above) if zipfile.is_zipfile(above) else TarTree(above.parent, [above])
    tree = archives[above]
    return io.BytesIO(tree.read(inside if isinstance(tree, ZipTree) else f"{above.name}/{inside}"))
