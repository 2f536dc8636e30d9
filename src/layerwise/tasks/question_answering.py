"""Extractive question answering: a question and a passage in, the piece of the passage that answers it out.

Rajpurkar et al. 2016 (arXiv:1606.05250); the network and its training: Devlin et al. 2019 (arXiv:1810.04805), section
4.2. Passages that are too long are read in overlapping windows.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.data.squad import read_questions
from layerwise.data.texts import pack_texts, unpack_texts
from layerwise.tasks.base import Accumulator, Batch, wilson_interval
from layerwise.tasks.texts import TextTask, TokenOptions

_SHOWN = 12
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SENTENCE = re.compile(r"[^.!?。！？]+[.!?。！？]*")  # noqa: RUF001


@dataclass(frozen=True, kw_only=True)
class QuestionAnsweringConfig(TokenOptions):
    """Options of question answering.

    Args:
        stride: tokens that two windows of a passage share.
        max_answer_tokens: of the longest answer.
        nbest: ends and beginnings that are paired.
    """

    tokenizer: str = "wordpiece"
    max_tokens: PositiveInt = 384
    stride: NonNegativeInt = 128
    max_answer_tokens: PositiveInt = 30
    nbest: PositiveInt = 20


def normalise_answer(text: str) -> str:
    """An answer as SQuAD compares it: small letters, no punctuation, no articles, single blanks.

    Example:
        >>> normalise_answer("The  Nile-river, Egypt.")
        'nileriver egypt'
    """
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def answer_scores(predicted: str, answers: Sequence[str]) -> tuple[float, float]:
    """(exact match, F1 of words), each the best over the answers given; without answers, one where nothing is said."""
    if not answers:
        return (1.0, 1.0) if not predicted else (0.0, 0.0)
    words = normalise_answer(predicted).split()
    exact, best = 0.0, 0.0
    for answer in answers:
        wanted = normalise_answer(answer).split()
        exact = max(exact, float(words == wanted))
        common = sum((Counter(words) & Counter(wanted)).values())
        if not words or not wanted:
            best = max(best, float(words == wanted))
        elif common:
            precision, recall = common / len(words), common / len(wanted)
            best = max(best, 2 * precision * recall / (precision + recall))
    return exact, best


def nearest_sentence(question: str, context: str) -> str:
    """The sentence of the passage that shares most words with the question: an answer without any training."""
    asked = set(normalise_answer(question).split())
    sentences = [found.strip() for found in _SENTENCE.findall(context) if found.strip()] or [context]
    return max(sentences, key=lambda sentence: len(asked & set(normalise_answer(sentence).split())))


class AnswerMetrics(Accumulator):
    """Exact match and F1 by SQuAD's definition, in percent of one, and F1 of the sentence nearest to the question.

    Args:
        task: finds answers.
    """

    def __init__(self, task: "QuestionAnswering") -> None:
        self.task = task
        self.sums = torch.zeros(4, dtype=torch.float64)  # exact, F1, F1 of the nearest sentence, count
        self.shown: list[dict[str, Any]] = []

    def update(self, network: nn.Module, batch: Batch) -> None:
        found = self.task.answers(network, batch)
        questions, contexts = (unpack_texts(batch[name]) for name in ("text", "pair"))
        for row, answer in enumerate(found):
            question, context = questions[row].decode(), contexts[row].decode()
            true = [context[first:last] for first, last in batch["answers"][row].tolist() if first >= 0]
            exact, f1 = answer_scores(answer["answer"], true)
            _, without = answer_scores(nearest_sentence(question, context), true)
            self.sums += torch.tensor([exact, f1, without, 1.0], dtype=torch.float64)
            if len(self.shown) < _SHOWN:
                self.shown.append(
                    {
                        "question": question,
                        "answer": answer["answer"],
                        "true": " | ".join(true) or "(no answer)",
                        "f1": round(f1, 3),
                    }
                )

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = torch.stack([state["sums"] for state in states]).sum(0)

    def compute(self) -> dict[str, float]:
        exact, f1, without, count = self.sums.tolist()
        if not count:
            return {}
        return {"f1": f1 / count, "exact_match": exact / count, "nearest_sentence_f1": without / count}

    def table(self) -> dict[str, Any]:
        exact, _, _, count = self.sums.tolist()
        return {
            "answers": self.shown,
            "intervals": {"exact_match": wilson_interval(exact, count)},
            "count": int(count),
        }


class QuestionAnswering(TextTask):
    """Raw `text` (questions), `pair` (passages) and `answers` [B, A, 2]; model inputs are windows: `tokens`, `mask`,
    `segments` [W, T], and `labels` int64 [W, 2], the first and last token of the answer, (0, 0) where a window has
    none. The network gives logits `start` and `end` [W, T].

    Other columns say where windows come from: `window_of` int64 [W], the row of the question; `offsets` int64
    [W, T, 2], characters of the passage, -1 for other tokens.
    """

    monitor = ("f1", "max")

    def __init__(self, config: QuestionAnsweringConfig) -> None:
        super().__init__(config)
        self.config = config
        self.unanswerable = False

    def bind(self, splits: Splits) -> None:
        self.bind_texts(splits, {"pair", "answers"})
        part = splits.train
        if part is not None:
            batches = (part.collate(ids)["answers"] for ids in torch.arange(len(part)).split(1024))
            self.unanswerable = any(bool((answers < 0).all(2).all(1).any()) for answers in batches)

    def _warn_of_cuts(self, part: Any, splits: Splits) -> None:
        """Nothing is cut: long passages are read in windows."""

    def state(self) -> dict[str, Any]:
        return {**super().state(), "unanswerable": self.unanswerable, "stride": self.config.stride}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.unanswerable = state["unanswerable"]

    def open(self, class_names: list[str], longest: int) -> None:
        super().open([], longest)
        self.paired = True

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "head": "span"}

    def accumulator(self) -> AnswerMetrics:
        return AnswerMetrics(self)

    def _tokenised(self, given: Sequence[tuple[str, ...]]) -> list[Tensor]:
        """[4, T'] of each pair: tokens, segments, first and last character; windows behind one another, each begun by
        a column of -2.
        """
        stride = min(self.config.stride, self.max_tokens // 3)
        firsts, seconds = zip(*given, strict=True) if given else ((), ())
        asked = [_shortened(self.subwords, text, self.max_tokens // 2) for text in firsts]
        made: list[Tensor] = []
        for windows in self.subwords.windows(asked, seconds, max_tokens=self.max_tokens, stride=stride):
            rows: list[Tensor] = []
            for window in windows:
                places = [
                    offset if text == 1 else (-1, -1) for text, offset in zip(window.texts, window.offsets, strict=True)
                ]
                own = torch.tensor([window.tokens, window.segments, *zip(*places, strict=True)])
                rows += [torch.full((4, 1), -2), own]
            made.append(torch.cat(rows, dim=1))
        return made

    def inputs(self, batch: Batch) -> Batch:
        pairs = list(zip(unpack_texts(batch["text"]), unpack_texts(batch["pair"]), strict=True))
        windows: list[Tensor] = []
        of: list[int] = []
        for row, joined in enumerate(self.encode_all(pairs)):
            starts = torch.nonzero(joined[0] == -2).flatten().tolist()
            for first, last in zip(starts, [*starts[1:], joined.shape[1]], strict=True):
                windows.append(joined[:, first + 1 : last])
                of.append(row)
        made = self.padded([window[:2] for window in windows])
        offsets = torch.full((*made["tokens"].shape, 2), -1, dtype=torch.int64)
        for row, window in enumerate(windows):
            offsets[row, : window.shape[1]] = window[2:].T
        made |= {"offsets": offsets, "window_of": torch.tensor(of)}
        if "answers" in batch:
            made["labels"] = span_labels(offsets, batch["answers"][made["window_of"], 0])
        return {**made, **{name: value for name, value in batch.items() if name not in made}}

    def answers(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """The best answer to each question over all its windows: `answer`, `start`, `score`."""
        logits = network(**{name: value for name, value in batch.items() if name in ("tokens", "mask", "segments")})
        start, end = (part.float() for part in logits)
        best: list[tuple[float, int, int]] = [(-torch.inf, 0, 0)] * len(batch["text"])
        none = [torch.inf] * len(best)
        for row, question in enumerate(batch["window_of"].tolist()):
            inside = batch["offsets"][row, :, 0] >= 0
            none[question] = min(none[question], float(start[row, 0] + end[row, 0]))
            for score, first, last in self._spans(start[row], end[row], inside):
                if score > best[question][0]:
                    at = batch["offsets"][row]
                    best[question] = (score, int(at[first, 0]), int(at[last, 1]))
        found: list[dict[str, Any]] = []
        for question, (score, first, last) in enumerate(best):
            context = unpack_texts(batch["pair"][question : question + 1])[0].decode()
            if self.unanswerable and none[question] > score:
                found.append({"answer": "", "start": None, "score": none[question] - score})
            else:
                found.append({"answer": context[first:last], "start": first, "score": score - none[question]})
        return found

    def _spans(self, start: Tensor, end: Tensor, inside: Tensor) -> list[tuple[float, int, int]]:
        """(sum of logits, first, last token) of the n best beginnings and ends that make an answer."""
        count = min(self.config.nbest, int(inside.sum()))
        firsts = start.masked_fill(~inside, -torch.inf).topk(count).indices.tolist()
        lasts = end.masked_fill(~inside, -torch.inf).topk(count).indices.tolist()
        return [
            (float(start[first] + end[last]), first, last)
            for first in firsts
            for last in lasts
            if 0 <= last - first < self.config.max_answer_tokens
        ]

    @property
    def example_input(self) -> str | None:
        return "$'a question\\tits passage'"

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """A question and its passage with a tab between them; or a file of SQuAD's form, answers not needed.

        Raises:
            DataError: a passage is missing, a file is not of the form.
        """
        found: list[tuple[str, str, str]] = []
        for given in inputs:
            if given.lower().endswith((".json", ".json.gz")) and not any(c.isspace() for c in given):
                path = Path(given)
                if not path.is_file():
                    raise DataError(f"{given}: there is no such file.")
                found += [(q.question, q.question, q.context) for q in read_questions(path.read_bytes(), given, [])]
                continue
            question, tab, context = given.partition("\t")
            if not tab or not question.strip() or not context.strip():
                raise DataError(f"{given[:60]!r}: expected a question and its passage with a tab between them.")
            found.append((question, question, context))
        return [
            (
                name,
                {"text": pack_texts([question.replace("\0", " ")]), "pair": pack_texts([context.replace("\0", " ")])},
            )
            for name, question, context in found
        ]

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        return self.answers(network, batch)


def span_labels(offsets: Tensor, answers: Tensor) -> Tensor:
    """First and last token of each window's answer, int64 [W, 2]; (0, 0) where the window does not have all of it.

    Args:
        offsets: characters of each token [W, T, 2], -1 outside the passage.
        answers: characters of each window's answer [W, 2], -1 where there is none.
    """
    first, last = answers[:, :1], answers[:, 1:]
    there = offsets[..., 0] >= 0
    begins = there & (offsets[..., 0] <= first) & (offsets[..., 1] > first)
    ends = there & (offsets[..., 0] < last) & (offsets[..., 1] >= last)
    both = begins.any(1) & ends.any(1) & (first[:, 0] >= 0)
    found = torch.stack([begins.long().argmax(1), ends.long().argmax(1)], dim=1)
    return torch.where(both[:, None], found, 0)


def _shortened(tokenizer: Any, question: str, most: int) -> str:
    """A question of at most so many tokens, so that room is left for the passage."""
    (found,) = tokenizer.pieces([question])
    if len(found.tokens) <= most:
        return question
    ends = [offset[1] for offset, text in zip(found.offsets, found.texts, strict=True) if text == 0]
    return question[: ends[max(0, most - (len(found.tokens) - len(ends)) - 1)]]


TASKS = {"question_answering": QuestionAnsweringConfig()}
