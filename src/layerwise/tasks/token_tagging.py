"""Tagging of words: names of people and places, parts of speech; a sentence in, a tag for each word out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.conll import IGNORED, SUFFIXES, read_sentences
from layerwise.data.examples import Splits
from layerwise.data.texts import pack_texts, unpack_texts
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.entities import EntityCounts, entities
from layerwise.tasks.texts import PackedOptions, TextTask, names_a_file

_SHOWN = 12  # sentences of the report
_INPUTS = ("tokens", "mask", "segments", "documents")


@dataclass(frozen=True, kw_only=True)
class TokenTaggingConfig(PackedOptions):
    """Options of tagging: how words become tokens. A word's first token carries its tag."""

    tokenizer: str = "wordpiece"


class TaggingMetrics(Accumulator):
    """Precision, recall and F1 of whole entities, and the share of words with the right tag.

    Args:
        class_names: tags in order of label.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        types = sorted({name[2:] for name in self.class_names if name != "O"})
        self.found = EntityCounts(types)
        self.sums = torch.zeros(3, dtype=torch.float64)  # words right, words, loss
        self.wrong: list[dict[str, Any]] = []

    def update(self, network: nn.Module, batch: Batch) -> None:
        logits = network(**{name: value for name, value in batch.items() if name in _INPUTS})
        tags = word_tags(logits.float(), batch["first"])
        for row, (predicted, true) in enumerate(zip(tags.tolist(), batch["tags"].tolist(), strict=True)):
            length = sum(tag != IGNORED for tag in true)
            names = [[self.class_names[tag] for tag in one[:length]] for one in (predicted, true)]
            self.found.add(*names)
            right = sum(a == b for a, b in zip(*names, strict=True))
            self.sums[:2] += torch.tensor([right, length], dtype=torch.float64)
            if set(entities(names[0])) != set(entities(names[1])) and len(self.wrong) < _SHOWN:
                self.wrong.append({"sample_id": int(batch["sample_ids"][row]), "predicted": names[0], "true": names[1]})
        labelled = batch["labels"] != IGNORED
        losses = nn.functional.cross_entropy(logits[labelled].float(), batch["labels"][labelled], reduction="sum")
        self.sums[2] += losses.double().cpu()

    def state(self) -> dict[str, Tensor]:
        return {"counts": self.found.counts, "sums": self.sums}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.found.counts = torch.stack([state["counts"] for state in states]).sum(0)
        self.sums = torch.stack([state["sums"] for state in states]).sum(0)

    def compute(self) -> dict[str, float]:
        right, count, loss = self.sums.tolist()
        if not count:
            return {}
        return {**self.found.scores(), "accuracy": right / count, "loss": loss / count}

    def table(self) -> dict[str, Any]:
        return {"entities": self.found.rows(), "sentences_wrong": self.wrong, "count": int(self.sums[1])}


def word_tags(logits: Tensor, first: Tensor) -> Tensor:
    """The most likely tag of every word, int64 [B, W], from its first token; label 0 where it has none.

    Args:
        logits: of tokens [B, T, K]; of packed sentences [1, N, K].
        first: place of every word's first token [B, W]; -1 where it was cut off.
    """
    best = logits.argmax(-1).expand(len(first), -1)
    tags = best.gather(1, first.clamp(min=0))
    return torch.where(first >= 0, tags, 0)


class TokenTagging(TextTask):
    """Model inputs `tokens`, `mask`, and for each word `first` int64 [B, W], the place of its first token, `tags`, and
    `labels` int64 [B, T]: the tag at a word's first token, -100 elsewhere. The network gives logits [B, T, tags].
    """

    calls_forward_alone = True
    monitor = ("f1", "max")

    def __init__(self, config: TokenTaggingConfig) -> None:
        super().__init__(config)
        self.packed = config.packed

    def bind(self, splits: Splits) -> None:
        self.bind_texts(splits, {"tags"})
        _ = self.subwords
        self.class_names = list(splits.class_names or ())
        if not self.class_names:
            raise DataError("task=token_tagging needs words with tags: data=conll, or data=wnut17.")

    def state(self) -> dict[str, Any]:
        return {**super().state(), "class_names": self.class_names}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.class_names = state["class_names"]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "num_classes": len(self.class_names), "head": "tagger"}

    def accumulator(self) -> TaggingMetrics:
        return TaggingMetrics(self.class_names)

    def _lengths(self, given: Sequence[tuple[str, ...]]) -> list[int]:
        return [len(each.tokens) for each in self.subwords.pieces_of_words([text[0].split(" ") for text in given])]

    def _tokenised(self, given: Sequence[tuple[str, ...]]) -> list[Tensor]:
        """Rows of tokens and the word that each is the first of, -1 for others."""
        sentences = [text[0].split(" ") for text in given]
        made: list[Tensor] = []
        for found in self.subwords.pieces_of_words(sentences, max_tokens=self.max_tokens):
            first = [
                word if word >= 0 and (place == 0 or found.words[place - 1] != word) else -1
                for place, word in enumerate(found.words)
            ]
            made.append(torch.tensor([found.tokens, first]))
        return made

    def inputs(self, batch: Batch) -> Batch:
        texts = unpack_texts(batch["text"])
        rows = self.encode_all([(text,) for text in texts])
        made = self.padded([row[:1] for row in rows])
        words = max(len(text.split(b" ")) for text in texts)
        first = torch.full((len(rows), words), -1, dtype=torch.int64)
        labels = torch.full(made["tokens"].shape, IGNORED, dtype=torch.int64)
        begin = 0
        for i, row in enumerate(rows):
            firsts = torch.nonzero(row[1] >= 0).flatten()
            words_at, places = row[1][firsts], firsts + begin
            first[i, words_at] = places
            if "tags" in batch:
                labels[0 if self.packed else i, places] = batch["tags"][i, words_at]
            begin += row.shape[1] if self.packed else 0
        made |= {"first": first}
        if "tags" in batch:
            made |= {"labels": labels, "tags": batch["tags"]}
        kept = ("text", "sample_ids") if "tags" not in batch else ("sample_ids",)
        return {**made, **{name: batch[name] for name in kept if name in batch}}

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Texts as given, words by blanks; of a file in columns every sentence, named `file:line`; else as of every
        task on texts.
        """
        rows: list[tuple[str, Batch]] = []
        for given in inputs:
            if (
                names_a_file(given)
                and given.lower().endswith(SUFFIXES)
                and not given.lower().endswith((".txt", ".tsv"))
            ):
                sentences = _sentences(given)
                rows += [(name, {"text": pack_texts([text])}) for name, text in sentences]
            else:
                plain = super().decode([given])
                rows += [
                    (
                        name,
                        {"text": pack_texts([" ".join(raw.decode().split()) for raw in unpack_texts(column["text"])])},
                    )
                    for name, column in plain
                ]
        return rows

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        logits = network(**{name: value for name, value in batch.items() if name in _INPUTS}).float()
        tags = word_tags(logits, batch["first"])
        found: list[dict[str, Any]] = []
        for row, text in zip(tags.tolist(), self._words(batch), strict=True):
            names = [self.class_names[tag] for tag in row[: len(text)]]
            spans = [
                {"type": e.type, "start": e.start, "end": e.end, "text": " ".join(text[e.start : e.end])}
                for e in entities(names)
            ]
            found.append({"words": text, "tags": names, "entities": spans})
        return found

    def _words(self, batch: Batch) -> list[list[str]]:
        return [text.decode().split(" ") for text in unpack_texts(batch["text"])]


def _sentences(name: str) -> list[tuple[str, str]]:
    path = Path(name)
    if not path.is_file():
        raise DataError(f"{name}: there is no such file.")
    found = read_sentences(path.read_bytes(), name, 0, None, "utf-8-sig")
    return [(f"{name}:{sentence.line}", " ".join(sentence.words)) for sentence in found]


TASKS = {"token_tagging": TokenTaggingConfig()}
