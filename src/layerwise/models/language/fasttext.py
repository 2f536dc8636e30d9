"""fastText's classifier: the mean of the vectors of a text's words and word n-grams, and a linear layer on it.

Paper: A. Joulin, E. Grave, P. Bojanowski, T. Mikolov, "Bag of Tricks for Efficient Text Classification", EACL 2017.
https://arxiv.org/abs/1607.01759
Reference code: https://github.com/facebookresearch/fastText (src/fasttext.cc, src/dictionary.cc).

Differs from the paper: a plain softmax in place of the hierarchical one; the linear layer has a bias and starts from
Glorot's distribution (the reference: no bias, an end-of-line word in every text, zeros); n-grams are hashed from token
numbers, the reference hashes words.

Shapes: B batch, T tokens, M words and n-grams of a text, V vocabulary, N buckets of n-grams, D width, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.init import Init, initialise

_HASH_FACTOR = 116_049_371  # dictionary.cc, Dictionary::addWordNgrams


@dataclass(frozen=True, kw_only=True)
class FastTextConfig:
    """Sizes of fastText.

    Args:
        vocab_size: number of tokens; None is taken from the data.
        num_classes: None is taken from the data.
        d_model: width of the vectors.
        ngrams: the longest n-gram of words that has a vector; 1 means words alone.
        buckets: vectors that all n-grams share by their hash.
        dropout: probability of leaving a word or n-gram out of the mean in training (Iyyer et al. 2015, section 3.2;
            the reference has none).
    """

    vocab_size: PositiveInt | None = None
    num_classes: PositiveInt | None = None
    d_model: PositiveInt = 16
    ngrams: PositiveInt = 2
    buckets: PositiveInt = 50_000
    dropout: Probability = 0.0


class FastText(nn.Module):
    """Logits `W mean_{i in words and n-grams} e_i + b` (the paper's equation before its softmax).

    Args:
        config: sizes; `vocab_size` and `num_classes` must be set.

    Shape:
        tokens: int64 [B, T] in [0, V); mask: bool [B, T], True where there is a token; logits: [B, K].

    Raises:
        ConfigError: a size that only the data knows is not set.

    References:
        Joulin et al. 2017, section 2.

    Example:
        >>> model = FastText(FastTextConfig(vocab_size=50, num_classes=2))
        >>> model(torch.tensor([[3, 7, 0]]), torch.tensor([[True, True, False]])).shape
        torch.Size([1, 2])
    """

    def __init__(self, config: FastTextConfig) -> None:
        super().__init__()
        if config.vocab_size is None or config.num_classes is None:
            raise ConfigError("FastText needs vocab_size and num_classes: give both, or train on data that tells them")
        self.config = config
        self.vocab_size = config.vocab_size
        rows = config.vocab_size + (config.buckets if config.ngrams > 1 else 0)
        self.embedding = nn.Embedding(rows, config.d_model)
        self.output = nn.Linear(config.d_model, config.num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Vectors normal with deviation 1 / d_model, the linear layer Glorot's with zero bias."""
        rules = {
            "embedding.weight": Init("normal", 1 / self.config.d_model),
            "output.weight": Init("glorot_uniform"),
            "output.bias": Init("zeros"),
        }
        initialise(self, rules)

    def _rows(
        self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]:
        """Rows of the embedding for all words and n-grams, and which of them lie within the text."""
        rows, valid = [tokens], [mask]
        hashed, inside = tokens, mask
        for n in range(2, min(self.config.ngrams, tokens.shape[1]) + 1):
            hashed = hashed[:, :-1] * _HASH_FACTOR + tokens[:, n - 1 :]
            inside = inside[:, :-1] & mask[:, n - 1 :]
            rows.append(self.vocab_size + hashed % self.config.buckets)
            valid.append(inside)
        return torch.cat(rows, dim=1), torch.cat(valid, dim=1)

    def forward_features(
        self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B D"]:
        """The mean vector; zero for a text without tokens."""
        rows, valid = self._rows(tokens, torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask)
        if self.training and self.config.dropout:
            valid = valid & (torch.rand(valid.shape, device=valid.device) >= self.config.dropout)
        weights = valid.to(self.embedding.weight.dtype)
        total = F.embedding_bag(rows, self.embedding.weight, per_sample_weights=weights, mode="sum")
        return total / weights.sum(1, keepdim=True).clamp(min=1)

    def forward(self, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"] | None = None) -> Float[Tensor, "B K"]:
        return self.output(self.forward_features(tokens, mask))


def example_batch(config: FastTextConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens [B, T] of 4 to 12 positions and their mask."""
    lengths = torch.randint(4, 13, (batch_size, 1), generator=generator)
    return {
        "tokens": torch.randint(config.vocab_size or 100, (batch_size, 12), generator=generator),
        "mask": torch.arange(12) < lengths,
    }


PRESETS = {
    "fasttext": FastTextConfig(),
    "fasttext-paper": FastTextConfig(d_model=10, buckets=10_000_000),
    "fasttext-tiny": FastTextConfig(vocab_size=50, num_classes=3, d_model=8, ngrams=3, buckets=100),
}

CARD = Card(
    title="fastText classifier",
    authors="Armand Joulin, Edouard Grave, Piotr Bojanowski, Tomas Mikolov",
    paper="Bag of Tricks for Efficient Text Classification",
    year=2016,
    link="https://arxiv.org/abs/1607.01759",
    inputs={
        "tokens": "int64 [B, T]",
        "mask": "bool [B, T], True where there is a token; None: everywhere",
    },
    outputs={"logits": "float [B, num_classes]"},
    differences=(
        "A plain softmax in place of the hierarchical one.",
        "A bias in place of the reference's end-of-line word.",
        "N-grams are hashed from token numbers.",
    ),
    capabilities=("differentiable", "features"),
)
