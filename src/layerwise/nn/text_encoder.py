"""What BERT and its kin share: blocks over tokens as rows, and heads that read them.

A model of this family is a subclass in its own file: it says how tokens become vectors, how positions are counted, how
a text's first token is classified, and what its weights are drawn from.

Shapes: B texts, T tokens of the longest, N tokens in all, D width, H heads, V vocabulary, K classes.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from layerwise.core.config import PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.nn.dropout import Dropout
from layerwise.nn.encoder_block import (
    Activation,
    EncoderBlock,
    EncoderOutput,
    Head,
    MaskedLanguageHead,
    PretrainingLogits,
    SpanLogits,
    TokenStates,
)
from layerwise.nn.protocols import HiddenWords
from layerwise.ops.packed_attention import document_positions
from layerwise.ops.padding import TokenRows

_WITH_CLASSES = ("classifier", "tagger")
_GUESSING = ("masked_lm", "pretraining")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """What the configurations of all such models have, with the defaults of BERT-base; a model's own describes it."""

    next_sentences: ClassVar[bool] = True  # whether there is a head for them

    vocab_size: PositiveInt | None = None
    max_seq_len: PositiveInt = 512
    head: Head | None = None
    num_classes: PositiveInt | None = None
    d_model: PositiveInt = 768
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    d_ff: PositiveInt | None = None
    activation: Activation = "gelu"
    eps: PositiveFloat = 1e-12
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ConfigError(f"num_heads={self.num_heads} must divide d_model={self.d_model}")
        if self.head == "pretraining" and not self.next_sentences:
            name = type(self).__name__.removesuffix("Config")
            raise ConfigError(
                f"head=pretraining: {name} is not trained on next sentences; take head=masked_lm, or in training "
                "task.next_sentence=false."
            )


C = TypeVar("C", bound=EncoderConfig)


class Embeddings(nn.Module):
    """Tokens, positions and segments [N] to vectors [N, D]; a model's own."""

    word_embeddings: nn.Embedding


