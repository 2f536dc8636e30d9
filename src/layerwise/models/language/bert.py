"""BERT: an encoder that reads a text in both directions at once, pre-trained by filling in masked words.

Paper: J. Devlin, M.-W. Chang, K. Lee, K. Toutanova, "BERT: pre-training of deep bidirectional transformers for language
understanding", NAACL 2019. https://arxiv.org/abs/1810.04805
Reference code: google-research/bert. Sizes below base: Turc et al. 2019 (arXiv:1908.08962); MiniLM: Wang et al. 2020
(arXiv:2002.10957). Sentence embeddings: Reimers and Gurevych 2019 (arXiv:1908.10084).

Differs from the paper: queries, keys and values are one matrix; padding is left out of all that acts on single tokens.

Shapes: B texts, T tokens of the longest, N tokens in all, D width, H heads, V vocabulary, K classes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.encoder_block import (
    Activation,
    EncoderBlock,
    EncoderOutput,
    Head,
    MaskedLanguageHead,
    PretrainingLogits,
    SpanLogits,
    mean_tokens,
)
from layerwise.nn.init import Init, initialise
from layerwise.ops.padding import TokenRows

_POOLED = ("encoder", "classifier", "pretraining")


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Sizes of a BERT; the defaults are BERT-base.

    Args:
        vocab_size: number of tokens; None is taken from the tokeniser.
        max_seq_len: positions that are learned: the longest input.
        head: what is read off the encoder. "encoder": its states; "embedding": their mean over a text; "classifier":
            classes of a text or pair of texts; "tagger": classes of each token; "span": where an answer begins and
            ends; "masked_lm": the word at each token; "pretraining": that, and whether the second text follows the
            first. None takes the task's, "encoder" where there is none.
        num_classes: of "classifier" and "tagger"; None takes the data's.
        d_model: width.
        num_layers: blocks.
        num_heads: attention heads a block; divides `d_model`.
        d_ff: width inside the feed-forward part; None means 4 * d_model.
        num_segments: kinds of text that are told apart (first and second of a pair).
        activation: in feed-forward parts and the language head.
        eps: of the layer norms.
        dropout: probability of dropping an embedding or a part's output in training.
        attention_dropout: probability of dropping an attention weight in training.
        classifier_dropout: before the classifier or tagger; None means `dropout`.
    """

    vocab_size: PositiveInt | None = 30522
    max_seq_len: PositiveInt = 512
    head: Head | None = None
    num_classes: PositiveInt | None = None
    d_model: PositiveInt = 768
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    d_ff: PositiveInt | None = None
    num_segments: PositiveInt = 2
    activation: Activation = "gelu"
    eps: PositiveFloat = 1e-12
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    classifier_dropout: Probability | None = None

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ConfigError(f"num_heads={self.num_heads} must divide d_model={self.d_model}")


class Embeddings(nn.Module):
    """norm(word + position + segment) of every token."""

    def __init__(self, vocab_size: int, max_seq_len: int, num_segments: int, d_model: int, eps: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, d_model)
        self.position_embeddings = nn.Embedding(max_seq_len, d_model)
        self.token_type_embeddings = nn.Embedding(num_segments, d_model)
        self.norm = nn.LayerNorm(d_model, eps=eps)

    def forward(self, tokens: Int[Tensor, " N"], positions: Int[Tensor, " N"], segments: Int[Tensor, " N"]) -> Tensor:
        x = self.word_embeddings(tokens) + self.token_type_embeddings(segments)
        return self.norm(x + self.position_embeddings(positions))


