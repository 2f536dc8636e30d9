"""A text encoder for inference alone on a CPU: weights laid out once as the processor's kernels read them, activations
and residual sums computed where a product writes its result, the scale of the scores inside the queries' weights.

Shapes: N tokens in all, D width, I O numbers in and out, B texts, T tokens of the longest, H heads.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.infer.pack_linear import PackedLinear
from layerwise.nn.attention import merge_heads, split_heads
from layerwise.nn.encoder_block import EncoderBlock
from layerwise.nn.text_encoder import TextEncoder
from layerwise.ops.attention import attention
from layerwise.ops.packed_attention import packed_attention
from layerwise.ops.padding import TokenRows


class FrozenBlock(nn.Module):
    """`EncoderBlock` in evaluation.

    Args:
        block: whose weights are taken, in the type that it computes in.
    """

    def __init__(self, block: EncoderBlock) -> None:
        super().__init__()
        self.num_heads = block.attention.num_heads
        width = block.norm1.weight.shape[0]
        scale = torch.ones(3 * width, dtype=torch.float64)
        scale[:width] = (width // self.num_heads) ** -0.5
        qkv, self.norm1, self.norm2 = block.attention.qkv, block.norm1, block.norm2
        weight, bias = qkv.weight.double() * scale[:, None], qkv.bias.double() * scale
        self.qkv = PackedLinear(weight.to(qkv.weight.dtype), bias.to(qkv.bias.dtype))
        layers = (block.attention.out, block.fc1, block.fc2)
        self.out, self.fc1, self.fc2 = (PackedLinear(each.weight, each.bias) for each in layers)
        self.gelu: str | None = {"gelu": "none", "gelu_tanh": "tanh"}.get(block.activation)
        self.act: Callable[[Tensor], Tensor] = block.act

    def forward(self, x: Tensor, rows: TokenRows) -> Tensor:
        x = self.norm1(self.out(self.mixed(self.qkv(x), rows), x))
        inner = self.fc1(x, gelu=self.gelu)
        return self.norm2(self.fc2(inner if self.gelu is not None else self.act(inner), x))

    def mixed(self, qkv: Tensor, rows: TokenRows) -> Tensor:
        """What tokens take from their texts, [N, 3 D] -> [N, D]."""
        packed = rows.lengths is not None
        spread = qkv[None] if packed else rows.spread(qkv)
        q, k, v = (split_heads(part, self.num_heads) for part in spread.chunk(3, dim=-1))
        if rows.lengths is not None:
            return merge_heads(packed_attention(q, k, v, rows.lengths, scale=1.0))[0]
        return rows.gather(merge_heads(attention(q, k, v, mask=rows.attend, scale=1.0)))


class _Float32(nn.Module):
    """Outputs of a network that computes in bfloat16, as float32."""

    def __init__(self, network: TextEncoder) -> None:  # pyright: ignore[reportMissingTypeArgument]
        super().__init__()
        self.network = network

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> object:
        found = self.network(tokens, mask, segments, documents)
        return type(found)(*(part.float() for part in found)) if isinstance(found, tuple) else found.float()


def freeze_encoder(network: TextEncoder, dtype: torch.dtype) -> nn.Module:  # pyright: ignore[reportMissingTypeArgument]
    """The same forward for inference alone, equal up to rounding. The network stays as it is.

    Args:
        network: in eval mode, float32, on a CPU.
        dtype: of all weights and products; bfloat16 where the machine multiplies it natively. Results are float32.

    Raises:
        UnsupportedError: it is elsewhere, of another type, or blocks were changed from outside.
    """
    name, weight = type(network).__name__, network.words
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        raise UnsupportedError(f"{name} is frozen on a CPU with oneDNN and from float32; it is {weight.dtype} there.")
    if not all(type(block) is EncoderBlock and _is_plain(block) for block in network.blocks):
        raise UnsupportedError(f"{name} has blocks that were changed from outside: they are not frozen.")
    made = copy.deepcopy(network).to(dtype)
    with torch.no_grad():
        made.blocks = nn.ModuleList(FrozenBlock(block) for block in made.blocks if isinstance(block, EncoderBlock))
    made.requires_grad_(False).eval()
    return made if dtype == torch.float32 else _Float32(made).eval()


def _is_plain(block: EncoderBlock) -> bool:
    return all(type(each) is nn.Linear for each in (block.attention.qkv, block.attention.out, block.fc1, block.fc2))
