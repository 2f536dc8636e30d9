"""BERT's block against its equations."""

import torch
import torch.nn.functional as F

from layerwise.nn.encoder_block import EncoderBlock, MaskedLanguageHead
from layerwise.ops.padding import TokenRows


def block() -> EncoderBlock:
    torch.manual_seed(0)
    options = {"activation": "gelu", "eps": 1e-5, "dropout": 0.0, "attention_dropout": 0.0}
    return EncoderBlock(8, 2, 12, **options).double()  # pyright: ignore[reportArgumentType]


def test_a_block_is_attention_and_feed_forward_each_followed_by_a_norm() -> None:
    """Float64, 1e-12: one text, written out with loops over heads and tokens."""
    net, x = block(), torch.randn(1, 5, 8, dtype=torch.float64)
    q, k, v = net.attention.qkv(x[0]).split(8, dim=1)
    mixed = torch.zeros(5, 8, dtype=torch.float64)
    for head in (slice(0, 4), slice(4, 8)):
        for t in range(5):
            scores = torch.stack([(q[t, head] * k[s, head]).sum() / 2 for s in range(5)])
            mixed[t, head] = (scores.softmax(0)[:, None] * v[:, head]).sum(0)
    y = F.layer_norm(x[0] + net.attention.out(mixed), (8,), net.norm1.weight, net.norm1.bias, 1e-5)
    inner = net.fc1(y)
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    wanted = F.layer_norm(y + net.fc2(inner), (8,), net.norm2.weight, net.norm2.bias, 1e-5)
    rows = TokenRows.full(1, 5)
    torch.testing.assert_close(net(rows.gather(x), rows), wanted, rtol=1e-12, atol=1e-12)


def test_texts_of_several_lengths_are_each_by_themselves() -> None:
    net, texts = block(), [torch.randn(n, 8, dtype=torch.float64) for n in (3, 1, 5)]
    x = torch.zeros(3, 5, 8, dtype=torch.float64)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    for row, text in enumerate(texts):
        x[row, : len(text)], mask[row, : len(text)] = text, True
    rows = TokenRows.of(mask)
    found = net(rows.gather(x), rows)
    wanted = torch.cat([net(text, TokenRows.full(1, len(text))) for text in texts])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_weights_are_what_attention_uses() -> None:
    net, x = block(), torch.randn(6, 8, dtype=torch.float64)
    rows = TokenRows.full(2, 3)
    weights = net.weights(x, rows)
    assert weights.shape == (2, 2, 3, 3)
    v = net.attention.heads(x, rows)[2]
    mixed = torch.einsum("bhts,bhsv->bthv", weights, v).flatten(0, 1).flatten(1)
    torch.testing.assert_close(net.attention.out(mixed), net.attention(x, rows), rtol=1e-12, atol=1e-12)


def test_the_language_head_multiplies_with_the_word_embeddings() -> None:
    head, words, x = MaskedLanguageHead(4, 7, "relu", 1e-5), torch.randn(7, 4), torch.randn(2, 4)
    torch.nn.init.normal_(head.bias)
    inner = F.layer_norm(head.dense(x).relu(), (4,), head.norm.weight, head.norm.bias, 1e-5)
    torch.testing.assert_close(head(x, words), inner @ words.T + head.bias)
