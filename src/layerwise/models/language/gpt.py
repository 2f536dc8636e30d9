"""GPT-2: a decoder-only transformer with pre-normalisation, learned positions and a head tied to the embedding.

Radford, Wu, Child, Luan, Amodei, Sutskever 2019, "Language models are unsupervised multitask learners",
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
Reference code: openai/gpt-2 (src/model.py). State-dict names: the `gpt2` checkpoints of the Hugging Face hub.

Differs from the checkpoints: linear layers hold their weights as [out, in] (torch's order), the checkpoints [in, out].

Shapes: B batch, T tokens, S tokens and cached positions, D width, H heads, K = D / H, V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.attention import merge_heads, split_heads
from layerwise.nn.cache import Cache, LayerCache
from layerwise.nn.dropout import Dropout
from layerwise.nn.init import Init, initialise
from layerwise.nn.tied_output import TiedOutput
from layerwise.ops.attention import attention
from layerwise.ops.packed_attention import document_lengths, document_positions, packed_attention


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Sizes of a GPT; the defaults are GPT-2's smallest.

    Args:
        vocab_size: number of tokens; None is taken from the data.
        max_seq_len: positions that are learned: the longest input; None is taken from the data.
        d_model: width.
        num_layers: blocks.
        num_heads: attention heads a block; divides `d_model`.
        d_ff: width inside the feed-forward part; None means 4 * d_model.
        dropout: probability of dropping an embedding, an attention weight or a block's output in training.
        eps: of the layer norms.
    """

    vocab_size: PositiveInt | None = None
    max_seq_len: PositiveInt | None = None
    d_model: PositiveInt = 768
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    d_ff: PositiveInt | None = None
    dropout: Probability = 0.1
    eps: PositiveFloat = 1e-5

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ConfigError(f"num_heads={self.num_heads} must divide d_model={self.d_model}")


class CausalSelfAttention(nn.Module):
    """Each position attends to itself and to those before it."""

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.c_attn = nn.Linear(d_model, 3 * d_model)  # queries, keys and values side by side
        self.c_proj = nn.Linear(d_model, d_model)

    def forward(
        self, x: Float[Tensor, "B T D"], cache: LayerCache | None = None, lengths: list[int] | None = None
    ) -> Float[Tensor, "B T D"]:
        q, k, v = (split_heads(part, self.num_heads) for part in self.c_attn(x).chunk(3, dim=-1))
        if cache is not None:
            k, v = cache.append(k, v)
        dropout = self.dropout if self.training else 0.0
        if lengths is not None:
            return self.c_proj(merge_heads(packed_attention(q, k, v, lengths, causal=True, dropout=dropout)))
        return self.c_proj(merge_heads(attention(q, k, v, causal=True, dropout=dropout)))


class MLP(nn.Module):
    """c_proj(gelu(c_fc(x))) with the tanh form of GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(d_model, d_ff)
        self.c_proj = nn.Linear(d_ff, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """x + attn(ln_1(x)), then x + mlp(ln_2(x)): each part normalises its input and leaves the sum as it is."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(d_model, eps=eps)
        self.attn = CausalSelfAttention(d_model, num_heads, dropout)
        self.ln_2 = nn.LayerNorm(d_model, eps=eps)
        self.mlp = MLP(d_model, d_ff)
        self.drop = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B T D"], cache: LayerCache | None = None, lengths: list[int] | None = None
    ) -> Float[Tensor, "B T D"]:
        x = x + self.drop(self.attn(self.ln_1(x), cache, lengths))
        return x + self.drop(self.mlp(self.ln_2(x)))


