"""DistilBERT: a BERT of half the depth that learned from a whole one.

Paper: V. Sanh, L. Debut, J. Chaumond, T. Wolf, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and
lighter", 2019. https://arxiv.org/abs/1910.01108
Reference code: huggingface/transformers, research_projects/distillation.

Differs from BERT: no segments and no pooler; the classifier has a hidden layer with ReLU. Differs from the paper:
queries, keys and values are one matrix; padding is left out of all that acts on single tokens.

Shapes: B texts, T tokens of the longest, N tokens in all, D width, V vocabulary, K classes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability
from layerwise.nn.dropout import Dropout
from layerwise.nn.init import Init, initialise
from layerwise.nn.text_encoder import Embeddings, EncoderConfig, TextEncoder, random_texts


@dataclass(frozen=True, kw_only=True)
class DistilBertConfig(EncoderConfig):
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

    next_sentences: ClassVar[bool] = False

    vocab_size: PositiveInt | None = 30522
    num_layers: PositiveInt = 6
    classifier_dropout: Probability = 0.2
    span_dropout: Probability = 0.1


class DistilBertEmbeddings(Embeddings):
    """norm(word + position) of every token."""

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size or 0, config.d_model)
        self.position_embeddings = nn.Embedding(config.max_seq_len, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, eps=config.eps)

    def forward(
        self, tokens: Int[Tensor, " N"], positions: Int[Tensor, " N"], segments: Int[Tensor, " N"]
    ) -> Float[Tensor, "N D"]:
        return self.norm(self.word_embeddings(tokens) + self.position_embeddings(positions))


class ClassificationHead(nn.Module):
    """out(relu(dense(x))) of a text's first token."""

    def __init__(self, d_model: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, num_classes)
        self.drop = Dropout(dropout)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.out(self.drop(self.dense(x).relu()))


class DistilBert(TextEncoder[DistilBertConfig]):
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

    def __init__(self, config: DistilBertConfig) -> None:
        super().__init__(config, tagger_dropout=config.dropout, span_dropout=config.span_dropout)

    def make_embeddings(self) -> Embeddings:
        return DistilBertEmbeddings(self.config)

    def make_classifier(self, num_classes: int) -> nn.Module:
        return ClassificationHead(self.feature_size, num_classes, self.config.classifier_dropout)

    def classify(self, first: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.classifier(first)

    def reset_parameters(self) -> None:
        """Normal of deviation 0.02, as in the reference code."""
        initialise(self, {"*.bias": Init("zeros"), "*norm*.weight": Init("ones"), "*": Init("normal", 0.02)})


def example_batch(config: DistilBertConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens [B, T] of 4 to 12 positions and their mask."""
    made = random_texts(config, batch_size, generator)
    return {"tokens": made["tokens"], "mask": made["mask"]}


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
        "documents": "int64 [B, T], the text of a packed row that a token is of, in place of the mask; None: one a row",
    },
    outputs={"last_hidden_state": "float [B, T, d_model]; other heads give logits or embeddings, see `head`"},
    differences=(
        "Queries, keys and values are one matrix.",
        "Padding is left out of all that acts on single tokens.",
    ),
    capabilities=("differentiable", "features"),
)
