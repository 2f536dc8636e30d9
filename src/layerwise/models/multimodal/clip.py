"""CLIP's text encoder: a causal transformer whose features say what a text is about.

Paper: A. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021.
https://arxiv.org/abs/2103.00020 (section 2.4).
Reference code: the authors' https://github.com/openai/CLIP; names as in transformers' `CLIPTextModel`.

Differs from the paper: none. `clip-text-h-14` is OpenCLIP's encoder without its last block, as Stable Diffusion 2 has
it (https://github.com/mlfoundations/open_clip).

Shapes: B batch, T tokens, D width.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PositiveFloat, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.attention import MultiHeadAttention
from layerwise.nn.init import Init, initialise

CARD = Card(
    title="CLIP text encoder",
    authors="Alec Radford, Jong Wook Kim, Chris Hallacy, and others",
    paper="Learning transferable visual models from natural language supervision",
    year=2021,
    link="https://arxiv.org/abs/2103.00020",
    inputs={"tokens": "int64 [B, T], T at most max_seq_len, with an end token in each"},
    outputs={
        "last_hidden_state": "float [B, T, d_model]",
        "pooled": "float [B, d_model], the features of the end token",
    },
    capabilities=("differentiable", "causal"),
    published={"clip-text-*": {"vocab_size": 49408}},
)


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig:
    """Sizes of the text encoder; the defaults are ViT-L/14's.

    Args:
        vocab_size: tokens; None takes the data's.
        max_seq_len: positions.
        d_model: width.
        num_layers: blocks.
        num_heads: attention heads; divides `d_model`.
        d_ff: width inside the feed-forward part; None means 4 * d_model.
        activation: of the feed-forward part; "quick_gelu" is x sigmoid(1.702 x).
        eps: of the layer norms.
        end_token: the token whose features stand for the text: the first of its kind; None: the token with the
            highest number, as in the reference code.
    """

    vocab_size: PositiveInt | None = None
    max_seq_len: PositiveInt = 77
    d_model: PositiveInt = 768
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    d_ff: PositiveInt | None = None
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    eps: PositiveFloat = 1e-5
    end_token: NonNegativeInt | None = None

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ConfigError(f"num_heads={self.num_heads} must divide d_model={self.d_model}.")


class CLIPTextOutput(NamedTuple):
    """Features of every token [B, T, D] and of the end token [B, D]."""

    last_hidden_state: Tensor
    pooled: Tensor


class Embeddings(nn.Module):
    """Token and position embeddings, added."""

    def __init__(self, vocab_size: int, max_seq_len: int, d_model: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(max_seq_len, d_model)

    def forward(self, tokens: Int64[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        if tokens.shape[1] > self.position_embedding.num_embeddings:
            raise ConfigError(
                f"{tokens.shape[1]} tokens: the encoder has {self.position_embedding.num_embeddings} positions."
            )
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]


class MLP(nn.Module):
    """fc2(activation(fc1(x)))."""

    def __init__(self, d_model: int, d_ff: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(d_model, d_ff)
        self.fc2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        hidden = self.fc1(x)
        return self.fc2(hidden * torch.sigmoid(1.702 * hidden) if self.activation == "quick_gelu" else F.gelu(hidden))


class Block(nn.Module):
    """x' = x + attention(norm(x)), x'' = x' + mlp(norm(x')), each token reads itself and those before it."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        width = config.d_model
        self.layer_norm1 = nn.LayerNorm(width, eps=config.eps)
        self.self_attn = MultiHeadAttention(width, config.num_heads)
        self.layer_norm2 = nn.LayerNorm(width, eps=config.eps)
        self.mlp = MLP(width, config.d_ff or 4 * width, config.activation)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        x = x + self.self_attn(self.layer_norm1(x), causal=True)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    """The blocks, one after the other."""

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        for layer in self.layers:
            x = layer(x)
        return x


class TextTransformer(nn.Module):
    """Embeddings, blocks, norm."""

    def __init__(self, config: CLIPTextConfig, vocab_size: int) -> None:
        super().__init__()
        self.embeddings = Embeddings(vocab_size, config.max_seq_len, config.d_model)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.d_model, eps=config.eps)

    def forward(self, tokens: Int64[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        return self.final_layer_norm(self.encoder(self.embeddings(tokens)))


class CLIPText(nn.Module):
    """Features of a text.

    Shape:
        tokens [B, T] -> last_hidden_state [B, T, d_model], pooled [B, d_model].

    Raises:
        ConfigError: `vocab_size` is not set.

    Example:
        >>> net = CLIPText(PRESETS["clip-text-tiny"])
        >>> net(torch.tensor([[1, 5, 39]])).last_hidden_state.shape
        torch.Size([1, 3, 12])
    """

    def __init__(self, config: CLIPTextConfig) -> None:
        super().__init__()
        if config.vocab_size is None:
            raise ConfigError("vocab_size is needed to build a text encoder; it comes from the data or is given.")
        self.config = config
        self.text_model = TextTransformer(config, config.vocab_size)
        self.reset_parameters()

    @property
    def blocks(self) -> nn.ModuleList:
        """The repeated unit."""
        return self.text_model.encoder.layers

    def reset_parameters(self) -> None:
        """Normal: embeddings of deviation 0.02 and 0.01, matrices by width and, into the residual path, by depth (the
        reference code's `initialize_parameters`).
        """
        width, depth = self.config.d_model, self.config.num_layers
        initialise(
            self,
            {
                "*norm*.weight": Init("ones"),
                "*.bias": Init("zeros"),
                "*.token_embedding.weight": Init("normal", 0.02),
                "*.position_embedding.weight": Init("normal", 0.01),
                "*.out_proj.weight": Init("normal", width**-0.5 * (2 * depth) ** -0.5),
                "*.fc1.weight": Init("normal", (2 * width) ** -0.5),
                "*.fc2.weight": Init("normal", width**-0.5 * (2 * depth) ** -0.5),
                "*": Init("normal", width**-0.5),
            },
        )

    def forward(self, tokens: Int64[Tensor, "B T"]) -> CLIPTextOutput:
        """Features of every token and of the end token."""
        hidden, end = self.text_model(tokens), self.config.end_token
        place = (tokens if end is None else (tokens == end).int()).argmax(dim=-1)
        return CLIPTextOutput(hidden, hidden[torch.arange(len(hidden), device=hidden.device), place])


PRESETS = {
    "clip-text-l-14": CLIPTextConfig(),
    "clip-text-h-14": CLIPTextConfig(d_model=1024, num_layers=23, num_heads=16, activation="gelu"),
    "clip-text-small": CLIPTextConfig(max_seq_len=32, d_model=128, num_layers=2, num_heads=4),
    "clip-text-tiny": CLIPTextConfig(vocab_size=40, max_seq_len=8, d_model=12, num_layers=2, num_heads=2),
}


def example_batch(config: CLIPTextConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens; the last is the one with the highest number, or the end token."""
    vocab_size = config.vocab_size or 2
    tokens = torch.randint(vocab_size - 1, (batch_size, config.max_seq_len), generator=generator)
    tokens[:, -1] = vocab_size - 1 if config.end_token is None else config.end_token
    return {"tokens": tokens}
