"""Examples that are pairs of texts, a source and its translation, and where they come from: two aligned files, or two
columns of a table.

Raw columns: `text` and `target`, the UTF-8 bytes, uint8 [B, L] each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.config import Fraction
from layerwise.core.errors import DataError
from layerwise.data.examples import Batch, Examples, Splits
from layerwise.data.files import FileTree, open_tree
from layerwise.data.plain_text import read_text
from layerwise.data.rows import no_column
from layerwise.data.source import DataConfig
from layerwise.data.table import Table
from layerwise.data.table_parts import PARTS, Kinds, read_parts
from layerwise.data.text_table import SUFFIXES, TextFile, read_rows
from layerwise.data.texts import TextExamples

_KINDS = Kinds(
    suffixes=SUFFIXES,
    names="CSV, JSON Lines or Parquet",
    wanted="a folder with aligned files, or a table with two columns of texts",
    needed="one file, or one named train,",
)


@dataclass(frozen=True, kw_only=True)
class ParallelTextConfig(DataConfig):
    """Texts and their translations. Either two files of which line n of one translates line n of the other, or a CSV,
    TSV, JSON Lines or Parquet file with a column of each. Text files and CSV may be gzipped.

    Three forms: `data.source=corpus.en data.target=corpus.de` names two files; `data.root=FOLDER data.source=en
    data.target=de` takes train.en and train.de (val.*, test.* likewise) of a folder or zip; `data.root=pairs.tsv
    data.source=english data.target=german` takes two columns.

    Args:
        source, target: two files, or the ending of the files in `root`, or the columns of the table.
        test: test data: a share of train (0: none), or a path as `val` takes; None takes the folder's own, else a tenth
            of train. The path of aligned files is given without their ending: `data.val=dev` takes dev.en and dev.de.
        columns: names of the columns, for CSV files without a header line.
        delimiter: between cells of CSV files; None finds out.
        encoding: of the texts.
    """

    source: str = "source"
    target: str = "target"
    test: Fraction | str | None = None
    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str = "utf-8-sig"


class TextPairs(Examples):
    """Pairs of texts in memory.

    Args:
        sources, targets: of equal length; text i of the one is the translation of text i of the other.
        name: what messages call them.

    Raises:
        DataError: their numbers differ, or a text has a NUL character.

    Example:
        >>> import torch
        >>> pairs = TextPairs(["a dog", "a cat"], ["ein Hund", "eine Katze"])
        >>> sorted(pairs.collate(torch.tensor([1])))
        ['sample_ids', 'target', 'text']
    """

    def __init__(self, sources: Sequence[str], targets: Sequence[str], name: str = "texts") -> None:
        if len(sources) != len(targets):
            raise DataError(f"{name}: {len(sources)} sources and {len(targets)} targets; each needs the other.")
        try:
            self._sources, self._targets = TextExamples(sources, {}), TextExamples(targets, {})
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    def __len__(self) -> int:
        return len(self._sources)

    @property
    def texts(self) -> Sequence[str]:
        """The sources."""
        return self._sources.texts

    @property
    def targets(self) -> Sequence[str]:
        """The translations."""
        return self._targets.texts

    def collate(self, indices: Tensor) -> Batch:
        return {**self._sources.collate(indices), "target": self._targets.collate(indices)["text"]}

    def fingerprint(self) -> str:
        return self._sources.fingerprint()[:16] + self._targets.fingerprint()[:16]

    def content_keys(self) -> NDArray[np.int64]:
        """A hash of both texts: copies are pairs that are equal in both."""
        return self._sources.content_keys() * 31 + self._targets.content_keys()


class ParallelText:
    """The data set `parallel_text`.

    Raises:
        ConfigError: neither a root nor two files.
        DataError: a file is missing, empty or not in its encoding; two files have different numbers of lines.
    """

    def __init__(self, config: ParallelTextConfig) -> None:
        self.config = config
        self.warnings: list[str] = []

    def splits(self) -> Splits:
        config = self.config
        names = (config.source, config.target)
        if config.root is None:
            pairs = self._two_files()
            names = (Path(config.source).name, Path(config.target).name)
        else:
            pairs = self._in_root(config.root)
        made = {part: self._pairs(*each) for part, each in pairs.items()}
        return Splits(
            train=made["train"],
            val=made.get("val"),
            test=made.get("test"),
            extras={"languages": list(names), "text_file": self._file().to_json()},
            warnings=self.warnings,
        )

    def _file(self) -> TextFile:
        config = self.config
        return TextFile(
            text=config.source,
            label=config.target,
            columns=config.columns,
            delimiter=config.delimiter,
            encoding=config.encoding,
        )

    def _two_files(self) -> dict[str, tuple[Table, Table]]:
        """`source` and `target` are paths."""
        config = self.config
        paths = {option: Path(getattr(config, option)).expanduser() for option in ("source", "target")}
        for option, path in paths.items():
            if not path.is_file():
                raise DataError(
                    f"data.{option}={path}: there is no such file. Give two aligned files, or data.root=FOLDER with "
                    f"their endings."
                )
        found = {"train": (self._lines(paths["source"]), self._lines(paths["target"]))}
        endings = [_ending(path) for path in paths.values()]
        for part in ("val", "test"):
            if isinstance(asked := getattr(config, part), str):
                found[part] = self._beside(asked, endings, part)
        return found

    def _in_root(self, root: str) -> dict[str, tuple[Table, Table]]:
        config = self.config
        path = Path(root).expanduser()
        asked = {"val": config.val, "test": config.test}
        if path.exists() and not path.name.lower().removesuffix(".gz").endswith(SUFFIXES):
            tree = open_tree(root, _KINDS.wanted)
            found = self._aligned(tree)
            if found:
                endings = [f".{config.source}", f".{config.target}"]
                for part, given in asked.items():
                    if isinstance(given, str):
                        found[part] = self._beside(given, endings, part)
                return found
        tables = read_parts(root, asked, _KINDS, self._table)
        return {
            part: (_column(table, config.source, "source"), _column(table, config.target, "target"))
            for part, table in tables.items()
        }

    def _aligned(self, tree: FileTree) -> dict[str, tuple[Table, Table]]:
        """The parts of a folder that has train.SOURCE and train.TARGET; nothing where it has no such files."""
        config = self.config
        found: dict[str, tuple[Table, Table]] = {}
        named = {name.removesuffix(".gz"): name for name in tree.files}
        for stem, part in PARTS.items():
            both = [named.get(f"{stem}.{language}") for language in (config.source, config.target)]
            if both[0] and both[1] and part not in found:
                first, second = (self._read(tree.read(name), tree.path(name)) for name in (both[0], both[1]))
                found[part] = (first, second)
        return found if "train" in found else {}

    def _beside(self, prefix: str, endings: Sequence[str], part: str) -> tuple[Table, Table]:
        """Two aligned files that are named alike but for their endings."""
        tables: list[Table] = []
        for ending in endings:
            candidates = [Path(prefix + ending + more).expanduser() for more in ("", ".gz")]
            path = next((each for each in candidates if each.is_file()), None)
            if path is None:
                raise DataError(f"data.{part}={prefix}: there is no file {candidates[0]}.")
            tables.append(self._lines(path))
        return tables[0], tables[1]

    def _table(self, data: bytes, name: str) -> Table:
        return read_rows(data, name, self._file())

    def _lines(self, path: Path) -> Table:
        return self._read(path.read_bytes(), str(path))

    def _read(self, data: bytes, name: str) -> Table:
        lines = read_lines(data, name, self.config.encoding)
        return Table(name, {"text": lines}, list(range(1, len(lines) + 1)))

    def _pairs(self, source: Table, target: Table) -> TextPairs:
        """The pairs of which both sides have text."""
        if len(source) != len(target):
            raise DataError(
                f"{source.name} has {len(source)} lines and {target.name} has {len(target)}: line n of one must "
                f"translate line n of the other."
            )
        (sources,), (targets,) = source.columns.values(), target.columns.values()
        kept = [i for i, (a, b) in enumerate(zip(sources, targets, strict=True)) if a and b]
        for table, cells in ((source, sources), (target, targets)):
            if absent := [line for line, cell in zip(table.lines, cells, strict=True) if not cell]:
                self.warnings.append(
                    f"{table.name}: {len(absent)} of {len(table)} lines are empty; these pairs are left out (the "
                    f"first is line {absent[0]})."
                )
        if not kept:
            raise DataError(f"{source.name} and {target.name}: no pair has text on both sides.")
        return TextPairs([sources[i] for i in kept], [targets[i] for i in kept], source.name)


def read_lines(data: bytes, name: str, encoding: str = "utf-8-sig") -> list[str]:
    """The lines of a text file, gzipped or not, without blanks at their ends; only line feeds end a line.

    Raises:
        DataError: it is empty, damaged, or not in the encoding; the line is named.
    """
    lines = [line.strip() for line in read_text(data, name, encoding).removesuffix("\n").split("\n")]
    if not any(lines):
        raise DataError(f"{name} is empty.")
    return lines


def _column(table: Table, column: str, option: str) -> Table:
    if column not in table.columns:
        raise no_column(table.name, table.columns, column, option)
    return Table(table.name, {column: table.columns[column]}, table.lines)


def _ending(path: Path) -> str:
    """What follows a file's stem, ".gz" apart: ".en" of corpus.en.gz."""
    return Path(path.name.removesuffix(".gz")).suffix


DATASETS = {"parallel_text": ParallelTextConfig()}
