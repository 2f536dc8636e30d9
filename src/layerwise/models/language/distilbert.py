"""DistilBERT: a BERT of half the depth that learned from a whole one.

Paper: V. Sanh, L. Debut, J. Chaumond, T. Wolf, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and
lighter", 2019. https://arxiv.org/abs/1910.01108
Reference code: huggingface/transformers, research_projects/distillation.

Differs from BERT: no segments and no pooler; the classifier has a hidden layer with ReLU. Differs from the paper:
queries, keys and values are one matrix; padding is left out of all that acts on single tokens.

Shapes: B texts, T tokens of the longest, N tokens in all, D width, V vocabulary, K classes.
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
    Head,
    MaskedLanguageHead,
    SpanLogits,
    TokenStates,
    mean_tokens,
)
from layerwise.nn.init import Init, initialise
from layerwise.ops.padding import TokenRows


@dataclass(frozen=True, kw_only=True)
class DistilBertConfig:
    """Sizes of a DistilBERT; the defaults are the published one's.

    Args:
        vocab_size: number of tokens; None is taken from the tokeniser.
        max_seq_len: positions that are learned: the longest input.
        head: what is read off the encoder: "encoder", "embedding", "classifier", "tagger", "span" or "masked_lm", as in
            BERT. None takes the task's, "encoder" where there is none.
        num_classes: of "classifier" and "tagger"; None takes the data's.
        d_model: width.
        num_layers: blocks.
        num_heads: attention heads a block; divides `d_model`.
        d_ff: width inside the feed-forward part; None means 4 * d_model.
        activation: in feed-forward parts and the language head.
        eps: of the layer norms.
        dropout: probability of dropping an embedding or a part's output in training.
        attention_dropout: probability of dropping an attention weight in training.
        classifier_dropout: before the last layer of the classifier.
        span_dropout: before the layer that finds answers.
    """

    vocab_size: PositiveInt | None = 30522
    max_seq_len: PositiveInt = 512
    head: Head | None = None
    num_classes: PositiveInt | None = None
    d_model: PositiveInt = 768
    num_layers: PositiveInt = 6
    num_heads: PositiveInt = 12
    d_ff: PositiveInt | None = None
    activation: Activation = "gelu"
    eps: PositiveFloat = 1e-12
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    classifier_dropout: Probability = 0.2
    span_dropout: Probability = 0.1

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ConfigError(f"num_heads={self.num_heads} must divide d_model={self.d_model}")
        if self.head == "pretraining":
            raise ConfigError("head=pretraining: DistilBERT is not trained on next sentences; take head=masked_lm.")


class Embeddings(nn.Module):
    """norm(word + position) of every token."""

    def __init__(self, vocab_size: int, max_seq_len: int, d_model: int, eps: float) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, d_model)
        self.position_embeddings = nn.Embedding(max_seq_len, d_model)
        self.norm = nn.LayerNorm(d_model, eps=eps)

    def forward(self, tokens: Int[Tensor, " N"], positions: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
        return self.norm(self.word_embeddings(tokens) + self.position_embeddings(positions))


class ClassificationHead(nn.Module):
    """out(relu(dense(x))) of a text's first token."""

    def __init__(self, d_model: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, num_classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.out(self.drop(self.dense(x).relu()))


class DistilBert(nn.Module):
    """States of every token, or what its head makes of them.

    h_0 = norm(word + position), h_l = Block_l(h_{l-1}).

    Args:
        config: sizes; `vocab_size` must be set, and `num_classes` for heads that have classes.

    Shape:
        tokens: int64 [B, T] in [0, V); mask: bool [B, T], True where there is a token (None: everywhere). What comes
        out depends on `head`, as in `Bert`; "encoder" gives `TokenStates`.

    Raises:
        ConfigError: a size that only the data knows is not set.

    Example:
        >>> net = DistilBert(DistilBertConfig(vocab_size=50, d_model=8, num_layers=1, num_heads=2))
        >>> net(torch.ones(2, 5, dtype=torch.int64)).last_hidden_state.shape
        torch.Size([2, 5, 8])
    """

    head_prefixes = ("classifier.", "tagger.", "span.", "language.")

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.head: Head = config.head or "encoder"
        if config.vocab_size is None:
            raise ConfigError("DistilBert needs vocab_size: give it, or train on texts with a tokeniser that tells it")
        if self.head in ("classifier", "tagger") and config.num_classes is None:
            raise ConfigError(f"head={self.head} needs num_classes: it comes from the data or is given.")
        self.config, self.feature_size, width = config, config.d_model, config.d_model
        self.embeddings = Embeddings(config.vocab_size, config.max_seq_len, width, config.eps)
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
        if self.head == "classifier":
            self.classifier = ClassificationHead(width, config.num_classes or 0, config.classifier_dropout)
        if self.head == "tagger":
            self.tagger = nn.Linear(width, config.num_classes or 0)
        if self.head == "span":
            self.span_drop = nn.Dropout(config.span_dropout)
            self.span = nn.Linear(width, 2)
        if self.head == "masked_lm":
            self.language = MaskedLanguageHead(width, config.vocab_size, config.activation, config.eps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal of deviation 0.02, as in the reference code."""
        initialise(self, {"*.bias": Init("zeros"), "*norm*.weight": Init("ones"), "*": Init("normal", 0.02)})

    def forward_features(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """States after the last block; zeros where there is no token.

        Args:
            segments: taken so that every encoder can be given pairs; this one has none and does not read them.

        Raises:
            ConfigError: more tokens than there are positions.
        """
        batch, length = tokens.shape
        if length > self.config.max_seq_len:
            raise ConfigError(f"{length} tokens are more than max_seq_len={self.config.max_seq_len}")
        rows = TokenRows.full(batch, length) if mask is None else TokenRows.of(mask)
        positions = torch.arange(length, device=tokens.device).expand_as(tokens)
        x = self.drop(self.embeddings(rows.gather(tokens), rows.gather(positions)))
        for block in self.blocks:
            x = block(x, rows)
        return rows.spread(x)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
        segments: Int[Tensor, "B T"] | None = None,
    ) -> Any:
        states = self.forward_features(tokens, mask, segments)
        if self.head == "encoder":
            return TokenStates(states)
        if self.head == "embedding":
            return mean_tokens(states, torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask)
        if self.head == "classifier":
            return self.classifier(states[:, 0])
        if self.head == "tagger":
            return self.tagger(self.drop(states))
        if self.head == "span":
            return SpanLogits(*self.span(self.span_drop(states)).unbind(-1))
        return self.language(states, self.embeddings.word_embeddings.weight)


def example_batch(config: DistilBertConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens [B, T] of 4 to 12 positions and their mask."""
    length = min(12, config.max_seq_len)
    lengths = torch.randint(min(4, length), length + 1, (batch_size, 1), generator=generator)
    return {
        "tokens": torch.randint(config.vocab_size or 100, (batch_size, length), generator=generator),
        "mask": torch.arange(length) < lengths,
    }


PRESETS = {
    "distilbert-base-uncased": DistilBertConfig(),
    "distilbert-base-cased": DistilBertConfig(vocab_size=28996),
    "distilbert-tiny": DistilBertConfig(
        vocab_size=60, max_seq_len=32, head="encoder", num_classes=3, d_model=32, num_layers=2, num_heads=4
    ),
}

CARD = Card(
    title="DistilBERT",
    authors="Victor Sanh, Lysandre Debut, Julien Chaumond, Thomas Wolf",
    paper="DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
    year=2019,
    link="https://arxiv.org/abs/1910.01108",
    inputs={
        "tokens": "int64 [B, T], T <= max_seq_len",
        "mask": "bool [B, T], True where there is a token; None: everywhere",
    },
    outputs={"last_hidden_state": "float [B, T, d_model]; other heads give logits or embeddings, see `head`"},
    differences=(
        "Queries, keys and values are one matrix.",
        "Padding is left out of all that acts on single tokens.",
    ),
    capabilities=("differentiable", "features"),
)
