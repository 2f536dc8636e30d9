"""Questions on passages whose answers are pieces of the passage, in SQuAD's JSON; and XQuAD.

Rajpurkar, Zhang, Lopyrev, Liang 2016, "SQuAD: 100,000+ questions for machine comprehension of text", arXiv:1606.05250;
version 2 adds questions without an answer (Rajpurkar, Jia, Liang 2018, arXiv:1806.03822). Artetxe, Ruder, Yogatama
2020, arXiv:1910.11856 (XQuAD; CC BY-SA 4.0).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from layerwise.core.config import Fraction
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.download import RemoteFile, locate
from layerwise.data.examples import Splits
from layerwise.data.files import open_tree
from layerwise.data.plain_text import read_text
from layerwise.data.source import DataConfig
from layerwise.data.table_parts import PARTS
from layerwise.data.texts import TextExamples

_BASE = "https://raw.githubusercontent.com/google-deepmind/xquad/7d30520c717524000f0d9d2f9c10a069acd9d285/"
_XQUAD = {
    "de": ("990b5d746746ed65ed4702ea5f35f99ffa4e2f1c390c07d003642acd937916f9", 669_810),
    "en": ("e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29", 609_383),
    "zh": ("691d0b3359bc6b8faa8de931dfdfe21d50a65861ae348e32a0d1a0190b0c8835", 808_652),
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question, its passage, and where answers stand in it, as (first, one after the last) characters."""

    question: str
    context: str
    answers: tuple[tuple[int, int], ...]
    article: int


@dataclass(frozen=True, kw_only=True)
class SquadConfig(DataConfig):
    """A JSON file of SQuAD's form; or a folder or zip with such files named train, val (or dev), test. Without files
    for them, whole articles become validation and test data.

    Args:
        test: test data: a share of train (0: none), or a path to a file of the same form; None takes the file named
            test, else a tenth of train.
    """

    test: Fraction | str | None = None


@dataclass(frozen=True, kw_only=True)
class XQuadConfig(DataConfig):
    """XQuAD: 1,190 questions on 240 paragraphs of 48 articles, made for evaluation; here whole articles are held back.

    Args:
        language: of questions and passages.
        test: share of the questions that test data is made of.
    """

    language: Literal["en", "de", "zh"] = "en"
    test: Fraction = 0.3


class Squad:
    """Raw `text`, the question, and `pair`, the passage; `answers` int64 [N, A, 2], characters of the passage, -1 where
    there are fewer.
    """

    def __init__(self, config: SquadConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the files.

        Raises:
            DataError: no such file, not SQuAD's form, no question.
        """
        config = self.config
        path = None if config.root is None else Path(config.root).expanduser()
        found: dict[str, tuple[bytes, str]] = {}
        if path is not None and path.is_file() and path.suffix != ".zip":
            found["train"] = (path.read_bytes(), str(path))
        else:
            tree = open_tree(config.root, "a JSON file of SQuAD's form")
            names = [name for name in tree.files if name.lower().removesuffix(".gz").endswith(".json")]
            for name in names:
                pieces = Path(name).name.lower().replace("-", ".").replace("_", ".").split(".")
                part = next((PARTS[piece] for piece in pieces if piece in PARTS), None)
                if part is not None or len(names) == 1:
                    found.setdefault(part or "train", (tree.read(name), tree.path(name)))
            if "train" not in found:
                have = f"it has {', '.join(names[:5])}" if names else "it has no .json files"
                raise DataError(f"data.root={tree.where}: {have}; one file, or one named train, is needed.")
        for part, asked in (("val", config.val), ("test", config.test)):
            if isinstance(asked, str):
                other = Path(asked).expanduser()
                if not other.is_file():
                    raise DataError(f"data.{part}={asked}: there is no such file.")
                found[part] = (other.read_bytes(), str(other))
        warnings: list[str] = []
        parts = {part: read_questions(data, name, warnings) for part, (data, name) in found.items()}
        return _splits(parts, warnings)


class XQuad:
    """As `Squad`; parts are made of whole articles."""

    def __init__(self, config: XQuadConfig) -> None:
        self.config = config

    def splits(self) -> Splits:
        """Read the file, from `root`, $LAYERWISE_DATA, the cache, or downloaded (0.8 MB at most).

        Raises:
            DataError: the file is missing or damaged.
        """
        if isinstance(self.config.val, str):
            raise ConfigError(f"data.val={self.config.val}: xquad takes a share of train here, not a path.")
        digest, size = _XQUAD[self.config.language]
        name = f"xquad.{self.config.language}.json"
        file = RemoteFile(f"text/xquad/{name}", f"{_BASE}{name}", digest, size)
        path = locate("xquad", (file,), self.config.root)[file.path]
        warnings: list[str] = []
        return _splits({"train": read_questions(path.read_bytes(), str(path), warnings)}, warnings)


def read_questions(data: bytes, name: str, warnings: list[str]) -> list[Question]:
    """Questions of a file; answers that the passage does not have are left out, with a warning.

    Args:
        data: its bytes, gzipped or not.
        name: for messages.
        warnings: what was left out is added here.

    Raises:
        DataError: not JSON, not of SQuAD's form, or without a question.
    """
    text = read_text(data, name, option=None)
    try:
        tree: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not readable JSON: {error}.") from error
    found: list[Question] = []
    wrong: list[str] = []
    try:
        for number, article in enumerate(tree["data"]):
            for paragraph in article["paragraphs"]:
                context = str(paragraph["context"])
                for asked in paragraph["qas"]:
                    spans = _spans(context, asked.get("answers") or [])
                    if spans is None or not str(asked["question"]).strip() or not context.strip():
                        wrong.append(str(asked.get("id", asked["question"])))
                        continue
                    found.append(
                        Question(question=str(asked["question"]), context=context, answers=spans, article=number)
                    )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{name} is not of SQuAD's form, data > paragraphs > context and qas > question, answers > text, "
            f"answer_start: {type(error).__name__} {error}."
        ) from error
    if wrong:
        warnings.append(
            f"{name}: {len(wrong)} questions are left out, since they are empty or their answer does not stand in the "
            f"passage at answer_start (the first is {wrong[0]!r})."
        )
    if not found:
        raise DataError(f"{name} has no question.")
    return found


def _spans(context: str, answers: Sequence[Any]) -> tuple[tuple[int, int], ...] | None:
    """Distinct places of the answers; None where all that are given do not stand where they should."""
    found = dict.fromkeys(
        (int(a["answer_start"]), int(a["answer_start"]) + len(a["text"]))
        for a in answers
        if a["text"] and context[int(a["answer_start"]) : int(a["answer_start"]) + len(a["text"])] == a["text"]
    )
    return tuple(found) if found or not answers else None


def _splits(parts: dict[str, list[Question]], warnings: list[str]) -> Splits:
    made = {part: _examples(questions) for part, questions in parts.items()}
    groups = torch.tensor([question.article for question in parts["train"]])
    extras = {"groups": groups} if len(groups.unique()) > 2 else {}
    return Splits(train=made["train"], val=made.get("val"), test=made.get("test"), extras=extras, warnings=warnings)


def _examples(questions: Sequence[Question]) -> TextExamples:
    most = max(1, max(len(question.answers) for question in questions))
    answers = torch.full((len(questions), most, 2), -1, dtype=torch.int64)
    for row, question in enumerate(questions):
        if question.answers:
            answers[row, : len(question.answers)] = torch.tensor(question.answers)
    return TextExamples(
        [question.question for question in questions],
        {"answers": answers},
        [question.context for question in questions],
    )


DATASETS = {"squad": SquadConfig(), "xquad": XQuadConfig()}
