"""Multi-head attention as a layer: self-attention, cross-attention, grouped queries, with or without a cache.

Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.2. Names of the projections as in BART and Llama checkpoints.

Shapes: B batch, T queries, S keys, D width, H heads, G key and value heads, K head width, N rows that share keys.
"""

from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.nn.cache import LayerCache
from layerwise.ops.attention import attention


def split_heads(x: Float[Tensor, "B T D"], num_heads: int) -> Float[Tensor, "B H T K"]:
    """[B, T, H * K] -> [B, H, T, K]."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B H T K"]) -> Float[Tensor, "B T D"]:
    """[B, H, T, K] -> [B, T, H * K]."""
    return x.transpose(1, 2).flatten(-2)


class MultiHeadAttention(nn.Module):
    """Attention with projections of its own for queries, keys, values and the result.

    Args:
        d_model: width of queries and results; must be a multiple of `num_heads`.
        num_heads: H.
        num_kv_heads: G, must divide H; None means H. Fewer share keys and values among queries and make the cache
            smaller.
        context_size: width of what is attended to; None means `d_model`.
        bias: of all four projections.
        dropout: probability of dropping an attention weight in training.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        context_size: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if d_model % num_heads:
            raise ConfigError(f"num_heads={num_heads} must divide d_model={d_model}")
        if num_heads % self.num_kv_heads:
            raise ConfigError(f"num_kv_heads={self.num_kv_heads} must divide num_heads={num_heads}")
        self.head_dim, self.dropout = d_model // num_heads, dropout
        context_size = d_model if context_size is None else context_size
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(context_size, self.num_kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(context_size, self.num_kv_heads * self.head_dim, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        context: Float[Tensor, "B S C"] | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Attend from `x` to itself, or to `context`.

        Args:
            x: queries.
            context: what cross-attention reads; None means `x`.
            mask, causal: as in `ops.attention.attention`.
            cache: self-attention adds x's keys and values and reads all; cross-attention fills it from the context at
                the first call and only reads it after that.
        """
        if cache is not None and context is not None and cache.length:
            k, v = cache.read()
        else:
            k, v = self.keys_and_values(x if context is None else context)
            if cache is not None:
                k, v = cache.append(k, v)
        return self.attend(x, k, v, mask=mask, causal=causal)

    def keys_and_values(self, context: Float[Tensor, "B S C"]) -> tuple[Tensor, Tensor]:
        """What queries read of a context: [B, G, S, K] each."""
        k, v = self.k_proj(context), self.v_proj(context)
        return split_heads(k, self.num_kv_heads), split_heads(v, self.num_kv_heads)

    def attend(
        self,
        x: Float[Tensor, "N T D"],
        k: Float[Tensor, "B G S K"],
        v: Float[Tensor, "B G S K"],
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "N T D"]:
        """Attend to given keys and values.

        Args:
            x: queries. Where N is a multiple of B, row b of keys and values serves the rows b * N / B and following
                (hypotheses of one sentence), which are then not copied.
            k, v: as `keys_and_values` gives them.
            mask, causal: as in `ops.attention.attention`; B rows, and no `causal`, where rows are shared.
        """
        q = split_heads(self.q_proj(x), self.num_heads)
        rows, batch = len(q), len(k)
        if rows != batch:
            if batch == 0 or rows % batch or causal:
                raise ConfigError(f"{rows} rows of queries cannot share {batch} rows of keys, or not causally")
            q = q.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)  # [B, H, N / B * T, K]
        dropout = self.dropout if self.training else 0.0
        mixed = attention(q, k, v, mask=mask, causal=causal, dropout=dropout)
        if rows != batch:
            mixed = mixed.unflatten(2, (rows // batch, -1)).transpose(1, 2).flatten(0, 1)
        return self.out_proj(merge_heads(mixed))
