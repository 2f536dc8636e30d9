"""BERT: an encoder that reads a text in both directions at once, pre-trained by filling in masked words.

Paper: J. Devlin, M.-W. Chang, K. Lee, K. Toutanova, "BERT: pre-training of deep bidirectional transformers for language
understanding", NAACL 2019. https://arxiv.org/abs/1810.04805
Reference code: google-research/bert. Sizes below base: Turc et al. 2019 (arXiv:1908.08962); MiniLM: Wang et al. 2020
(arXiv:2002.10957). Sentence embeddings: Reimers and Gurevych 2019 (arXiv:1908.10084).

Differs from the paper: queries, keys and values are one matrix; padding is left out of all that acts on single tokens.

Shapes: B texts, T tokens of the longest, N tokens in all, D width, H heads, V vocabulary, K classes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability
from layerwise.nn.dropout import Dropout
from layerwise.nn.init import Init, initialise
from layerwise.nn.text_encoder import Embeddings, EncoderConfig, TextEncoder, random_texts


@dataclass(frozen=True, kw_only=True)
class BertConfig(EncoderConfig):
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
    num_segments: PositiveInt = 2
    classifier_dropout: Probability | None = None


class BertEmbeddings(Embeddings):
    """norm(word + position + segment) of every token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.d_model
        self.word_embeddings = nn.Embedding(config.vocab_size or 0, width)
        self.position_embeddings = nn.Embedding(config.max_seq_len, width)
        self.token_type_embeddings = nn.Embedding(config.num_segments, width)
        self.norm = nn.LayerNorm(width, eps=config.eps)

    def forward(
        self, tokens: Int[Tensor, " N"], positions: Int[Tensor, " N"], segments: Int[Tensor, " N"]
    ) -> Float[Tensor, "N D"]:
        x = self.word_embeddings(tokens) + self.token_type_embeddings(segments)
        return self.norm(x + self.position_embeddings(positions))


class Bert(TextEncoder[BertConfig]):
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

    pooled_heads = ("encoder", "classifier", "pretraining")

    def __init__(self, config: BertConfig) -> None:
        rate = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        super().__init__(config, tagger_dropout=rate)
        self.classifier_drop = Dropout(rate)

    def make_embeddings(self) -> Embeddings:
        return BertEmbeddings(self.config)

    def make_classifier(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.feature_size, num_classes)

    def classify(self, first: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        return self.classifier(self.classifier_drop(self.pool(first)))

    def reset_parameters(self) -> None:
        """Normal of deviation 0.02, cut at two deviations, as in the reference code."""
        initialise(
            self,
            {"*.bias": Init("zeros"), "*norm*.weight": Init("ones"), "*": Init("truncated_normal", 0.02)},
        )


def example_batch(config: BertConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens [B, T] of 4 to 12 positions, their mask and two segments."""
    return random_texts(config, batch_size, generator)


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
        "documents": "int64 [B, T], the text of a packed row that a token is of, in place of the mask; None: one a row",
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
