"""A learned bias for the distance of query and key, shared by all positions (T5)."""

from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.ops.position_bias import key_distances, relative_buckets


class RelativeBias(nn.Module):
    """`bias[h, t, s] = weight[bucket(s - t), h]`, for `bias=` of `ops.attention.attention`.

    Args:
        num_heads: H.
        num_buckets: rows of the table.
        max_distance: all distances from here on share a bucket.
        both: keys after the query have buckets of their own; False for causal attention.

    References:
        Raffel et al. 2020 (arXiv:1910.10683), section 2.1; names as in T5's checkpoints.

    Example:
        >>> RelativeBias(num_heads=2)(queries=3, keys=5).shape
        torch.Size([2, 3, 5])
    """

    def __init__(self, num_heads: int, *, num_buckets: int = 32, max_distance: int = 128, both: bool = True) -> None:
        super().__init__()
        if num_heads < 1:
            raise ConfigError(f"num_heads={num_heads}: must be at least 1")
        self.num_buckets, self.max_distance, self.both = num_buckets, max_distance, both
        self.relative_attention_bias = nn.Embedding(num_buckets, num_heads)

    def forward(self, queries: int, keys: int) -> Float[Tensor, "H T S"]:
        """The bias for the last `queries` of `keys` positions."""
        weight = self.relative_attention_bias.weight
        distance = key_distances(queries, keys, weight.device)
        buckets = relative_buckets(distance, self.num_buckets, self.max_distance, both=self.both)
        return self.relative_attention_bias(buckets).movedim(-1, 0)
