"""A person's corpus as documents: text files, rows of tables, data sets saved by Hugging Face's `datasets`.

What is small lies in memory. What is large is read once and kept on disk as UTF-8, from where texts are mapped.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerwise.core.config import Fraction
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.corpus import ROW_SUFFIXES, TEXT_SUFFIXES, Document, Reader, is_rows, is_saved, saved_files
from layerwise.data.disk_cache import cache_key, file_stamps, kept
from layerwise.data.examples import Examples, Splits
from layerwise.data.files import is_litter
from layerwise.data.source import DataConfig
from layerwise.data.splits import DEFAULT_SHARE
from layerwise.data.table_parts import PARTS
from layerwise.data.text_store import TextStore
from layerwise.data.texts import TextExamples

_IN_MEMORY = 64_000_000  # bytes of text; beyond it a corpus lies on disk
_PACKED = (".gz", ".bz2")
_UNPACKED = 5  # times larger than a packed file
_FEW = 10  # fewer documents are cut as one text
_FORMAT = 1  # of what is kept on disk


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(DataConfig):
    """Options of every corpus of documents. Each document is an example; a corpus of fewer than ten is cut into its
    parts as one text: train first, then validation, then test.

    Args:
        test: test data: a share of the documents (0: none), or a path as `val` takes; None takes the corpus's own, else
            a tenth.
        cache: folder for what was read and tokenised, which is then mapped from there; None keeps what is small (up to
            64 MB of text) in memory, and the rest in $XDG_CACHE_HOME/layerwise.
    """

    test: Fraction | str | None = None
    cache: str | None = None


@dataclass(frozen=True, kw_only=True)
class TextConfig(CorpusConfig):
    """A corpus. `root` is a text file (one document), a JSON Lines, CSV, TSV or Parquet file (a document a row), a
    folder of such files, of one kind (read in order of name, subfolders too), or a folder that `save_to_disk` of
    Hugging Face's `datasets` made. Text, CSV and JSON Lines may be gzipped.

    Files or subfolders named train, val (valid, validation, dev) and test are these parts, where there is a train.

    Args:
        text: the column with the texts, of tables.
        delimiter: between cells of CSV files; None finds out.
        encoding: of text, CSV and JSON Lines.
    """

    text: str = "text"
    delimiter: str | None = None
    encoding: str = "utf-8"


class Text:
    """The data set `text`.

    Raises:
        ConfigError: no `root`.
        DataError: files are missing, empty, damaged, in another encoding or without the column.
    """

    def __init__(self, config: TextConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        config = self.config
        if config.root is None:
            raise ConfigError(
                "data.root is required: a text file, a folder of .txt files, a JSON Lines, CSV or Parquet file, or a "
                "folder that datasets saved."
            )
        return text_splits(config.root, config)


def text_splits(root: str, config: TextConfig, test: Path | None = None) -> Splits:
    """The documents of a corpus as examples; `test` is the corpus's own test part where that lies elsewhere."""
    parts, warnings = corpus_files(Path(root).expanduser(), "data.root")
    if test is not None:
        parts["test"] = [test]

    def read(paths: Sequence[Path], noticed: list[str]) -> Iterator[Document]:
        reader = Reader(text=config.text, delimiter=config.delimiter, encoding=config.encoding, warnings=noticed)
        return reader.documents(paths)

    def files(path: str, option: str) -> list[Path]:
        return corpus_files(Path(path).expanduser(), option)[0]["train"]

    reading = Reading(read, ["text", config.text, config.delimiter, config.encoding])
    splits = corpus_splits(parts, config, reading, files)
    splits.warnings = [*warnings, *splits.warnings]
    return splits


@dataclass(frozen=True)
class Reading:
    """How files become documents.

    Args:
        read: (files, list for what was noticed) -> their documents.
        options: JSON values that the result depends on.
    """

    read: Callable[[Sequence[Path], list[str]], Iterator[Document]]
    options: list[Any]


def corpus_splits(
    parts: Mapping[str, Sequence[Path]],
    config: CorpusConfig,
    reading: Reading,
    files: Callable[[str, str], Sequence[Path]],
) -> Splits:
    """Documents as examples, `text` each.

    Args:
        parts: "train", and where the corpus has them "val" and "test" -> their files.
        config: what a person asked for.
        reading: how files are read.
        files: (path, option that it was given by) -> files of a part that lies elsewhere.
    """
    asked = {part: getattr(config, part) for part in ("val", "test")}
    parts = {**parts, **{part: files(path, f"data.{part}") for part, path in asked.items() if isinstance(path, str)}}
    warnings: list[str] = []
    stores = {part: _collected(paths, config.cache, reading, warnings) for part, paths in parts.items()}
    whole = len(stores["train"]) >= _FEW
    if not whole:
        _check_few(config, len(stores["train"]))
        stores = _cut(stores, {part: share for part, share in asked.items() if not isinstance(share, str)}, warnings)
    made: dict[str, Examples] = {part: TextExamples(store, {}) for part, store in stores.items()}
    return Splits(train=made["train"], val=made.get("val"), test=made.get("test"), cut=not whole, warnings=warnings)