class TextEncoder(nn.Module, Generic[C]):
    """States of every token, or what the head makes of them.

    h_0 = embeddings(tokens), h_l = Block_l(h_{l-1}). Texts may lie packed behind one another in a row (`documents`):
    outputs of tokens stand where the tokens do, outputs of texts come in the order of the texts.

    Args:
        config: sizes; `vocab_size` must be set, and `num_classes` for heads that have classes.
        tagger_dropout, span_dropout: before the layers that tag tokens and find answers.
        language_activation: of the head that guesses words; None takes the blocks'.

    Raises:
        ConfigError: a size that only the data knows is not set.
    """

    # What names begin with that belong to a head: another head than this network's may be in a checkpoint.
    head_prefixes = ("pooler.", "classifier.", "tagger.", "span.", "language.", "next_sentence.")
    # Heads that read tanh(pooler(x)) of a text's first token.
    pooled_heads: tuple[Head, ...] = ()

    def __init__(
        self,
        config: C,
        *,
        tagger_dropout: float,
        span_dropout: float = 0.0,
        language_activation: Activation | None = None,
    ) -> None:
        super().__init__()
        name, width = type(self).__name__, config.d_model
        self.config, self.feature_size = config, width
        self.head: Head = config.head or "encoder"
        if config.vocab_size is None:
            raise ConfigError(f"{name} needs vocab_size: give it, or train on texts with a tokeniser that tells it")
        if self.head in _WITH_CLASSES and config.num_classes is None:
            raise ConfigError(f"head={self.head} needs num_classes: it comes from the data or is given.")
        self.embeddings = self.make_embeddings()
        self.drop = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                width,
                config.num_heads,
                config.d_ff or 4 * width,
                activation=config.activation,
                eps=config.eps,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
            )
            for _ in range(config.num_layers)
        )
        if self.head in self.pooled_heads:
            self.pooler = nn.Linear(width, width)
        if self.head == "classifier":
            self.classifier = self.make_classifier(config.num_classes or 0)
        if self.head == "tagger":
            self.tagger_drop = Dropout(tagger_dropout)
            self.tagger = nn.Linear(width, config.num_classes or 0)
        if self.head == "span":
            self.span_drop = Dropout(span_dropout)
            self.span = nn.Linear(width, 2)
        if self.head in _GUESSING:
            activation = language_activation or config.activation
            self.language = MaskedLanguageHead(width, config.vocab_size, activation, config.eps)
        if self.head == "pretraining":
            self.next_sentence = nn.Linear(width, 2)
        self.reset_parameters()

    # ------------------------------------------------------------------------------------------------ a model's own

    def make_embeddings(self) -> Embeddings:
        """The module that makes vectors of tokens."""
        raise NotImplementedError

    def make_classifier(self, num_classes: int) -> nn.Module:
        """The module behind `classify`."""
        raise NotImplementedError

    def classify(self, first: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Logits of texts from their first tokens."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw the weights."""
        raise NotImplementedError

    def positions(self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None) -> Int[Tensor, "B T"]:
        """Number of every token's position."""
        return torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)

    # --------------------------------------------------------------------------------------------------- all models'

    @property
    def words(self) -> Float[Tensor, "V D"]:
        """The words' table, which the language head shares."""
        return self.embeddings.word_embeddings.weight

    def embed(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
        documents: Int[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "N D"], TokenRows]:
        """The tokens before the first block, as rows, and where they stand.

        Raises:
            ConfigError: more tokens than there are positions, or a mask for packed texts.
        """
        if documents is None:
            batch, longest = tokens.shape
            rows = TokenRows.full(batch, longest) if mask is None else TokenRows.of(mask)
            positions = self.positions(tokens, mask)
        else:
            if mask is not None:
                raise ConfigError("mask and documents: of packed texts `documents` says where there are tokens.")
            rows, positions = TokenRows.packed(documents), document_positions(documents)
            longest = max(rows.lengths or (0,))
        if longest > self.config.max_seq_len:
            raise ConfigError(f"{longest} tokens are more than max_seq_len={self.config.max_seq_len}")
        kinds = torch.zeros_like(tokens) if segments is None else segments
        return self.drop(self.embeddings(*(rows.gather(ids) for ids in (tokens, positions, kinds)))), rows

    def encode(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
        documents: Int[Tensor, "B T"] | None = None,
    ) -> tuple[Float[Tensor, "N D"], TokenRows]:
        """The tokens after the last block, as rows, and where they stand."""
        x, rows = self.embed(tokens, mask, segments, documents)
        for block in self.blocks:
            x = block(x, rows)
        return x, rows

    def pool(self, first: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """tanh(pooler(x)) of the texts' first tokens."""
        return self.pooler(first).tanh()

    def forward_features(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
        documents: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """States after the last block; zeros where there is no token.

        Args:
            segments: 0 in the first text of a pair and 1 in the second, for models that have segments; the others do
                not read them.
            documents: which text of its row a token is of, where texts lie packed behind one another; `FILLING` where
                there is none.

        Raises:
            ConfigError: more tokens than there are positions, or a mask for packed texts.
        """
        x, rows = self.encode(tokens, mask, segments, documents)
        return rows.spread(x)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
        documents: Int[Tensor, "B T"] | None = None,
    ) -> Any:
        x, rows = self.encode(tokens, mask, segments, documents)
        return self.read(x, rows)

    def states_and_output(self, **inputs: Tensor) -> tuple[Float[Tensor, "N D"], Any]:
        """The last states of all tokens as rows, and forward's output."""
        x, rows = self.encode(**inputs)
        return x, self.read(x, rows)

    def read(self, x: Float[Tensor, "N D"], rows: TokenRows) -> Any:
        """What the head makes of the last states."""
        if self.head == "embedding":
            return rows.means(x)
        if self.head == "classifier":
            return self.classify(rows.firsts(x))
        states = rows.spread(x)
        if self.head == "encoder":
            if self.head in self.pooled_heads:
                return EncoderOutput(states, self.pool(rows.firsts(x)))
            return TokenStates(states)
        if self.head == "tagger":
            return self.tagger(self.tagger_drop(states))
        if self.head == "span":
            return SpanLogits(*self.span(self.span_drop(states)).unbind(-1))
        logits = self.language(states, self.words)
        if self.head == "masked_lm":
            return logits
        return PretrainingLogits(logits, self.next_sentence(self.pool(rows.firsts(x))))

    def hidden_words(self, hidden: Bool[Tensor, "B T"], /, **inputs: Tensor) -> HiddenWords:
        """What the language head multiplies with the words' table, of the tokens at which `hidden` is True.

        Raises:
            UnsupportedError: the network has no language head.
        """
        if self.head not in _GUESSING:
            raise UnsupportedError(f"{type(self).__name__} with head={self.head} guesses no words.")
        x, rows = self.encode(**inputs)
        said = self.next_sentence(self.pool(rows.firsts(x))) if self.head == "pretraining" else None
        return HiddenWords(self.language.transform(x[rows.gather(hidden)]), said)

    def word_weights(self) -> tuple[Float[Tensor, "V D"], Float[Tensor, " V"]]:
        """The words' table, and the language head's bias."""
        return self.words, self.language.bias

    def token_attention(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "L B H T T"]:
        """Attention weights of every block and head; row t says what token t reads."""
        x, rows = self.embed(tokens, mask, segments)
        maps: list[Tensor] = []
        for block in self.blocks:
            assert isinstance(block, EncoderBlock)
            maps.append(block.weights(x, rows))
            x = block(x, rows)
        return torch.stack(maps)


def random_texts(config: EncoderConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random `tokens` [B, T] of 4 to 12 positions, their `mask` and two `segments`."""
    length = min(12, config.max_seq_len)
    lengths = torch.randint(min(4, length), length + 1, (batch_size, 1), generator=generator)
    return {
        "tokens": torch.randint(config.vocab_size or 100, (batch_size, length), generator=generator),
        "mask": torch.arange(length) < lengths,
        "segments": (torch.arange(length) >= lengths // 2).long(),
    }
