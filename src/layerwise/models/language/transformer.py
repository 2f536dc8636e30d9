"""The Transformer: an encoder and a decoder of attention and feed-forward layers.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin 2017, "Attention is all you need",
https://arxiv.org/abs/1706.03762
Pre-norm blocks: Wang et al. 2019, "Learning deep transformer models for machine translation",
https://arxiv.org/abs/1906.01787. Marian's form: Junczys-Dowmunt et al. 2018, "Marian: fast neural machine translation
in C++", https://arxiv.org/abs/1804.00344.
Reference code: tensorflow/tensor2tensor. State-dict names: the opus-mt checkpoints of the Hugging Face hub, without
their leading `model.`.

Differs from the paper: sines fill the first half of a position's vector and cosines the second, as in the authors'
code and in Marian; the paper's equation alternates them.

Shapes: B sentences, S source tokens, T target tokens, D width, F feed-forward width, V vocabulary, N hypotheses.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.attention import MultiHeadAttention, split_heads
from layerwise.nn.cache import DecoderCache, LayerCache
from layerwise.nn.dropout import Dropout
from layerwise.nn.init import Init, initialise
from layerwise.nn.tied_output import TiedOutput
from layerwise.ops.attention import plain_attention


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of a Transformer; the defaults are the paper's base model.

    Args:
        vocab_size: tokens of source and target together; None is taken from the data.
        max_seq_len: positions that there are vectors for: the longest source or target.
        d_model: width.
        num_encoder_layers, num_decoder_layers: blocks of each half.
        num_heads: attention heads a block; divides `d_model`.
        d_ff: width inside the feed-forward part.
        dropout: probability of dropping an element of an embedding or of what a part adds, in training.
        attention_dropout: of dropping an attention weight.
        activation_dropout: of dropping an element inside the feed-forward part.
        activation: inside the feed-forward part.
        norm: "post" normalises each sum (the paper), "pre" each part's input, and the result of each half.
        eps: of the layer norms.
        output_bias: a number added to each token's logit (`final_logits_bias` of Marian's checkpoints); not trained.
    """

    vocab_size: PositiveInt | None = None
    max_seq_len: PositiveInt = 512
    d_model: PositiveInt = 512
    num_encoder_layers: PositiveInt = 6
    num_decoder_layers: PositiveInt = 6
    num_heads: PositiveInt = 8
    d_ff: PositiveInt = 2048
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.0
    activation_dropout: Probability = 0.0
    activation: Literal["relu", "gelu", "swish"] = "relu"
    norm: Literal["post", "pre"] = "post"
    eps: PositiveFloat = 1e-5
    output_bias: bool = False

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ConfigError(f"num_heads={self.num_heads} must divide d_model={self.d_model}")
        if self.d_model % 2:
            raise ConfigError(f"d_model={self.d_model}: must be even, half of it are sines and half cosines")