def _collected(paths: Sequence[Path], cache: str | None, reading: Reading, warnings: list[str]) -> TextStore:
    """The documents of files, in memory or on disk."""
    flat = [file for path in paths for file in ([path / "state.json", *saved_files(path)] if path.is_dir() else [path])]
    size = sum(path.stat().st_size * (_UNPACKED if path.suffix in _PACKED else 1) for path in flat)
    if cache is None and size <= _IN_MEMORY:
        return TextStore.packed(reading.read(paths, warnings))

    def make(folder: Path) -> dict[str, Any]:
        noticed: list[str] = []
        return {**TextStore.write(reading.read(paths, noticed), folder), "warnings": noticed}

    folder, known = kept(cache, "texts", cache_key(_FORMAT, *reading.options, file_stamps(flat)), make)
    warnings += known["warnings"]
    return TextStore.opened(folder, known)


def _check_few(config: CorpusConfig, count: int) -> None:
    """Options that count documents have nothing to count where a text is cut."""
    if config.limit is not None:
        documents = f"{count} document{'s' if count > 1 else ''}"
        raise ConfigError(
            f"data.limit={config.limit} counts documents, and this corpus of {documents} is read as one text. Train on "
            "less of it with max_steps."
        )


def _cut(
    stores: Mapping[str, TextStore], shares: Mapping[str, float | None], warnings: list[str]
) -> dict[str, TextStore]:
    """The parts, with train's last part as validation data and what follows as test data, where these are missing or a
    share is asked for; shares are of the bytes that are left, test first, as with documents.
    """
    made = dict(stores)
    whole, end = stores["train"], int(stores["train"].offsets[-1])
    for part in ("test", "val"):
        if part not in shares or (shares[part] is None and part in stores):
            continue  # a path, or the corpus's own
        asked = shares[part]
        if made.pop(part, None) is not None:
            warnings.append(f"data.{part}={asked:g}: the corpus's own {part} part is left out.")
        share = DEFAULT_SHARE if asked is None else asked
        if share > 0:
            first = whole.at_character(int(end * (1 - share)))
            if not 0 < first < end:
                raise ConfigError(f"data.{part}={share:g} of a text of {end} bytes leaves one part empty.")
            made[part], end = whole.part(first, end), first
    return {**made, "train": whole.part(0, end)}


def corpus_files(root: Path, option: str) -> tuple[dict[str, list[Path]], list[str]]:
    """Part -> the files of a corpus, and what a person should know of the choice.

    Args:
        root: a file or folder.
        option: what it was given by, for messages.

    Raises:
        DataError: it is missing, or a folder without files that serve, or with files of two kinds.
    """
    if root.is_file() or is_saved(root):
        return {"train": [root]}, []
    if not root.is_dir():
        raise DataError(f"{option}={root}: no such file or folder.")
    if (root / "dataset_dict.json").is_file():
        return _saved_parts(root, option), []
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and not is_litter(str(path.relative_to(root)))]
    texts = [path for path in found if path.name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES)]
    rows = [path for path in found if is_rows(path)]
    if texts and rows:
        raise DataError(
            f"{option}={root}: the folder has text files ({texts[0].name}, ...) and tables ({rows[0].name}, ...). Name "
            "one of them, or a folder with files of one kind."
        )
    if not (files := texts or rows):
        raise DataError(f"{option}={root}: the folder has no {', '.join((*TEXT_SUFFIXES, *ROW_SUFFIXES))} files.")
    roles = {path: _role(path.relative_to(root)) for path in files}
    if "train" not in roles.values():
        return {"train": files}, []
    parts = {part: [path for path in files if roles[path] == part] for part in ("train", "val", "test")}
    warnings: list[str] = []
    if others := [path for path in files if roles[path] is None]:
        warnings.append(
            f"{option}={root}: the folder has parts named train, val or test; {len(others)} other files are left out "
            f"({others[0].relative_to(root)}{', ...' if len(others) > 1 else ''})."
        )
    return {part: paths for part, paths in parts.items() if paths}, warnings


def _role(path: Path) -> str | None:
    """The part that a file is of: by the folder it is in, or the first word of its name."""
    if len(path.parts) > 1 and (part := PARTS.get(path.parts[0].lower())):
        return part
    return PARTS.get(re.split(r"[-._]", path.name.lower())[0])


def _saved_parts(root: Path, option: str) -> dict[str, list[Path]]:
    try:
        names: Iterable[str] = json.loads((root / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        parts = {part: [root / name] for name in names if (part := PARTS.get(name.lower()))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{root / 'dataset_dict.json'} is not what datasets saves: {error}.") from error
    if "train" not in parts:
        raise DataError(
            f"{option}={root}: its parts are {', '.join(names)}, none is named train. Name the folder of one of them."
        )
    return parts


DATASETS = {"text": TextConfig()}
