"""The block of BERT and its kin: self-attention and a feed-forward part, each followed by a norm.

Devlin, Chang, Lee, Toutanova 2019, arXiv:1810.04805, section 3; the order is that of Vaswani et al. 2017. Tokens are
rows, so that no work is done on what fills up shorter texts.

Shapes: B texts, T tokens of the longest, N tokens in all, D width, H heads.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.nn.attention import merge_heads, split_heads
from layerwise.nn.dropout import Dropout
from layerwise.ops.attention import attention, plain_attention
from layerwise.ops.packed_attention import packed_attention
from layerwise.ops.padding import TokenRows

Activation = Literal["gelu", "gelu_tanh", "relu"]
Head = Literal["encoder", "embedding", "classifier", "tagger", "span", "masked_lm", "pretraining"]


class EncoderOutput(NamedTuple):
    """What an encoder says of texts.

    Args:
        last_hidden_state: of every token [B, T, D]; zeros where there is none.
        pooled: of every text [B, D], from its first token.
    """

    last_hidden_state: Tensor
    pooled: Tensor


class TokenStates(NamedTuple):
    """What an encoder without a pooler says of texts.

    Args:
        last_hidden_state: of every token [B, T, D]; zeros where there is none.
    """

    last_hidden_state: Tensor


class SpanLogits(NamedTuple):
    """Where an answer begins and ends.

    Args:
        start, end: logits of every token [B, T].
    """

    start: Tensor
    end: Tensor


class PretrainingLogits(NamedTuple):
    """BERT's two guesses.

    Args:
        tokens: of the word at every token [B, T, V].
        next_sentence: [B, 2], whether the second text follows the first (0) or is from elsewhere (1).
    """

    tokens: Tensor
    next_sentence: Tensor


def activate(name: Activation) -> Callable[[Tensor], Tensor]:
    """The function of that name; "gelu_tanh" is the tanh form of GELU."""
    if name == "gelu_tanh":
        return lambda x: F.gelu(x, approximate="tanh")
    return F.gelu if name == "gelu" else F.relu


class SelfAttention(nn.Module):
    """Every token attends to all tokens of its text; queries, keys and values from one matrix.

    Args:
        d_model: width; a multiple of `num_heads`.
        num_heads: H.
        dropout: probability of dropping an attention weight in training.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if d_model % num_heads:
            raise ConfigError(f"num_heads={num_heads} must divide d_model={d_model}")
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def heads(self, x: Float[Tensor, "N D"], rows: TokenRows) -> list[Tensor]:
        """Queries, keys and values [B, H, T, D / H]."""
        return [split_heads(part, self.num_heads) for part in rows.spread(self.qkv(x)).chunk(3, dim=-1)]

    def forward(self, x: Float[Tensor, "N D"], rows: TokenRows) -> Float[Tensor, "N D"]:
        dropout = self.dropout if self.training else 0.0
        if rows.lengths is not None:
            q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x)[None].chunk(3, dim=-1))
            return self.out(merge_heads(packed_attention(q, k, v, rows.lengths, dropout=dropout))[0])
        q, k, v = self.heads(x, rows)
        mixed = attention(q, k, v, mask=rows.attend, dropout=dropout)
        return self.out(rows.gather(merge_heads(mixed)))


class EncoderBlock(nn.Module):
    """y = norm1(x + attention(x)), then norm2(y + fc2(act(fc1(y)))).

    Args:
        d_model: width.
        num_heads: attention heads.
        d_ff: width inside the feed-forward part.
        activation: in the feed-forward part.
        eps: of the norms.
        dropout: probability of dropping a part's output in training.
        attention_dropout: probability of dropping an attention weight in training.

    Shape:
        x [N, D], the tokens of all texts -> [N, D].
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        activation: Activation,
        eps: float,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.attention = SelfAttention(d_model, num_heads, attention_dropout)
        self.norm1 = nn.LayerNorm(d_model, eps=eps)
        self.fc1 = nn.Linear(d_model, d_ff)
        self.fc2 = nn.Linear(d_ff, d_model)
        self.norm2 = nn.LayerNorm(d_model, eps=eps)
        self.drop = Dropout(dropout)
        self.activation: Activation = activation
        self.act = activate(activation)

    def forward(self, x: Float[Tensor, "N D"], rows: TokenRows) -> Float[Tensor, "N D"]:
        x = self.norm1(x + self.drop(self.attention(x, rows)))
        return self.norm2(x + self.drop(self.fc2(self.act(self.fc1(x)))))

    def weights(self, x: Float[Tensor, "N D"], rows: TokenRows) -> Float[Tensor, "B H T T"]:
        """What every token attends to."""
        q, k, v = self.attention.heads(x, rows)
        return plain_attention(q, k, v, mask=rows.attend)[1]


class MaskedLanguageHead(nn.Module):
    """Logits of the word at a token: norm(act(dense(x))) W^T + bias, W the word embeddings.

    Args:
        d_model: width.
        vocab_size: words.
        activation, eps: as in the blocks.
    """

    def __init__(self, d_model: int, vocab_size: int, activation: Activation, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model, eps=eps)
        self.bias = nn.Parameter(torch.empty(vocab_size))
        self.act = activate(activation)

    def transform(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """What is multiplied with the word embeddings."""
        return self.norm(self.act(self.dense(x)))

    def forward(self, x: Float[Tensor, "... D"], words: Float[Tensor, "V D"]) -> Float[Tensor, "... V"]:
        return F.linear(self.transform(x), words, self.bias)
