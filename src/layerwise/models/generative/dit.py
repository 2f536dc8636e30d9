"""DiT: a diffusion model that is a transformer over patches.

Paper: W. Peebles, S. Xie, "Scalable diffusion models with transformers", ICCV 2023. https://arxiv.org/abs/2212.09748
(section 3.2; adaLN-Zero).
Reference code: the authors' https://github.com/facebookresearch/DiT, whose names the weights have.

Differs from the paper: predicts no variance unless `learned_variance` is set, as in the published checkpoints.

Shapes: B batch, C channels, H W height and width, T patches, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PictureSize, PositiveFloat, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.attention import merge_heads, split_heads
from layerwise.nn.init import Init, initialise
from layerwise.nn.pixel_space import PixelSpace
from layerwise.nn.timestep_embedding import sinusoidal_embedding
from layerwise.ops.attention import attention

CARD = Card(
    title="DiT",
    authors="William Peebles, Saining Xie",
    paper="Scalable diffusion models with transformers",
    year=2023,
    link="https://arxiv.org/abs/2212.09748",
    inputs={
        "images": "float [B, in_channels, H, W], noisy; H and W are multiples of patch_size",
        "timesteps": "float [B], 0 is without noise",
        "labels": "int64 [B], below num_classes, or num_classes for no class; left out without classes",
    },
    outputs={
        "prediction": "float [B, in_channels, H, W] of the noise, the picture or the velocity, as trained, or "
        "[B, 2 in_channels, H, W] with learned_variance"
    },
    differences=("Predicts no variance unless learned_variance is set.",),
    capabilities=("differentiable", "generates"),
    published={"dit-*": {"in_channels": 4, "num_classes": 1000}},
)

_WAVES = 256  # width of the sinusoids of the time


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Sizes of a DiT; the defaults are DiT-XL/2's for pictures of 256 x 256 pixels.

    Args:
        in_channels: channels of what is denoised; None takes the data's.
        num_classes: classes that it can be told; 0: none; None takes the data's.
        null_class: one more class, the last, says "any".
        image_size: height and width of what is denoised; None takes the data's. Others stretch the positions.
        patch_size: side of a patch.
        d_model: width.
        num_layers: blocks.
        num_heads: attention heads; divides `d_model`.
        learned_variance: twice as many output channels, the second half for the variance.
        eps: of the norm before each feed-forward part; that before attention has 1e-6.
        freq_shift: form of the sinusoids of the time; diffusers has 1.
    """

    in_channels: PositiveInt | None = None
    num_classes: NonNegativeInt | None = None
    null_class: bool = True
    image_size: PictureSize | None = None
    patch_size: PositiveInt = 2
    d_model: PositiveInt = 1152
    num_layers: PositiveInt = 28
    num_heads: PositiveInt = 16
    learned_variance: bool = False
    eps: PositiveFloat = 1e-6
    freq_shift: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads or self.d_model % 4:
            raise ConfigError(f"num_heads={self.num_heads} and 4 must divide d_model={self.d_model}.")
        if self.image_size is not None and any(side % self.patch_size for side in self.image_size):
            raise ConfigError(
                f"image_size={self.image_size}: height and width must be multiples of patch_size={self.patch_size}."
            )