class GPT(nn.Module):
    """Logits of the next token at every position.

    h_0 = wte[tokens] + wpe[positions], h_l = Block_l(h_{l-1}), logits = ln_f(h_L) wte^T.

    Args:
        config: sizes; `vocab_size` and `max_seq_len` must be set.

    Shape:
        tokens: int64 [B, T] in [0, V); documents: int64 [B, T], which document of its row a token is of (None: one a
        row), each with positions of its own and apart from the others; logits: [B, T, V].

    Raises:
        ConfigError: a size that only the data knows is not set.

    References:
        Radford et al. 2019, section 2.3.

    Example:
        >>> model = GPT(GPTConfig(vocab_size=65, max_seq_len=16, d_model=32, num_layers=2, num_heads=2))
        >>> model(torch.zeros(1, 5, dtype=torch.int64)).shape
        torch.Size([1, 5, 65])
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if config.vocab_size is None or config.max_seq_len is None:
            raise ConfigError("GPT needs vocab_size and max_seq_len: give both, or train on data that tells them")
        self.config = config
        self.max_seq_len = config.max_seq_len
        width = config.d_model
        self.wte = nn.Embedding(config.vocab_size, width)
        self.wpe = nn.Embedding(config.max_seq_len, width)
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(
            Block(width, config.num_heads, config.d_ff or 4 * width, config.dropout, config.eps)
            for _ in range(config.num_layers)
        )
        self.ln_f, self.output = nn.LayerNorm(width, eps=config.eps), TiedOutput()
        self.reset_parameters()

    @property
    def blocks(self) -> nn.ModuleList:
        """The repeated unit."""
        return self.h

    @property
    def output_embedding(self) -> nn.Embedding:
        """The tokens' table, which is also the last layer."""
        return self.wte

    def reset_parameters(self) -> None:
        """Normal with deviation 0.02; what feeds the residual sum, 1 / sqrt(2 * num_layers) of that (section 2.3)."""
        initialise(
            self,
            {
                "*.bias": Init("zeros"),
                "*ln_?.weight": Init("ones"),
                "h.*.c_proj.weight": Init("normal", 0.02 / math.sqrt(2 * self.config.num_layers)),
                "*": Init("normal", 0.02),
            },
        )

    def init_cache(self, batch_size: int, max_seq_len: int | None = None) -> Cache:
        """An empty cache; None makes room for as many positions as the model has."""
        weight = self.wte.weight
        length = self.max_seq_len if max_seq_len is None else min(max_seq_len, self.max_seq_len)
        heads, head_dim = self.config.num_heads, self.config.d_model // self.config.num_heads
        return Cache(
            [
                LayerCache(batch_size, heads, length, head_dim, device=weight.device, dtype=weight.dtype)
                for _ in range(self.config.num_layers)
            ]
        )

    def forward_features(
        self, tokens: Int[Tensor, "B T"], cache: Cache | None = None, documents: Int[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """The representation before the head.

        Raises:
            ConfigError: more positions than were learned, or documents together with a cache.
        """
        start = 0 if cache is None else cache.position
        end = start + tokens.shape[1]
        if end > self.max_seq_len:
            raise ConfigError(f"{end} tokens are more than max_seq_len={self.max_seq_len}")
        if documents is None:
            positions, lengths = torch.arange(start, end, device=tokens.device), None
        elif cache is None:
            positions, lengths = document_positions(documents), document_lengths(documents)
        else:
            raise ConfigError("documents are for training on packed rows: a cache goes on with one text a row")
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        for i, block in enumerate(self.h):
            x = block(x, None if cache is None else cache.layers[i], lengths)
        return self.ln_f(x)

    def forward(
        self, tokens: Int[Tensor, "B T"], cache: Cache | None = None, documents: Int[Tensor, "B T"] | None = None
    ) -> Float[Tensor, "B T V"]:
        return self.output(self.forward_features(tokens, cache, documents), self.wte.weight)


def example_batch(config: GPTConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens [B, T] over at most 16 positions."""
    length = min(16, config.max_seq_len or 16)
    return {"tokens": torch.randint(config.vocab_size or 256, (batch_size, length), generator=generator)}


PRESETS = {
    "gpt2": GPTConfig(vocab_size=50257, max_seq_len=1024),
    "gpt2-medium": GPTConfig(vocab_size=50257, max_seq_len=1024, d_model=1024, num_layers=24, num_heads=16),
    "gpt2-large": GPTConfig(vocab_size=50257, max_seq_len=1024, d_model=1280, num_layers=36, num_heads=20),
    "gpt2-xl": GPTConfig(vocab_size=50257, max_seq_len=1024, d_model=1600, num_layers=48, num_heads=25),
    "gpt2-tiny": GPTConfig(vocab_size=256, max_seq_len=64, d_model=32, num_layers=2, num_heads=4, dropout=0.0),
    "gpt-mini": GPTConfig(d_model=128, num_layers=2, num_heads=4, dropout=0.0),
}

CARD = Card(
    title="GPT-2",
    authors="Alec Radford, Jeffrey Wu, Rewon Child, David Luan, Dario Amodei, Ilya Sutskever",
    paper="Language models are unsupervised multitask learners",
    year=2019,
    link="https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
    inputs={
        "tokens": "int64 [B, T], T <= max_seq_len",
        "documents": "int64 [B, T], the document of a packed row that a token is of; None: one a row",
    },
    outputs={"logits": "[B, T, V], of the token after each position"},
    differences=("Linear layers hold their weights as [out, in]; the published checkpoints hold [in, out].",),
    capabilities=("features", "cache", "causal", "differentiable", "generates"),
)