class Bert(nn.Module):
    """States of every token, or what its head makes of them.

    h_0 = norm(word + position + segment), h_l = Block_l(h_{l-1}); pooled = tanh(pooler(h_L of the first token)).

    Args:
        config: sizes; `vocab_size` must be set, and `num_classes` for heads that have classes.

    Shape:
        tokens: int64 [B, T] in [0, V); mask: bool [B, T], True where there is a token (None: everywhere); segments:
        int64 [B, T], 0 in the first text and 1 in the second (None: 0). What comes out depends on `head`:
        `EncoderOutput`; embeddings [B, D]; logits [B, K] or [B, T, K]; `SpanLogits`; logits [B, T, V];
        `PretrainingLogits`.

    Raises:
        ConfigError: a size that only the data knows is not set.

    References:
        Devlin et al. 2019, section 3.

    Example:
        >>> sizes = BertConfig(vocab_size=50, d_model=8, num_layers=1, num_heads=2, head="classifier", num_classes=3)
        >>> Bert(sizes)(torch.ones(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 3])
    """

    # What names begin with that belong to a head: another head than this network's may be in a checkpoint.
    head_prefixes = ("pooler.", "classifier.", "tagger.", "span.", "language.", "next_sentence.")

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.head: Head = config.head or "encoder"
        if config.vocab_size is None:
            raise ConfigError("Bert needs vocab_size: give it, or train on texts with a tokeniser that tells it")
        if self.head in ("classifier", "tagger") and config.num_classes is None:
            raise ConfigError(f"head={self.head} needs num_classes: it comes from the data or is given.")
        self.config, self.feature_size, width = config, config.d_model, config.d_model
        self.embeddings = Embeddings(config.vocab_size, config.max_seq_len, config.num_segments, width, config.eps)
        self.drop = nn.Dropout(config.dropout)
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
        if self.head in _POOLED:
            self.pooler = nn.Linear(width, width)
        self.head_drop = nn.Dropout(config.dropout if config.classifier_dropout is None else config.classifier_dropout)
        if self.head == "classifier":
            self.classifier = nn.Linear(width, config.num_classes or 0)
        if self.head == "tagger":
            self.tagger = nn.Linear(width, config.num_classes or 0)
        if self.head == "span":
            self.span = nn.Linear(width, 2)
        if self.head in ("masked_lm", "pretraining"):
            self.language = MaskedLanguageHead(width, config.vocab_size, config.activation, config.eps)
        if self.head == "pretraining":
            self.next_sentence = nn.Linear(width, 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal of deviation 0.02, cut at two deviations, as in the reference code."""
        initialise(
            self,
            {"*.bias": Init("zeros"), "*norm*.weight": Init("ones"), "*": Init("truncated_normal", 0.02)},
        )

    def encode(
        self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None, segments: Int[Tensor, "B T"] | None
    ) -> tuple[Float[Tensor, "N D"], TokenRows]:
        """The tokens after the last block, as rows, and where they stand.

        Raises:
            ConfigError: more positions than were learned.
        """
        x, rows = self._embed(tokens, mask, segments)
        for block in self.blocks:
            x = block(x, rows)
        return x, rows

    def _embed(self, tokens: Tensor, mask: Tensor | None, segments: Tensor | None) -> tuple[Tensor, TokenRows]:
        batch, length = tokens.shape
        if length > self.config.max_seq_len:
            raise ConfigError(f"{length} tokens are more than max_seq_len={self.config.max_seq_len}")
        rows = TokenRows.full(batch, length) if mask is None else TokenRows.of(mask)
        positions = torch.arange(length, device=tokens.device).expand_as(tokens)
        kinds = torch.zeros_like(tokens) if segments is None else segments
        return self.drop(self.embeddings(*(rows.gather(ids) for ids in (tokens, positions, kinds)))), rows

    def _pool(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "B D"]:
        return self.pooler(states[:, 0]).tanh()

    def forward_features(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """States after the last block; zeros where there is no token."""
        x, rows = self.encode(tokens, mask, segments)
        return rows.spread(x)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
    ) -> Any:
        states = self.forward_features(tokens, mask, segments)
        if self.head == "encoder":
            return EncoderOutput(states, self._pool(states))
        if self.head == "embedding":
            return mean_tokens(states, torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask)
        if self.head == "classifier":
            return self.classifier(self.head_drop(self._pool(states)))
        if self.head == "tagger":
            return self.tagger(self.head_drop(states))
        if self.head == "span":
            return SpanLogits(*self.span(states).unbind(-1))
        logits = self.language(states, self.embeddings.word_embeddings.weight)
        if self.head == "masked_lm":
            return logits
        return PretrainingLogits(logits, self.next_sentence(self._pool(states)))

    def token_attention(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "L B H T T"]:
        """Attention weights of every block and head; row t says what token t reads."""
        x, rows = self._embed(tokens, mask, segments)
        maps: list[Tensor] = []
        for block in self.blocks:
            assert isinstance(block, EncoderBlock)
            maps.append(block.weights(x, rows))
            x = block(x, rows)
        return torch.stack(maps)


def example_batch(config: BertConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens [B, T] of 4 to 12 positions, their mask and two segments."""
    length = min(12, config.max_seq_len)
    lengths = torch.randint(min(4, length), length + 1, (batch_size, 1), generator=generator)
    return {
        "tokens": torch.randint(config.vocab_size or 100, (batch_size, length), generator=generator),
        "mask": torch.arange(length) < lengths,
        "segments": (torch.arange(length) >= lengths // 2).long(),
    }


PRESETS = {
    "bert-base-uncased": BertConfig(),
    "bert-base-cased": BertConfig(vocab_size=28996),
    "bert-large-uncased": BertConfig(d_model=1024, num_layers=24, num_heads=16),
    "bert-medium": BertConfig(d_model=512, num_layers=8, num_heads=8),
    "bert-small": BertConfig(d_model=512, num_layers=4, num_heads=8),
    "bert-mini": BertConfig(d_model=256, num_layers=4, num_heads=4),
    "bert-2x128": BertConfig(d_model=128, num_layers=2, num_heads=2),
    "all-MiniLM-L6-v2": BertConfig(d_model=384, num_layers=6),
    "MiniLM-L12-H384-uncased": BertConfig(d_model=384, num_layers=12),
    "bert-tiny": BertConfig(
        vocab_size=60, max_seq_len=32, head="encoder", num_classes=3, d_model=32, num_layers=2, num_heads=4
    ),
}

CARD = Card(
    title="BERT",
    authors="Jacob Devlin, Ming-Wei Chang, Kenton Lee, Kristina Toutanova",
    paper="BERT: pre-training of deep bidirectional transformers for language understanding",
    year=2018,
    link="https://arxiv.org/abs/1810.04805",
    inputs={
        "tokens": "int64 [B, T], T <= max_seq_len",
        "mask": "bool [B, T], True where there is a token; None: everywhere",
        "segments": "int64 [B, T], 0 in the first text and 1 in the second; None: 0",
    },
    outputs={
        "last_hidden_state": "float [B, T, d_model]; other heads give logits or embeddings, see `head`",
        "pooled": "float [B, d_model]",
    },
    differences=(
        "Queries, keys and values are one matrix.",
        "Padding is left out of all that acts on single tokens.",
    ),
    capabilities=("differentiable", "features"),
)