def sinusoids(length: int, d_model: int) -> Float[Tensor, "T D"]:
    """Vectors of positions: sin(t / 10000^(2i / D)) for i < D / 2, then the cosines of the same (section 3.5)."""
    rates = 10000.0 ** (-2.0 * torch.arange(d_model // 2, dtype=torch.float64) / d_model)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def _post_norm(x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module, dropout: nn.Module) -> Tensor:
    """The paper's residual connection."""
    return norm(x + dropout(part(x)))


def _pre_norm(x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module, dropout: nn.Module) -> Tensor:
    """A part normalises its input and leaves the sum as it is (Wang et al. 2019, equation 3)."""
    return x + dropout(part(norm(x)))


_RESIDUAL = {"post": _post_norm, "pre": _pre_norm}
_ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "swish": F.silu}


class Layer(nn.Module):
    """What a layer of either half has: self-attention, and W_2 activation(W_1 x + b_1) + b_2 (equation 2)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.d_model
        self.self_attn = MultiHeadAttention(width, config.num_heads, dropout=config.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width, eps=config.eps)
        self.fc1 = nn.Linear(width, config.d_ff)
        self.fc2 = nn.Linear(config.d_ff, width)
        self.final_layer_norm = nn.LayerNorm(width, eps=config.eps)
        self.residual, self.activation = _RESIDUAL[config.norm], _ACTIVATIONS[config.activation]
        self.drop, self.drop_inside = Dropout(config.dropout), Dropout(config.activation_dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The same at every position."""
        return self.fc2(self.drop_inside(self.activation(self.fc1(x))))


class EncoderLayer(Layer):
    """Self-attention over the whole source, then the feed-forward part."""

    def forward(self, x: Float[Tensor, "B S D"], mask: Tensor | None) -> Float[Tensor, "B S D"]:
        x = self.residual(x, lambda y: self.self_attn(y, mask=mask), self.self_attn_layer_norm, self.drop)
        return self.residual(x, self.feed_forward, self.final_layer_norm, self.drop)


class DecoderLayer(Layer):
    """Self-attention up to the own position, attention to the source, then the feed-forward part."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.encoder_attn = MultiHeadAttention(config.d_model, config.num_heads, dropout=config.attention_dropout)
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model, eps=config.eps)

    def forward(
        self,
        x: Float[Tensor, "N T D"],
        memory: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "N T D"]:
        """One layer; `memory` is the source as its `encoder_attn.keys_and_values` gave it."""
        x = self.residual(
            x, lambda y: self.self_attn(y, causal=True, cache=cache), self.self_attn_layer_norm, self.drop
        )
        x = self.residual(
            x, lambda y: self.encoder_attn.attend(y, *memory, mask=mask), self.encoder_attn_layer_norm, self.drop
        )
        return self.residual(x, self.feed_forward, self.final_layer_norm, self.drop)

    def look(self, x: Float[Tensor, "B T D"], memory: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """Weights of the source [B, H, T, S] that `forward` mixes it by."""
        x = self.residual(x, lambda y: self.self_attn(y, causal=True), self.self_attn_layer_norm, self.drop)
        query = x if self.residual is _post_norm else self.encoder_attn_layer_norm(x)
        q = split_heads(self.encoder_attn.q_proj(query), self.encoder_attn.num_heads)
        return plain_attention(q, *memory, mask=mask)[1]


class Stack(nn.Module):
    """The layers of one half; with pre-norm a norm of their sum follows."""

    def __init__(self, layers: Sequence[Layer], config: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=config.eps) if config.norm == "pre" else nn.Identity()

    @property
    def blocks(self) -> nn.ModuleList:
        """The repeated unit."""
        return self.layers


class Transformer(nn.Module):
    """Logits of the next target token at every position, given the source.

    Source and target tokens share one embedding E, which is also the output layer: x_0 = sqrt(D) E[tokens] + positions,
    logits = E h_L (section 3.4).

    Args:
        config: sizes; `vocab_size` must be set.

    Shape:
        source: int64 [B, S]; source_mask: bool [B, S], True where there is a token; tokens: int64 [B, T], the target
        moved right by a start token; logits: [B, T, V].

    Raises:
        ConfigError: `vocab_size` is not set.

    References:
        Vaswani et al. 2017, section 3.

    Example:
        >>> model = Transformer(TransformerConfig(vocab_size=99, d_model=16, num_heads=2, d_ff=32))
        >>> model(torch.zeros(1, 7, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)).shape
        torch.Size([1, 5, 99])
    """

    positions: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.vocab_size is None:
            raise ConfigError("Transformer needs vocab_size: give it, or train on data that tells it")
        self.config, self.max_seq_len = config, config.max_seq_len
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = Stack([EncoderLayer(config) for _ in range(config.num_encoder_layers)], config)
        self.decoder = Stack([DecoderLayer(config) for _ in range(config.num_decoder_layers)], config)
        self.drop, self.output = Dropout(config.dropout), TiedOutput()
        self.register_buffer("positions", sinusoids(config.max_seq_len, config.d_model), persistent=False)
        if config.output_bias:
            self.register_buffer("final_logits_bias", torch.zeros(1, config.vocab_size))
        self.reset_parameters()

    @property
    def blocks(self) -> nn.ModuleList:
        """The repeated units, the encoder's first."""
        return nn.ModuleList([*self.encoder.layers, *self.decoder.layers])

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        """The decoder's blocks."""
        return cast("list[DecoderLayer]", list(self.decoder.layers))

    def reset_parameters(self) -> None:
        """Embeddings normal with deviation 1 / sqrt(D), matrices Glorot-uniform, as in the authors' code."""
        initialise(
            self,
            {
                "*.bias": Init("zeros"),
                "*norm.weight": Init("ones"),
                "shared.weight": Init("normal", self.config.d_model**-0.5),
                "*": Init("glorot_uniform"),
            },
        )

    def encode(
        self, source: Int[Tensor, "B S"], source_mask: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """The source's representation, which the decoder reads."""
        x, mask = self._embed(source, 0), _over_keys(source_mask)
        for layer in self.encoder.layers:
            x = layer(x, mask)
        return self.encoder.layer_norm(x)

    def init_decoding(
        self,
        source: Int[Tensor, "B S"],
        source_mask: Bool[Tensor, "B S"] | None = None,
        *,
        beams: int = 1,
        max_seq_len: int | None = None,
    ) -> DecoderCache:
        """Read the source; an empty cache for `beams` hypotheses of each sentence, side by side.

        Args:
            max_seq_len: positions to make room for; None means as many as the model has.
        """
        encoded = self.encode(source, source_mask)
        length = self.max_seq_len if max_seq_len is None else min(max_seq_len, self.max_seq_len)
        heads, head_dim = self.config.num_heads, self.config.d_model // self.config.num_heads
        memory = [layer.encoder_attn.keys_and_values(encoded) for layer in self.decoder_layers]
        layers = [
            LayerCache(len(source) * beams, heads, length, head_dim, device=encoded.device, dtype=k.dtype)
            for k, _ in memory
        ]
        return DecoderCache(layers, memory, source_mask)

    def decode(self, tokens: Int[Tensor, "N T"], cache: DecoderCache) -> Float[Tensor, "N T V"]:
        """Logits of tokens that follow those in the cache."""
        x, mask = self._embed(tokens, cache.position), _over_keys(cache.mask)
        for layer, memory, own in zip(self.decoder_layers, cache.memory, cache.layers, strict=True):
            x = layer(x, memory, mask, own)
        return self._logits(self.decoder.layer_norm(x))

    @property
    def output_embedding(self) -> nn.Embedding:
        """The tokens' table, which is also the last layer.

        Raises:
            AttributeError: the logits have a bias besides.
        """
        if self.config.output_bias:
            raise AttributeError("output_embedding: with output_bias the logits are no product alone")
        return self.shared

    def forward_features(
        self,
        source: Int[Tensor, "B S"],
        tokens: Int[Tensor, "B T"],
        source_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """What the last layer reads."""
        encoded, mask = self.encode(source, source_mask), _over_keys(source_mask)
        x = self._embed(tokens, 0)
        for layer in self.decoder_layers:
            x = layer(x, layer.encoder_attn.keys_and_values(encoded), mask)
        return self.decoder.layer_norm(x)

    def align(
        self,
        source: Int[Tensor, "B S"],
        tokens: Int[Tensor, "B T"],
        source_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T S"]:
        """How much each target position looks at each source token: the mean over layers and heads of the decoder's
        attention to the source; rows sum to one.
        """
        encoded, mask = self.encode(source, source_mask), _over_keys(source_mask)
        x, found = self._embed(tokens, 0), list[Tensor]()
        for layer in self.decoder_layers:
            memory = layer.encoder_attn.keys_and_values(encoded)
            found.append(layer.look(x, memory, mask).mean(1))
            x = layer(x, memory, mask)
        return torch.stack(found).mean(0)

    def forward(
        self,
        source: Int[Tensor, "B S"],
        tokens: Int[Tensor, "B T"],
        source_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        return self._logits(self.forward_features(source, tokens, source_mask))

    def _embed(self, tokens: Tensor, start: int) -> Tensor:
        end = start + tokens.shape[1]
        if end > self.max_seq_len:
            raise ConfigError(f"{end} tokens are more than max_seq_len={self.max_seq_len}")
        return self.drop(math.sqrt(self.config.d_model) * self.shared(tokens) + self.positions[start:end])

    def _logits(self, x: Tensor) -> Tensor:
        return self.output(x, self.shared.weight, getattr(self, "final_logits_bias", None))


def _over_keys(mask: Tensor | None) -> Tensor | None:
    """A mask of source tokens [B, S] as one of keys [B, 1, 1, S]."""
    return None if mask is None else mask[:, None, None, :]


def example_batch(config: TransformerConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random sources of up to 9 tokens and targets of 6."""
    vocabulary = config.vocab_size or 64
    lengths = torch.randint(1, 10, (batch_size,), generator=generator)
    return {
        "source": torch.randint(vocabulary, (batch_size, 9), generator=generator),
        "tokens": torch.randint(vocabulary, (batch_size, 6), generator=generator),
        "source_mask": torch.arange(9) < lengths[:, None],
    }


PRESETS = {
    "transformer-base": TransformerConfig(),
    "transformer-big": TransformerConfig(d_model=1024, num_heads=16, d_ff=4096, dropout=0.3),
    "transformer-small": TransformerConfig(
        d_model=256, num_encoder_layers=3, num_decoder_layers=3, num_heads=4, d_ff=1024, dropout=0.3, norm="pre"
    ),
    "transformer-tiny": TransformerConfig(
        vocab_size=64, max_seq_len=32, d_model=32, num_encoder_layers=2, num_decoder_layers=2, num_heads=4, d_ff=64
    ),
    "marian": TransformerConfig(vocab_size=58101, activation="swish", output_bias=True),
}

CARD = Card(
    title="Transformer",
    authors="Ashish Vaswani, Noam Shazeer, Niki Parmar, Jakob Uszkoreit, Llion Jones, Aidan N. Gomez, Lukasz Kaiser, "
    "Illia Polosukhin",
    paper="Attention is all you need",
    year=2017,
    link="https://arxiv.org/abs/1706.03762",
    inputs={
        "source": "int64 [B, S], S <= max_seq_len",
        "tokens": "int64 [B, T], T <= max_seq_len: the target behind a start token",
        "source_mask": "bool [B, S], True where there is a token",
    },
    outputs={"logits": "[B, T, V], of the target token after each position"},
    differences=(
        "Sines fill the first half of a position's vector and cosines the second, as in the authors' code; the paper "
        "alternates them.",
    ),
    capabilities=("causal", "differentiable", "features", "translates"),
)
