"""Masked language modelling: words are hidden in texts and guessed from the words on both sides.

What encoders are pre-trained by; a trained one fills in the masks of a person's sentence.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Fraction, PositiveInt
from layerwise.core.errors import DataError
from layerwise.data.examples import Examples, Splits
from layerwise.data.masked_texts import MaskedTexts, Masking, Sentences, Vocabulary
from layerwise.nn.protocols import MaskedWordModel, require
from layerwise.ops.linear_cross_entropy import IGNORED
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.texts import TextTask, TokenOptions

_INPUTS = ("tokens", "mask", "segments")
# A full stop or the like with closing signs, where something follows that may begin a sentence.
_ENDS = re.compile(r"([.!?][\"')\]]*)\s+(?=[\"'(\[]*[A-Z0-9])")


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModellingConfig(TokenOptions):
    """Options of masked language modelling: how texts become tokens, and those below.

    Args:
        next_sentence: samples are pairs of texts, of which half do not belong together (Devlin et al. 2019); else each
            is one stretch of text (Liu et al. 2019).
        masked_share: of a sample's words that are hidden.
        masking: "dynamic": words are hidden anew in every pass, as RoBERTa; "static": the same always, as BERT.
        shown_words: most likely words that `predict` tells for each mask.
    """

    tokenizer: str = "wordpiece"
    max_tokens: PositiveInt = 128
    next_sentence: bool = False
    masked_share: Fraction = 0.15
    masking: Literal["dynamic", "static"] = "dynamic"
    shown_words: PositiveInt = 5


def split_sentences(text: str) -> list[str]:
    """Sentences and lines of a text, by their signs; abbreviations are not known.

    Example:
        >>> split_sentences("It rains. Who knew? (Ann did.)")
        ['It rains.', 'Who knew?', '(Ann did.)']
    """
    return [part.strip() for part in _ENDS.sub(r"\1\n", text).split("\n") if part.strip()]


class MaskedLanguageMetrics(Accumulator):
    """Mean loss of hidden words in nats, its exponential, the share guessed right; of pairs, the share judged right.

    Beside them the unigram entropy: the loss of the best guess that does not read the text, the words' own frequencies
    in these very samples, special tokens left out.

    Args:
        vocabulary: of the samples.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        # loss and number of hidden words, right ones; loss of pairs, their number, right ones
        self.sums = torch.zeros(6, dtype=torch.float64)
        self.words = torch.zeros(vocabulary.size, dtype=torch.float64)

    def update(self, network: nn.Module, batch: Batch) -> None:
        labels, hidden = batch["labels"], batch["labels"] != IGNORED
        model = cast(MaskedWordModel, require(network, MaskedWordModel, "task=masked_language_modelling"))
        found = model.hidden_words(hidden, **{name: batch[name] for name in _INPUTS if name in batch})
        logits = F.linear(found.features, *(each.to(found.features.dtype) for each in model.word_weights())).float()
        targets = labels[hidden]
        self.sums[:3] += _scored(logits, targets)
        if "next_sentence" in batch and found.next_sentence is not None:
            self.sums[3:] += _scored(found.next_sentence.float(), batch["next_sentence"])
        whole = torch.where(hidden, labels, batch["tokens"])[batch["mask"]].cpu()
        self.words += torch.bincount(whole, minlength=self.vocabulary.size)

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "words": self.words}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = torch.stack([state["sums"] for state in states]).sum(0)
        self.words = torch.stack([state["words"] for state in states]).sum(0)

    def compute(self) -> dict[str, float]:
        loss, count, right, pair_loss, pairs, judged = self.sums.tolist()
        if not count:
            return {}
        words = self.words.clone()
        words[list(self.vocabulary.special)] = 0
        share = words[words > 0] / words.sum()
        found = {
            "loss": loss / count,
            "perplexity": math.exp(loss / count) if loss / count < 700 else math.inf,
            "accuracy": right / count,
            "unigram_entropy": -float((share * share.log()).sum()),
        }
        if pairs:
            found |= {"next_sentence_accuracy": judged / pairs, "next_sentence_loss": pair_loss / pairs}
        return found


