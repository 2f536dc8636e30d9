"""Tagged words in CoNLL columns: a word a line with its tag, an empty line between sentences.

Tags are BIO (Ramshaw and Marcus 1995, in the form IOB2): B-TYPE begins an entity, I-TYPE goes on with it, O is outside.
BIOES and IOB1 are brought to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from layerwise.core.config import Fraction
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.data.files import open_tree
from layerwise.data.plain_text import read_text
from layerwise.data.source import DataConfig
from layerwise.data.table_parts import PARTS
from layerwise.data.texts import TextExamples

SUFFIXES = (".conll", ".conll2003", ".bio", ".iob", ".iob2", ".tsv", ".txt", ".annotated", ".conllu")
IGNORED = -100  # the tag of a word that is none


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """Words and their tags, and the line of the first."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int


@dataclass(frozen=True, kw_only=True)
class ConllConfig(DataConfig):
    """A file of words and tags in columns; or a folder or zip with such files named train, val (or dev), test.

    Args:
        word: number of the column with the words, from 0; negative ones count from the end.
        tag: number of the column with the tags.
        test: test data: a share of train (0: none), or a path to a file of the same columns; None takes the file named
            test, else a tenth of train.
        encoding: of the files.
    """

    word: int = 0
    tag: int = -1
    test: Fraction | str | None = None
    encoding: str = "utf-8-sig"


class Conll:
    """`text`, words with blanks between, and `tags` int64 [N, W], one a word and -100 behind the last."""

    def __init__(self, config: ConllConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the files.

        Raises:
            DataError: no such file, damaged lines, tags that are none.
        """
        config = self.config
        parts = {
            part: read_sentences(data, name, config.word, config.tag, config.encoding)
            for part, (data, name) in self._files().items()
        }
        return tagged_splits(parts)

    def _files(self) -> dict[str, tuple[bytes, str]]:
        config = self.config
        path = None if config.root is None else Path(config.root).expanduser()
        found: dict[str, tuple[bytes, str]] = {}
        if path is not None and path.is_file() and path.suffix != ".zip":
            found["train"] = (path.read_bytes(), str(path))
        else:
            tree = open_tree(config.root, "a file of words and tags in columns")
            names = [name for name in tree.files if name.lower().removesuffix(".gz").endswith(SUFFIXES)]
            for name in names:
                part = _part_of(name)
                if part is not None or len(names) == 1:
                    found.setdefault(part or "train", (tree.read(name), tree.path(name)))
            if "train" not in found:
                have = f"it has {', '.join(names[:5])}" if names else f"it has no {', '.join(SUFFIXES[:4])} files"
                raise DataError(f"data.root={tree.where}: {have}; one file, or one named train, is needed.")
        for part, asked in (("val", config.val), ("test", config.test)):
            if isinstance(asked, str):
                other = Path(asked).expanduser()
                if not other.is_file():
                    raise DataError(f"data.{part}={asked}: there is no such file.")
                found[part] = (other.read_bytes(), str(other))
        return found


def _part_of(name: str) -> str | None:
    """The part that a file is named after: the first of its name's pieces that is a part's name."""
    pieces = Path(name).name.lower().replace("-", ".").replace("_", ".").split(".")
    return next((PARTS[piece] for piece in pieces if piece in PARTS), None)


def read_sentences(data: bytes, name: str, word: int, tag: int | None, encoding: str) -> list[Sentence]:
    """Sentences of a file.

    Args:
        data: its bytes, gzipped or not.
        name: for messages.
        word, tag: numbers of columns; tag None reads words alone, to predict on.

    Raises:
        DataError: not text, a line without the column, no sentence.
    """
    text = read_text(data, name, encoding, option="data.encoding" if tag is not None else None)
    tabs = any("\t" in line for line in text.split("\n", 200)[:200])
    found: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    first = 1
    for number, raw in enumerate([*text.split("\n"), ""], 1):
        line = raw.rstrip("\r")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words:
                found.append(Sentence(words=tuple(words), tags=tuple(_bio(tags)), line=first))
            words, tags, first = [], [], number + 1
            continue
        cells = line.split("\t") if tabs else line.split()
        try:
            # A blank inside a word (in files with tabs) would end it; a no-break space does not.
            words.append("\u00a0".join(cells[word].split()) or "\u00a0")
            tags.append("O" if tag is None else cells[tag].strip())
        except IndexError:
            raise DataError(
                f"{name}, line {number}: {len(cells)} columns, and data.word={word}, data.tag={tag} name others."
            ) from None
        if tag is not None and (len(cells) < 2 or not _is_tag(tags[-1])):
            raise DataError(
                f"{name}, line {number}: {tags[-1]!r} is no tag: expected O, B-TYPE or I-TYPE (E- and S- are read "
                "too). Name the column of the tags: data.tag=NUMBER."
            )
    if not found:
        raise DataError(f"{name} is empty.")
    return found


def _is_tag(text: str) -> bool:
    return text == "O" or (len(text) > 2 and text[0] in "BIESLU" and text[1] == "-")


def _bio(tags: Sequence[str]) -> list[str]:
    """Tags as BIO: what begins an entity is B-, whatever the scheme calls it."""
    made: list[str] = []
    inside: str | None = None  # type of the entity that the next I- may go on with
    for tag in tags:
        if tag == "O":
            made.append(tag)
            inside = None
            continue
        kind, name = tag[0], tag[2:]
        begins = kind in "BSU" or inside != name
        made.append(f"{'B' if begins else 'I'}-{name}")
        inside = None if kind in "SUEL" else name
    return made


def tagged_splits(parts: dict[str, list[Sentence]]) -> Splits:
    """Splits of sentences by part; classes are the tags of all parts, O first and each type's B- before its I-."""
    types = {part: {tag[2:] for s in sentences for tag in s.tags if tag != "O"} for part, sentences in parts.items()}
    warnings = [
        f"{part}: the types {', '.join(sorted(strange))} do not occur in train: nothing of them can be learned."
        for part, found in types.items()
        if part != "train" and (strange := found - types["train"])
    ]
    classes = ["O", *(f"{mark}-{name}" for name in sorted(set().union(*types.values())) for mark in "BI")]
    number = {tag: label for label, tag in enumerate(classes)}
    made = {part: _examples(sentences, number) for part, sentences in parts.items()}
    return Splits(
        train=made["train"],
        val=made.get("val"),
        test=made.get("test"),
        facts={"num_classes": len(classes)},
        class_names=classes,
        warnings=warnings,
    )


def _examples(sentences: Sequence[Sentence], number: dict[str, int]) -> TextExamples:
    longest = max(len(sentence.words) for sentence in sentences)
    tags: Tensor = torch.full((len(sentences), longest), IGNORED, dtype=torch.int64)
    for row, sentence in enumerate(sentences):
        tags[row, : len(sentence.tags)] = torch.tensor([number[tag] for tag in sentence.tags])
    return TextExamples([" ".join(sentence.words) for sentence in sentences], {"tags": tags})


DATASETS = {"conll": ConllConfig()}