class PatchEmbed(nn.Module):
    """Each patch through one linear map."""

    def __init__(self, in_channels: int, d_model: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, d_model, patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B T D"]:
        return self.proj(images).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """Sinusoids of the time, linear map, SiLU, linear map."""

    def __init__(self, d_model: int, freq_shift: int) -> None:
        super().__init__()
        self.freq_shift = freq_shift
        self.mlp = nn.Sequential(nn.Linear(_WAVES, d_model), nn.SiLU(), nn.Linear(d_model, d_model))

    def forward(self, timesteps: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        waves = sinusoidal_embedding(timesteps, _WAVES, cosine_first=True, freq_shift=self.freq_shift)
        first: Any = self.mlp[0]
        return self.mlp(waves.to(first.weight.dtype))


class LabelEmbedder(nn.Module):
    """A vector for each class and, last, one for none."""

    def __init__(self, rows: int, d_model: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(rows, d_model)

    def forward(self, labels: Int64[Tensor, " B"]) -> Float[Tensor, "B D"]:
        return self.embedding_table(labels)


class Attention(nn.Module):
    """Self-attention with queries, keys and values from one matrix."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.proj = nn.Linear(d_model, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(merge_heads(attention(q, k, v)))


class MLP(nn.Module):
    """fc2(gelu(fc1(x))) with the tanh form of GELU."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(d_model, 4 * d_model)
        self.fc2 = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    """`x + g a(norm(x) (1 + s) + b)` for attention and feed-forward, with g, s, b from time and class (adaLN-Zero)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.d_model
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, config.num_heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=config.eps)
        self.mlp = MLP(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Float[Tensor, "B T D"], condition: Float[Tensor, "B D"]) -> Float[Tensor, "B T D"]:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.adaLN_modulation(condition).chunk(6, dim=1)
        x = x + gate_1[:, None] * self.attn(_modulate(self.norm1(x), shift_1, scale_1))
        return x + gate_2[:, None] * self.mlp(_modulate(self.norm2(x), shift_2, scale_2))


class FinalLayer(nn.Module):
    """Norm, scaled and shifted by time and class, and a linear map to the pixels of each patch."""

    def __init__(self, d_model: int, out_features: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(d_model, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(d_model, out_features)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(d_model, 2 * d_model))

    def forward(self, x: Float[Tensor, "B T D"], condition: Float[Tensor, "B D"]) -> Float[Tensor, "B T O"]:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=1)
        return self.linear(_modulate(self.norm_final(x), shift, scale))


def sinusoidal_positions(d_model: int, grid: tuple[int, int], base: int, device: torch.device) -> Float[Tensor, "T D"]:
    """Fixed positions of a grid of patches: the first half of the width for the column, the second for the row.

    Args:
        d_model: a multiple of 4.
        grid: rows and columns; each is stretched to the range 0 .. base.
        base: rows of the grid that the network was made for.
        device: where to make them.
    """
    rate = torch.arange(d_model // 4, dtype=torch.float64, device=device) / (d_model // 4)
    rows, columns = (torch.arange(n, dtype=torch.float32, device=device) / (n / base) for n in grid)
    parts = [torch.outer(places.double(), 10_000.0**-rate) for places in (columns, rows)]
    column, row = (torch.cat([part.sin(), part.cos()], dim=1) for part in parts)
    return torch.cat([column.repeat(grid[0], 1), row.repeat_interleave(grid[1], 0)], dim=1).float()


class DiT(PixelSpace, nn.Module):
    """What noisy patches, their time and class say of noise and picture.

    Args:
        config: sizes; `in_channels`, `num_classes` and `image_size` must be set.

    Shape:
        images [B, in_channels, H, W], timesteps [B], labels [B] -> [B, in_channels, H, W], with learned_variance
        [B, 2 in_channels, H, W].

    Raises:
        ConfigError: a size that only the data knows is not set.

    Example:
        >>> net = DiT(PRESETS["dit-tiny"])
        >>> net(torch.randn(2, 1, 8, 8), torch.full((2,), 10.0), torch.full((2,), 3)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        if config.in_channels is None or config.num_classes is None or config.image_size is None:
            raise ConfigError(
                "in_channels, num_classes and image_size are needed to build a DiT; they come from the data or are "
                "given (num_classes=0 for none)."
            )
        self.config, self.in_channels, self.num_classes = config, config.in_channels, config.num_classes
        self.null_class = config.null_class
        self.base = config.image_size[0] // config.patch_size
        self.x_embedder = PatchEmbed(config.in_channels, config.d_model, config.patch_size)
        self.t_embedder = TimestepEmbedder(config.d_model, config.freq_shift)
        rows = config.num_classes + config.null_class
        self.y_embedder = LabelEmbedder(rows, config.d_model) if config.num_classes else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        out_channels = config.in_channels * (1 + config.learned_variance)
        self.final_layer = FinalLayer(config.d_model, config.patch_size**2 * out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot uniform; time and class normal of deviation 0.02; zero for all modulations and the last map, so that
        every block starts as the identity (the reference code's `initialize_weights`).
        """
        rules = {
            "*.bias": Init("zeros"),
            "*.adaLN_modulation.1.weight": Init("zeros"),
            "final_layer.linear.weight": Init("zeros"),
            "t_embedder.*": Init("normal", 0.02),
        }
        if self.y_embedder is not None:
            rules["y_embedder.*"] = Init("normal", 0.02)
        initialise(self, {**rules, "*": Init("glorot_uniform")})

    def _embed(self, timesteps: Tensor, labels: Tensor | None) -> Tensor:
        time = self.t_embedder(timesteps)
        if self.y_embedder is None:
            if labels is not None:
                raise ConfigError("labels were given to a network without classes.")
            return time
        if labels is None:
            if not self.config.null_class:
                raise ConfigError("this network needs labels: it was made without a class for none.")
            labels = torch.full(timesteps.shape, self.num_classes, device=timesteps.device)
        return time + self.y_embedder(labels)

    def forward(
        self,
        images: Float[Tensor, "B C H W"],
        timesteps: Float[Tensor, " B"],
        labels: Int64[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B O H W"]:
        """The prediction; labels left out mean no class."""
        side, (height, width) = self.config.patch_size, images.shape[-2:]
        if height % side or width % side:
            raise ConfigError(f"{height} x {width} do not divide into patches of {side}: choose a multiple of it.")
        grid = (height // side, width // side)
        tokens = self.x_embedder(images)
        tokens = tokens + sinusoidal_positions(self.config.d_model, grid, self.base, images.device).to(tokens.dtype)
        condition = self._embed(timesteps, labels)
        for block in self.blocks:
            tokens = block(tokens, condition)
        pixels = self.final_layer(tokens, condition).unflatten(2, (side, side, -1)).unflatten(1, grid)
        return torch.einsum("bhwpqc->bchpwq", pixels).flatten(4, 5).flatten(2, 3)


PRESETS = {
    "dit-xl-2": DiTConfig(image_size=(32, 32), learned_variance=True),
    "dit-l-2": DiTConfig(image_size=(32, 32), learned_variance=True, d_model=1024, num_layers=24),
    "dit-b-2": DiTConfig(image_size=(32, 32), learned_variance=True, d_model=768, num_layers=12, num_heads=12),
    "dit-s-2": DiTConfig(image_size=(32, 32), learned_variance=True, d_model=384, num_layers=12, num_heads=6),
    "dit-mini": DiTConfig(patch_size=4, d_model=192, num_layers=6, num_heads=3),
    "dit-tiny": DiTConfig(
        in_channels=1, num_classes=5, image_size=(8, 8), d_model=16, num_layers=2, num_heads=2
    ),
}  # fmt: skip


def example_batch(config: DiTConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Noise of the size that the network is made for, at random times, of random classes."""
    height, width = config.image_size or (4 * config.patch_size,) * 2
    batch = {
        "images": torch.randn(batch_size, config.in_channels or 4, height, width, generator=generator),
        "timesteps": 1000 * torch.rand(batch_size, generator=generator),
    }
    if config.num_classes:
        batch["labels"] = torch.randint(config.num_classes, (batch_size,), generator=generator)
    return batch