def _scored(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum of losses, their number, how many are right."""
    loss = F.cross_entropy(logits, targets, reduction="sum")
    right = (logits.argmax(1) == targets).sum()
    return torch.stack([loss.double().cpu(), torch.tensor(float(len(targets))).double(), right.double().cpu()])


class MaskedLanguageModelling(TextTask):
    """Model inputs and `labels` as `MaskedTexts` makes them of the data's texts, a document each; the network offers
    what `MaskedWordModel` names.
    """

    monitor = ("loss", "min")

    def __init__(self, config: MaskedLanguageModellingConfig) -> None:
        super().__init__(config)
        self.config = config

    def bind(self, splits: Splits) -> None:
        """Learn the tokeniser, and put samples in place of the documents."""
        self.bind_texts(splits, set())
        if self.paired:
            raise DataError("task=masked_language_modelling reads documents; the data has pairs of texts.")
        for part in ("train", "val", "test"):
            documents: Examples | None = getattr(splits, part)
            if documents is not None and not isinstance(documents, MaskedTexts):
                setattr(splits, part, self._samples(documents, part))

    def _samples(self, documents: Examples, part: str) -> MaskedTexts:
        texts = [split_sentences(text) for text in documents.texts or ()]
        encoded = iter(self.subwords.encode_batch([each for one in texts for each in one], special=False))
        room = self.max_tokens - 3
        if room < 4:
            raise DataError(f"task.max_tokens={self.max_tokens} leaves {room} words a sample: too few to guess from.")
        sentences = Sentences([[next(encoded) for _ in one] for one in texts], most=room // 2)
        masking = Masking(share=self.config.masked_share, drawn=self.config.masking)
        vocabulary = Vocabulary.of(self.subwords)
        try:
            return MaskedTexts(
                sentences,
                vocabulary,
                max_tokens=self.max_tokens,
                pairs=self.config.next_sentence,
                masking=masking,
            )
        except DataError as error:
            raise DataError(f"The {part} part: {error}") from error

    def _warn_of_cuts(self, part: Examples, splits: Splits) -> None:
        """Nothing is cut: a document becomes as many samples as it takes."""

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "head": "pretraining" if self.config.next_sentence else "masked_lm"}

    def lengths(self, examples: Examples) -> Tensor | None:
        return examples.lengths if isinstance(examples, MaskedTexts) else None

    def accumulator(self) -> MaskedLanguageMetrics:
        return MaskedLanguageMetrics(Vocabulary.of(self.subwords))

    def inputs(self, batch: Batch) -> Batch:
        return super().inputs(batch) if "text" in batch else batch

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """For every mask of each text the most likely words with their probabilities, and the text filled in.

        Raises:
            DataError: a text has no mask.
        """
        tokens, mask = batch["tokens"], self.subwords.mask_id
        hidden = tokens == mask
        if not bool(hidden.any(1).all()):
            raise DataError(f"A text has no {self.subwords.specials.mask}: put one in place of each word to guess.")
        model = require(network, MaskedWordModel, "task=masked_language_modelling")
        found = model.hidden_words(hidden, tokens=tokens, mask=batch["mask"])
        scores = F.linear(found.features, *model.word_weights()).float().softmax(1)
        best = scores.topk(min(self.config.shown_words, scores.shape[1]))
        filled = tokens.clone()
        filled[hidden] = best.indices[:, 0]
        words = iter(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        special = torch.tensor([i for i in self.subwords.special_ids if i != self.subwords.unk_id])
        rows: list[dict[str, Any]] = []
        for i in range(len(tokens)):
            guesses = [next(words) for _ in range(int(hidden[i].sum()))]
            kept = filled[i][batch["mask"][i] & ~torch.isin(filled[i], special)]
            rows.append(
                {
                    "label": self.subwords.decode(kept),
                    "masks": [
                        {str(self.subwords.token(n)): score for n, score in zip(*each, strict=True)} for each in guesses
                    ],
                }
            )
        return rows

    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """None: samples are about equally long by construction."""
        return []


TASKS = {"masked_language_modelling": MaskedLanguageModellingConfig()}
