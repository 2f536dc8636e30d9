"""fastText against a naive float64 loop over words and n-grams."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.language.fasttext import PRESETS, FastText, FastTextConfig


def naive_features(model: FastText, tokens: list[int]) -> torch.Tensor:
    """Mean of the rows of every word and n-gram; an n-gram's row by the reference's hash of its numbers."""
    config = model.config
    assert config.vocab_size is not None
    rows = list(tokens)
    for n in range(2, config.ngrams + 1):
        for start in range(len(tokens) - n + 1):
            hashed = tokens[start]
            for token in tokens[start + 1 : start + n]:
                hashed = hashed * 116049371 + token
            rows.append(config.vocab_size + hashed % config.buckets)
    table = model.embedding.weight.double()
    return sum((table[row] for row in rows), torch.zeros(config.d_model, dtype=torch.float64)) / max(1, len(rows))


@pytest.mark.parametrize("ngrams", [1, 2, 3])
def test_logits_are_those_of_the_loop(ngrams: int) -> None:
    torch.manual_seed(ngrams)
    config = FastTextConfig(vocab_size=30, num_classes=4, d_model=6, ngrams=ngrams, buckets=50)
    model = FastText(config).double()
    texts = [[3, 7, 7, 2], [5], [], [9, 1, 4, 4, 8, 3]]
    mask = torch.arange(6) < torch.tensor([len(text) for text in texts])[:, None]
    tokens = torch.full((4, 6), 29)  # what fills up does not count
    tokens[mask] = torch.tensor([token for text in texts for token in text])
    got = model(tokens, mask)
    for row, text in zip(got, texts, strict=True):
        wanted = model.output.weight @ naive_features(model, text) + model.output.bias
        torch.testing.assert_close(row, wanted, rtol=1e-10, atol=1e-10)


def test_without_a_mask_every_token_counts() -> None:
    model = FastText(PRESETS["fasttext-tiny"])
    tokens = torch.tensor([[4, 8, 15]])
    assert torch.equal(model(tokens), model(tokens, torch.ones(1, 3, dtype=torch.bool)))


def test_word_order_counts_with_bigrams_alone() -> None:
    ahead, back = torch.tensor([[4, 8, 15]]), torch.tensor([[15, 8, 4]])
    for ngrams, same in ((1, True), (2, False)):
        model = FastText(FastTextConfig(vocab_size=20, num_classes=2, ngrams=ngrams, buckets=97))
        assert torch.allclose(model(ahead), model(back)) == same


def test_dropout_leaves_words_out_and_keeps_the_mean_of_the_rest() -> None:
    torch.manual_seed(0)
    model = FastText(FastTextConfig(vocab_size=40, num_classes=2, d_model=1, ngrams=1, dropout=0.5))
    with torch.no_grad():
        model.embedding.weight.copy_(torch.ones(40, 1))
    tokens = torch.arange(40)[None].expand(500, 40)
    features = model.train().forward_features(tokens)
    assert torch.equal(features, torch.ones(500, 1))  # a mean of ones, over however many words are left
    with torch.no_grad():
        model.embedding.weight[:20] = 0.0
    spread = model.forward_features(tokens).detach().std()
    # The share of ones among 40 words, each kept with probability 1/2: deviation sqrt(1/4 / 40 * (1 - 1/2) / (1/2)).
    assert float(spread) == pytest.approx((0.25 / 40) ** 0.5, rel=0.15)


def test_parameters_are_a_vector_a_word_and_bucket_and_the_linear_layer() -> None:
    with torch.device("meta"):
        model = FastText(FastTextConfig(vocab_size=1000, num_classes=4, d_model=10, buckets=10_000_000))
    assert sum(p.numel() for p in model.parameters()) == 10 * (1000 + 10_000_000) + 4 * 10 + 4


def test_sizes_that_only_the_data_knows_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="vocab_size and num_classes"):
        FastText(FastTextConfig(vocab_size=10))
