"""RoBERTa: BERT trained longer, on more text, without the next sentence, with masks drawn anew at every pass.

Paper: Y. Liu, M. Ott, N. Goyal, J. Du, M. Joshi, D. Chen, O. Levy, M. Lewis, L. Zettlemoyer, V. Stoyanov, "RoBERTa: a
robustly optimized BERT pretraining approach", 2019. https://arxiv.org/abs/1907.11692
Reference code: facebookresearch/fairseq, examples/roberta.

Differs from BERT: bytes in place of word pieces; positions are counted over tokens and begin behind two rows of the
table; texts of a pair are told apart by the tokens between them alone; the classifier has a hidden layer in place of
the pooler.

Differs from the paper: queries, keys and values are one matrix; padding is left out of all that acts on single tokens.

Shapes: B texts, T tokens of the longest, N tokens in all, D width, V vocabulary, K classes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveFloat, PositiveInt, Probability
from layerwise.nn.dropout import Dropout
from layerwise.nn.init import Init, initialise
from layerwise.nn.text_encoder import Embeddings, EncoderConfig, TextEncoder, random_texts

POSITION_OFFSET = 2  # rows of the position table before the first token's, in every published checkpoint


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(EncoderConfig):
    """Sizes of a RoBERTa; the defaults are RoBERTa-base.

    Args:
        vocab_size: number of tokens; None is taken from the tokeniser.
        max_seq_len: the longest input; the table of positions has two rows more.
        head: what is read off the encoder: "encoder", "embedding", "classifier", "tagger", "span" or "masked_lm", as in
            BERT. None takes the task's, "encoder" where there is none.
        num_classes: of "classifier" and "tagger"; None takes the data's.
        d_model: width.
        num_layers: blocks.
        num_heads: attention heads a block; divides `d_model`.
        d_ff: width inside the feed-forward part; None means 4 * d_model.
        num_segments: rows of the segments' table, of which only the first is used.
        activation: in feed-forward parts.
        eps: of the layer norms.
        dropout: probability of dropping an embedding or a part's output in training.
        attention_dropout: probability of dropping an attention weight in training.
        classifier_dropout: in the classifier or before the tagger; None means `dropout`.
    """

    next_sentences: ClassVar[bool] = False

    vocab_size: PositiveInt | None = 50265
    num_segments: PositiveInt = 1
    eps: PositiveFloat = 1e-5
    classifier_dropout: Probability | None = None


class RobertaEmbeddings(Embeddings):
    """norm(word + position + the one segment) of every token."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        width = config.d_model
        self.word_embeddings = nn.Embedding(config.vocab_size or 0, width)
        self.position_embeddings = nn.Embedding(config.max_seq_len + POSITION_OFFSET, width)
        self.token_type_embeddings = nn.Embedding(config.num_segments, width)
        self.norm = nn.LayerNorm(width, eps=config.eps)

    def forward(
        self, tokens: Int[Tensor, " N"], positions: Int[Tensor, " N"], segments: Int[Tensor, " N"]
    ) -> Float[Tensor, "N D"]:
        x = self.word_embeddings(tokens) + self.token_type_embeddings.weight[0]
        return self.norm(x + self.position_embeddings(positions + POSITION_OFFSET))


class ClassificationHead(nn.Module):
    """out(tanh(dense(x))) of a text's first token, with dropout before each."""

    def __init__(self, d_model: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, num_classes)
        self.drop = Dropout(dropout)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.out(self.drop(self.dense(self.drop(x)).tanh()))


class Roberta(TextEncoder[RobertaConfig]):
    """States of every token, or what its head makes of them.

    h_0 = norm(word + position), h_l = Block_l(h_{l-1}); pooled = tanh(pooler(h_L of the first token)).

    Args:
        config: sizes; `vocab_size` must be set, and `num_classes` for heads that have classes.

    Shape:
        tokens: int64 [B, T] in [0, V); mask: bool [B, T], True where there is a token (None: everywhere). What comes
        out depends on `head`, as in `Bert`.

    Raises:
        ConfigError: a size that only the data knows is not set.

    Example:
        >>> net = Roberta(RobertaConfig(vocab_size=50, d_model=8, num_layers=1, num_heads=2))
        >>> net(torch.ones(2, 5, dtype=torch.int64)).last_hidden_state.shape
        torch.Size([2, 5, 8])
    """

    pooled_heads = ("encoder",)

    def __init__(self, config: RobertaConfig) -> None:
        self._rate = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        super().__init__(config, tagger_dropout=self._rate, language_activation="gelu")

    def make_embeddings(self) -> Embeddings:
        return RobertaEmbeddings(self.config)

    def make_classifier(self, num_classes: int) -> nn.Module:
        return ClassificationHead(self.feature_size, num_classes, self._rate)

    def classify(self, first: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.classifier(first)

    def positions(self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None) -> Int[Tensor, "B T"]:
        """Counted over tokens, so that filling on the left does not count."""
        return super().positions(tokens, mask) if mask is None else mask.long().cumsum(1) - 1

    def reset_parameters(self) -> None:
        """Normal of deviation 0.02, as in the reference code."""
        initialise(self, {"*.bias": Init("zeros"), "*norm*.weight": Init("ones"), "*": Init("normal", 0.02)})


def example_batch(config: RobertaConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens [B, T] of 4 to 12 positions and their mask."""
    made = random_texts(config, batch_size, generator)
    return {"tokens": made["tokens"], "mask": made["mask"]}


PRESETS = {
    "roberta-base": RobertaConfig(),
    "roberta-large": RobertaConfig(d_model=1024, num_layers=24, num_heads=16),
    "distilroberta-base": RobertaConfig(num_layers=6),
    "roberta-tiny": RobertaConfig(
        vocab_size=60, max_seq_len=32, head="encoder", num_classes=3, d_model=32, num_layers=2, num_heads=4
    ),
}

CARD = Card(
    title="RoBERTa",
    authors="Yinhan Liu, Myle Ott, Naman Goyal, Jingfei Du and others",
    paper="RoBERTa: a robustly optimized BERT pretraining approach",
    year=2019,
    link="https://arxiv.org/abs/1907.11692",
    inputs={
        "tokens": "int64 [B, T], T <= max_seq_len",
        "mask": "bool [B, T], True where there is a token; None: everywhere",
        "documents": "int64 [B, T], the text of a packed row that a token is of, in place of the mask; None: one a row",
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
