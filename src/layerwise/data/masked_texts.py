"""Documents as what BERT is pre-trained on: stretches of text, or pairs of them, with words hidden that are guessed.

Devlin et al. 2019, arXiv:1810.04805, section 3.1 and appendix A.1-A.2; masks drawn anew at every pass: Liu et al. 2019,
arXiv:1907.11692, section 4.1. Reference code: google-research/bert, create_pretraining_data.py.

Which words are masked, by what, and which texts make a pair is a hash of (seed, pass, sample id).

Shapes: B samples, T tokens of the longest.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerwise.core.errors import DataError
from layerwise.data.examples import Batch, Examples
from layerwise.data.subword import SubwordTokenizer
from layerwise.ops.linear_cross_entropy import IGNORED
from layerwise.ops.random import Draws

_BY_MASK, _BY_RANDOM = 0.8, 0.1  # of the chosen words; the rest stays as it is


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How words are masked.

    Args:
        share: of a sample's words that are to be guessed; one at least.
        drawn: "dynamic": anew for every pass, as RoBERTa; "static": once, as BERT.
    """

    share: float = 0.15
    drawn: Literal["dynamic", "static"] = "dynamic"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What masking needs to know of a tokeniser's numbers.

    Args:
        size: tokens.
        mask, cls, sep, pad: of those special tokens.
        special: of all special tokens, which are neither masked nor drawn in place of a word.
    """

    size: int
    mask: int
    cls: int
    sep: int
    pad: int
    special: tuple[int, ...]

    @staticmethod
    def of(tokenizer: SubwordTokenizer) -> "Vocabulary":
        """That of a tokeniser.

        Raises:
            DataError: it has no mask, or no tokens around a text.
        """
        numbers = {role: getattr(tokenizer, f"{role}_id") for role in ("mask", "cls", "sep", "pad")}
        if absent := [role for role, number in numbers.items() if number is None]:
            raise DataError(f"The tokeniser has no special token for {', '.join(absent)}: words cannot be masked.")
        return Vocabulary(size=tokenizer.vocab_size, special=tuple(tokenizer.special_ids), **numbers)


def mask_words(
    tokens: Tensor, there: Tensor, sample_ids: Tensor, draws: Draws, vocabulary: Vocabulary, share: float
) -> tuple[Tensor, Tensor]:
    """Tokens with some hidden, and labels: the hidden words, `IGNORED` elsewhere, both int64 [B, T].

    Of each sample's words a share is chosen, at least one; of those four fifths become the mask, a tenth a word drawn
    from the vocabulary, a tenth stay.

    Args:
        tokens: int64 [B, T].
        there: bool [B, T], True where there is a token.
        sample_ids: int64 [B].
        draws: what decides.
        vocabulary: special tokens are never chosen and never drawn.
        share: of the words.
    """
    length = tokens.shape[1]
    special = torch.zeros(vocabulary.size, dtype=torch.bool)
    special[list(vocabulary.special)] = True
    words = there & ~special[tokens]
    score = draws.uniform(sample_ids, (length,), "chosen", torch.float64).masked_fill(~words, 2.0)
    rank = score.argsort(1).argsort(1)
    counts = words.sum(1)
    wanted = (counts.double() * share).round().long().clamp(min=1).minimum(counts)
    chosen = rank < wanted[:, None]
    fate = draws.uniform(sample_ids, (length,), "fate", torch.float64)
    plain = torch.nonzero(~special).flatten()
    other = plain[draws.integers(sample_ids, (length,), "word", len(plain))]
    hidden = torch.where(chosen & (fate < _BY_MASK), vocabulary.mask, tokens)
    hidden = torch.where(chosen & (fate >= _BY_MASK) & (fate < _BY_MASK + _BY_RANDOM), other, hidden)
    return hidden, torch.where(chosen, tokens, IGNORED)


class Sentences:
    """Documents as the tokens of their sentences behind one another.

    Args:
        documents: of each document, the tokens of its sentences, int64 [T_i] each.
        most: longer sentences are cut into pieces of so many tokens.

    Attributes:
        tokens: int32 [N].
        starts: first token of every sentence, and N, int64 [S + 1].
        documents: first sentence of every document, and S, int64 [D + 1].
    """

    def __init__(self, documents: Sequence[Sequence[Tensor]], most: int) -> None:
        pieces: list[NDArray[np.int64]] = []
        firsts = [0]
        for sentences in documents:
            whole = [sentence.numpy() for sentence in sentences]
            pieces += [each[at : at + most] for each in whole for at in range(0, len(each), most)]
            if len(pieces) > firsts[-1]:
                firsts.append(len(pieces))
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        self.tokens = np.concatenate([*pieces, np.zeros(0, np.int64)]).astype(np.int32)
        self.starts = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
        self.documents = np.array(firsts, dtype=np.int64)

    def span(self, first: int, last: int) -> NDArray[np.int32]:
        """Tokens of the sentences from `first` up to, and without, `last`."""
        return self.tokens[self.starts[first] : self.starts[last]]


class MaskedTexts(Examples):
    """`tokens`, `mask`, `labels` [B, T]; of pairs also `segments` [B, T] and `next_sentence` [B], int64.

    A sample is a stretch of whole sentences of one document, as many as fit. As a pair it is cut at the end of one of
    its sentences (one sentence alone: in the middle); in half of all samples, `next_sentence` 1, the second text is
    replaced by sentences of another document, else it is 0. Unlike the reference code, which goes on behind the first
    text then, a pass has the same samples always; and the whole stretch is one sample, no shorter ones are made.

    Args:
        sentences: the documents.
        vocabulary: of their tokens.
        max_tokens: of a sample, special ones included.
        pairs: whether samples are pairs.
        masking: how words are masked.

    Raises:
        DataError: there are too few words, or, for pairs, documents.
    """

    def __init__(
        self, sentences: Sentences, vocabulary: Vocabulary, *, max_tokens: int, pairs: bool, masking: Masking
    ) -> None:
        self.sentences, self.vocabulary, self.pairs, self.masking = sentences, vocabulary, pairs, masking
        self.room = max_tokens - (3 if pairs else 2)
        self._draws = Draws(0, "masking", 0)
        self._spans, self._owners = self._stretches()
        if not len(self._spans):
            raise DataError("The texts have too few words to learn from.")
        if pairs and len(sentences.documents) < 3:
            raise DataError(
                "Next sentences are learned from two documents at least; there is one. Set task.next_sentence=false."
            )

    def _stretches(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(first sentence, the one after the last) of every sample, and its document."""
        starts, firsts = self.sentences.starts, self.sentences.documents
        spans: list[tuple[int, int]] = []
        owners: list[int] = []
        for document in range(len(firsts) - 1):
            at, end = int(firsts[document]), int(firsts[document + 1])
            while at < end:
                last = int(np.searchsorted(starts, starts[at] + self.room, side="right")) - 1
                last = max(at + 1, min(last, end))
                if starts[last] - starts[at] > 1:  # one token alone makes no pair, and nothing to guess it from
                    spans.append((at, last))
                    owners.append(document)
                at = last
        return np.array(spans, dtype=np.int64).reshape(-1, 2), np.array(owners, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def lengths(self) -> Tensor:
        """Tokens of every stretch with special ones, int64 [N]; a pair of other documents may be longer or shorter."""
        starts = self.sentences.starts
        return torch.from_numpy(starts[self._spans[:, 1]] - starts[self._spans[:, 0]]) + (3 if self.pairs else 2)

    def at_epoch(self, seed: int, epoch: int) -> "MaskedTexts":
        other = copy.copy(self)
        other._draws = Draws(seed, "masking", epoch if self.masking.drawn == "dynamic" else 0)
        return other

    def collate(self, indices: Tensor) -> Batch:
        given = self._pairs(indices) if self.pairs else [(self.sentences.span(*self._spans[i]),) for i in indices]
        around = 1 + len(given[0]) if given else 2
        lengths = [sum(map(len, texts)) + around for texts in given]
        shape = (len(given), max(lengths, default=1))
        tokens, segments = np.full(shape, self.vocabulary.pad, np.int64), np.zeros(shape, np.int64)
        for row, texts in enumerate(given):
            tokens[row, 0], at = self.vocabulary.cls, 1
            for number, text in enumerate(texts):
                segments[row, at : at + len(text) + 1] = number
                tokens[row, at : at + len(text)] = text
                at += len(text) + 1
                tokens[row, at - 1] = self.vocabulary.sep
        there = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
        hidden, labels = mask_words(
            torch.from_numpy(tokens), there, indices, self._draws, self.vocabulary, self.masking.share
        )
        batch = {"tokens": hidden, "mask": there, "labels": labels, "sample_ids": indices}
        if self.pairs:
            batch |= {"segments": torch.from_numpy(segments), "next_sentence": self._replaced(indices).long()}
        return batch

    def _replaced(self, indices: Tensor) -> Tensor:
        """Whether a sample's second text is from elsewhere, bool [B]."""
        return self._draws.uniform(indices, (), "replaced") < 0.5

    def _pairs(self, indices: Tensor) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        held, draws, count = self.sentences, self._draws, len(self.sentences.documents) - 1
        cuts = draws.uniform(indices, (), "cut", torch.float64).tolist()
        replaced = self._replaced(indices).tolist()
        others = draws.integers(indices, (), "document", max(1, count - 1)).tolist()
        places = draws.uniform(indices, (), "sentence", torch.float64).tolist()
        found: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
        for row, index in enumerate(indices.tolist()):
            first, last = (int(each) for each in self._spans[index])
            text = held.span(first, last)
            middle = first + 1 + int(cuts[row] * (last - first - 1))
            size = len(text) // 2 if last - first == 1 else int(held.starts[middle] - held.starts[first])
            second = text[size:]
            if replaced[row]:
                other = others[row] + (others[row] >= int(self._owners[index]))
                second = self._elsewhere(other, places[row], self.room - size)
            found.append((text[:size], second))
        return found

    def _elsewhere(self, document: int, place: float, room: int) -> NDArray[np.int32]:
        """Whole sentences of a document from a random one on that fit, one at least, which is cut where it does not."""
        held = self.sentences
        begin, end = int(held.documents[document]), int(held.documents[document + 1])
        at = begin + int(place * (end - begin))
        last = int(np.searchsorted(held.starts, held.starts[at] + room, side="right")) - 1
        return held.span(at, max(at + 1, min(last, end)))[:room]

    def fingerprint(self) -> str:
        kind = f"{self.room} {self.pairs} {self.masking} {self.vocabulary}".encode()
        held = self.sentences
        return hashlib.sha256(
            kind + held.tokens.tobytes() + held.starts.tobytes() + held.documents.tobytes()
        ).hexdigest()[:32]
