"""Texts that say what a picture shows, as tokens of one length."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from layerwise.core.errors import CheckpointError, DataError
from layerwise.data.examples import Examples
from layerwise.data.subword import Specials, SubwordTokenizer
from layerwise.data.texts import unpack_texts
from layerwise.tasks.base import Batch

_MAX_TOKENS, _VOCAB_SIZE = 32, 4096  # of captions that a tokeniser is learned from
_SPECIALS = Specials(bos="<|startoftext|>", eos="<|endoftext|>", pad="<|endoftext|>", unk="<|endoftext|>")


class Captions:
    """Encodes texts: start token, words cut to length, end token, filled up.

    Args:
        tokenizer: with a token to fill up with.
        max_tokens: of every text, special ones included.
    """

    def __init__(self, tokenizer: SubwordTokenizer, max_tokens: int) -> None:
        if tokenizer.pad_id is None:
            raise CheckpointError("The tokeniser names no token to fill texts up with (pad_token).")
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    @classmethod
    def learn(cls, examples: Examples) -> "Captions":
        """A tokeniser of the examples' own texts.

        Raises:
            DataError: they have none.
        """
        if examples.texts is None:
            raise DataError(
                "task.condition=caption: the pictures have no captions. With data=pictures, put a text file beside "
                "each (a.jpg, a.txt) or name a CSV file with data.captions=FILE."
            )
        tokenizer = SubwordTokenizer.train(
            examples.texts, kind="bpe", vocab_size=_VOCAB_SIZE, specials=_SPECIALS, lowercase=True, wrap="both"
        )
        return cls(tokenizer, _MAX_TOKENS)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """int64 [B, max_tokens]."""
        found = torch.full((len(texts), self.max_tokens), int(self.tokenizer.pad_id or 0))
        for row, tokens in zip(found, self.tokenizer.encode_batch(texts, max_tokens=self.max_tokens), strict=True):
            row[: len(tokens)] = tokens
        return found

    def inputs(self, batch: Batch) -> Batch:
        """`tokens` of the batch's texts, and `empty_tokens`, those of no text."""
        tokens = self.encode([text.decode() for text in unpack_texts(batch["text"])])
        return {"tokens": tokens, "empty_tokens": self.encode([""]).expand_as(tokens)}

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return {"tokenizer": self.tokenizer.state(), "max_tokens": self.max_tokens}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Captions":
        """Those whose `state()` it was."""
        return cls(SubwordTokenizer.from_state(state["tokenizer"]), int(state["max_tokens"]))
