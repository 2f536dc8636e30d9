"""VQ-VAE: pictures as a grid of entries of a learned codebook, and a transformer that draws such grids.

Paper: A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017,
https://arxiv.org/abs/1711.00937 (encoder, decoder and residual blocks: section 4.1; codebook by moving averages:
appendix A.1).

Differs from the paper: the prior over grids is a causal transformer (`gpt.py`), not a PixelCNN; pixels have a logistic
function and lie in [0, 1]; the codebook moves by averages (objective `vector_quantisation`), never by a gradient.

Shapes: B batch, C H W pictures, D width of a codebook entry, K entries, h w the grid, T = h w.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PictureSize, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.models.language.gpt import GPT, GPTConfig
from layerwise.ops.random import Draws

CARD = Card(
    title="VQ-VAE",
    authors="Aaron van den Oord, Oriol Vinyals, Koray Kavukcuoglu",
    paper="Neural discrete representation learning",
    year=2017,
    link="https://arxiv.org/abs/1711.00937",
    inputs={"images": "float [B, in_channels, H, W] in [0, 1]"},
    outputs={
        "reconstruction": "float [B, in_channels, H, W] in [0, 1]",
        "prior_logits": "float [B, T, codebook_size], of each entry given those before it, row by row",
        "codes": "int64 [B, T], the entry at each position",
    },
    differences=(
        "The prior is a causal transformer, not a PixelCNN.",
        "Pixels have a logistic function; the codebook moves by averages only.",
    ),
    capabilities=("differentiable", "generates"),
)


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Sizes of the transformer over grids.

    Args:
        d_model, num_layers, num_heads, dropout: as in `GPTConfig`.
    """

    d_model: PositiveInt = 128
    num_layers: PositiveInt = 3
    num_heads: PositiveInt = 4
    dropout: float = 0.1


@dataclass(frozen=True, kw_only=True)
class VQVAEConfig:
    """Sizes of encoder, codebook, decoder and prior.

    Args:
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width of the pictures, each divisible by 4; None takes the data's.
        hidden_channels: of all maps between picture and grid.
        residual_channels: inside residual blocks.
        num_residual: residual blocks of encoder and decoder each.
        codebook_size: entries.
        entry_size: width of an entry.
        prior: the transformer over grids.
    """

    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = None
    hidden_channels: PositiveInt = 64
    residual_channels: PositiveInt = 32
    num_residual: PositiveInt = 2
    codebook_size: PositiveInt = 256
    entry_size: PositiveInt = 32
    prior: PriorConfig = PriorConfig()

    def __post_init__(self) -> None:
        if self.image_size is not None and any(size % 4 for size in self.image_size):
            raise ConfigError(f"image_size={self.image_size}: height and width must be divisible by 4.")


class VQVAEOutput(NamedTuple):
    """Reconstructions [B, C, H, W], the prior's logits [B, T, K] and the entries [B, T]."""

    reconstruction: Tensor
    prior_logits: Tensor
    codes: Tensor


class ResidualBlock(nn.Module):
    """`x + conv_1x1(relu(conv_3x3(relu(x))))`, section 4.1."""

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, hidden_channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(hidden_channels, channels, 1)

    def forward(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        return x + self.conv_2(F.relu(self.conv_1(F.relu(x))))


def _encoder(config: VQVAEConfig, in_channels: int) -> nn.Sequential:
    """Two convolutions that halve, residual blocks, a linear map to the entries' width."""
    width = config.hidden_channels
    return nn.Sequential(
        nn.Conv2d(in_channels, width // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        *(ResidualBlock(width, config.residual_channels) for _ in range(config.num_residual)),
        nn.ReLU(),
        nn.Conv2d(width, config.entry_size, 1),
    )


def _decoder(config: VQVAEConfig, out_channels: int) -> nn.Sequential:
    """The encoder mirrored, with transposed convolutions."""
    width = config.hidden_channels
    return nn.Sequential(
        nn.Conv2d(config.entry_size, width, 3, padding=1),
        *(ResidualBlock(width, config.residual_channels) for _ in range(config.num_residual)),
        nn.ReLU(),
        nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(width // 2, out_channels, 4, stride=2, padding=1),
    )


def nearest_entries(vectors: Float[Tensor, "N D"], codebook: Float[Tensor, "K D"]) -> Int[Tensor, " N"]:
    """`argmin_k |v - e_k|^2` in float32 or float64 on purpose, equation 1."""
    exact = torch.promote_types(vectors.dtype, torch.float32)
    with torch.autocast(vectors.device.type, enabled=False):
        v, e = vectors.detach().to(exact), codebook.to(exact)
        return (e.square().sum(1) - 2 * v @ e.T).argmin(1)


class VQVAE(nn.Module):
    """Encoder `z_e(x)`, the nearest entry `z_q` of each of its vectors, decoder, and a prior over the grid of entries.

    Gradients pass from `z_q` to `z_e` unchanged (equation 2 and the text below it).

    Shape:
        images [B, C, H, W] in [0, 1] -> reconstruction [B, C, H, W], prior logits [B, T, K], codes [B, T].

    Example:
        >>> net = VQVAE(VQVAEConfig(in_channels=1, image_size=(28, 28)))
        >>> net.grid, net(torch.zeros(2, 1, 28, 28)).codes.shape
        ((7, 7), torch.Size([2, 49]))
    """

    codebook: Tensor

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        if config.in_channels is None or config.image_size is None:
            raise ConfigError("in_channels and image_size are needed; they come from the data or are given.")
        self.config, self.codebook_size = config, config.codebook_size
        self.grid = (config.image_size[0] // 4, config.image_size[1] // 4)
        self.code_size = math.prod(self.grid)
        self.encoder = _encoder(config, config.in_channels)
        self.decoder = _decoder(config, config.in_channels)
        self.register_buffer("codebook", torch.empty(config.codebook_size, config.entry_size))
        prior = config.prior
        self.prior = GPT(
            GPTConfig(
                vocab_size=config.codebook_size + 1,  # the last token stands before the first entry
                max_seq_len=self.code_size,
                d_model=prior.d_model,
                num_layers=prior.num_layers,
                num_heads=prior.num_heads,
                dropout=prior.dropout,
            )
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. (2015) for convolutions, biases 0; entries N(0, 1); the prior its own."""
        for module in (*self.encoder.modules(), *self.decoder.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.codebook)
        self.prior.reset_parameters()

    def encode_vectors(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B T D"]:
        """`z_e(x)`, row by row."""
        return self.encoder(images).flatten(2).transpose(1, 2)

    def quantise(self, vectors: Float[Tensor, "B T D"]) -> tuple[Tensor, Tensor]:
        """`z_q` with the gradient of `z_e` [B, T, D], and its entries int64 [B, T]."""
        codes = nearest_entries(vectors.flatten(0, 1), self.codebook).view(vectors.shape[:2])
        entries = self.codebook[codes].to(vectors.dtype)
        return vectors + (entries - vectors).detach(), codes

    def decode_vectors(self, vectors: Float[Tensor, "B T D"]) -> Float[Tensor, "B C H W"]:
        """Logits of the pixels."""
        return self.decoder(vectors.transpose(1, 2).unflatten(2, self.grid))

    def encode(self, images: Float[Tensor, "B C H W"]) -> Int[Tensor, "B T"]:
        """The entry at each position, row by row."""
        return self.quantise(self.encode_vectors(images))[1]

    def decode(self, code: Int[Tensor, "B T"]) -> Float[Tensor, "B C H W"]:
        """Logits of the pixels of a grid of entries."""
        return self.decode_vectors(self.codebook[code])

    def code_logits(self, codes: Int[Tensor, "B T"]) -> Float[Tensor, "B T K"]:
        """The prior's logits of every entry given those before it."""
        start = codes.new_full((len(codes), 1), self.codebook_size)
        return self.prior(torch.cat([start, codes[:, :-1]], dim=1))[..., : self.codebook_size]

    def draw_codes(self, sample_ids: Int[Tensor, " B"], draws: Draws) -> Int[Tensor, "B T"]:
        """Grids from the prior, entry by entry; each depends on its sample id and the draws alone."""
        uniform = draws.uniform(sample_ids, (self.code_size,), "codes", torch.float64)
        cache, token = self.prior.init_cache(len(sample_ids)), sample_ids.new_full((len(sample_ids), 1), -1)
        token, found = token.fill_(self.codebook_size), list[Tensor]()
        for position in range(self.code_size):
            logits = self.prior(token, cache=cache)[:, -1, : self.codebook_size]
            cumulative = logits.double().softmax(1).cumsum(1)
            threshold = uniform[:, position, None] * cumulative[:, -1:]
            token = (cumulative <= threshold).sum(1, keepdim=True).clamp(max=self.codebook_size - 1)
            found.append(token)
        return torch.cat(found, dim=1)

    def sample_pictures(self, sample_ids: Int[Tensor, " B"], draws: Draws) -> Float[Tensor, "B C H W"]:
        """Pictures in [0, 1] of grids from the prior."""
        return torch.sigmoid(self.decode(self.draw_codes(sample_ids, draws)).float())

    def forward(self, images: Float[Tensor, "B C H W"]) -> VQVAEOutput:
        """Reconstructions, and what the prior says of the grid."""
        quantised, codes = self.quantise(self.encode_vectors(images))
        return VQVAEOutput(
            torch.sigmoid(self.decode_vectors(quantised).float()), self.code_logits(codes).float(), codes
        )


PRESETS = {
    "vq-vae": VQVAEConfig(),
    "vq-vae-tiny": VQVAEConfig(
        in_channels=1, image_size=(8, 8), hidden_channels=8, residual_channels=4, num_residual=1, codebook_size=6,
        entry_size=3, prior=PriorConfig(d_model=8, num_layers=1, num_heads=2, dropout=0.0),
    ),
}  # fmt: skip


def example_batch(config: VQVAEConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures in [0, 1]."""
    return {
        "images": torch.rand(batch_size, config.in_channels or 1, *(config.image_size or (28, 28)), generator=generator)
    }
