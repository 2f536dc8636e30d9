"""ViT, the vision transformer: a picture is cut into patches, and a plain transformer encoder reads them as words.

Paper: A. Dosovitskiy, L. Beyer, A. Kolesnikov, D. Weissenborn, X. Zhai, T. Unterthiner, M. Dehghani, M. Minderer, G.
Heigold, S. Gelly, J. Uszkoreit, N. Houlsby, "An image is worth 16x16 words: transformers for image recognition at
scale", ICLR 2021. https://arxiv.org/abs/2010.11929
Reference code: google-research/vision_transformer. State-dict names: timm's `vit_*_patch*`. The sizes tiny and small
are those of Touvron et al. 2020 (DeiT, https://arxiv.org/abs/2012.12877).

Differs from the paper: the classifier is one linear layer, as in every published fine-tuned checkpoint (in pre-training
the paper has a hidden layer with tanh before it); stochastic depth (Huang et al. 2016) may be asked for.

Shapes: B batch, C channels, H W height and width, P patch size, h = H / P and w = W / P, N = h w patches, T = N + 1
tokens, D width, A heads, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PictureSize, PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.attention import merge_heads, split_heads
from layerwise.nn.drop_path import DropPath, drop_path_rates
from layerwise.nn.init import Init, initialise
from layerwise.ops.attention import attention, plain_attention

CARD = Card(
    title="Vision transformer",
    authors="Alexey Dosovitskiy, Lucas Beyer, Alexander Kolesnikov and others",
    paper="An image is worth 16x16 words: transformers for image recognition at scale",
    year=2020,
    link="https://arxiv.org/abs/2010.11929",
    inputs={"images": "float [B, in_channels, H, W], H and W multiples of patch_size"},
    outputs={"logits": "float [B, num_classes]"},
    differences=("The classifier is one linear layer, as in the published fine-tuned checkpoints.",),
    capabilities=("differentiable", "features"),
    published={
        "vit*_384": {"num_classes": 1000, "in_channels": 3, "image_size": 384},
        "*": {"num_classes": 1000, "in_channels": 3, "image_size": 224},
    },
)


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Sizes of a ViT; the defaults are ViT-B/16.

    Args:
        num_classes: classes of the head; None takes the data's.
        in_channels: channels of the pictures; None takes the data's.
        image_size: height and width that position embeddings are learned for; pictures of other sizes interpolate
            them. None takes the data's.
        patch_size: side of a patch; height and width of pictures must be multiples of it.
        d_model: width.
        num_layers: blocks.
        num_heads: attention heads a block; divides `d_model`.
        d_ff: width inside the feed-forward part; None means 4 * d_model.
        qkv_bias: queries, keys and values have a bias.
        eps: of the layer norms.
        dropout: probability of dropping an embedding or a branch's output in training.
        attention_dropout: probability of dropping an attention weight in training.
        drop_path: rate of stochastic depth of the last block; it grows linearly from 0 at the first.
    """

    num_classes: PositiveInt | None = None
    in_channels: PositiveInt | None = None
    image_size: PictureSize | None = (224, 224)
    patch_size: PositiveInt = 16
    d_model: PositiveInt = 768
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    d_ff: PositiveInt | None = None
    qkv_bias: bool = True
    eps: PositiveFloat = 1e-6
    dropout: Probability = 0.0
    attention_dropout: Probability = 0.0
    drop_path: Probability = 0.0

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ConfigError(f"num_heads={self.num_heads} must divide d_model={self.d_model}")
        if self.image_size is not None and any(side % self.patch_size for side in self.image_size):
            raise ConfigError(
                f"image_size={self.image_size}: height and width must be multiples of patch_size={self.patch_size}."
            )


class PatchEmbed(nn.Module):
    """Each patch of P x P pixels through one linear map (a convolution with stride P)."""

    def __init__(self, in_channels: int, d_model: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, d_model, patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ConfigError(
                f"pictures of {height} x {width} pixels do not divide into patches of {self.patch_size}: choose a size "
                "that is a multiple of it."
            )
        return self.proj(images)


class Attention(nn.Module):
    """Self-attention with queries, keys and values from one matrix."""

    def __init__(self, d_model: int, num_heads: int, *, qkv_bias: bool, dropout: float, weight_dropout: float) -> None:
        super().__init__()
        self.num_heads, self.weight_dropout = num_heads, weight_dropout
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=qkv_bias)
        self.proj = nn.Linear(d_model, d_model)
        self.drop = nn.Dropout(dropout)

    def heads(self, x: Float[Tensor, "B T D"]) -> Iterator[Tensor]:
        """Queries, keys and values [B, A, T, D / A]."""
        return (split_heads(part, self.num_heads) for part in self.qkv(x).chunk(3, dim=-1))

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        q, k, v = self.heads(x)
        mixed = attention(q, k, v, dropout=self.weight_dropout if self.training else 0.0)
        return self.drop(self.proj(merge_heads(mixed)))


class MLP(nn.Module):
    """fc2(gelu(fc1(x))), with dropout after each."""

    def __init__(self, d_model: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(d_model, d_ff)
        self.fc2 = nn.Linear(d_ff, d_model)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))


class Block(nn.Module):
    """z' = z + attn(norm1(z)), z'' = z' + mlp(norm2(z')) (equations 2 and 3)."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        width = config.d_model
        self.norm1 = nn.LayerNorm(width, eps=config.eps)
        self.attn = Attention(
            width,
            config.num_heads,
            qkv_bias=config.qkv_bias,
            dropout=config.dropout,
            weight_dropout=config.attention_dropout,
        )
        self.norm2 = nn.LayerNorm(width, eps=config.eps)
        self.mlp = MLP(width, config.d_ff or 4 * width, config.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """Class logits from the class token after the last block.

    z_0 = [cls; x_1 E; ...; x_N E] + positions, z_l = Block_l(z_{l-1}), logits = head(norm(z_L)_0) (equations 1 to 4).

    Args:
        config: sizes; `num_classes`, `in_channels` and `image_size` must be set.

    Shape:
        images [B, in_channels, H, W] -> logits [B, num_classes]; features are [B, D].

    Raises:
        ConfigError: a size that only the data knows is not set.

    Example:
        >>> net = ViT(ViTConfig(num_classes=5, in_channels=3, patch_size=32, d_model=8, num_layers=1, num_heads=2))
        >>> net(torch.zeros(2, 3, 64, 96)).shape
        torch.Size([2, 5])
    """

    pyramid_channels: tuple[int, ...]
    pyramid_strides: tuple[int, ...]

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        if config.num_classes is None or config.in_channels is None or config.image_size is None:
            raise ConfigError(
                "num_classes, in_channels and image_size are needed to build a ViT; they come from the data or are "
                "given."
            )
        self.config, self.feature_size, width = config, config.d_model, config.d_model
        self.grid = (config.image_size[0] // config.patch_size, config.image_size[1] // config.patch_size)
        self.pyramid_channels, self.pyramid_strides = (width,), (config.patch_size,)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid[0] * self.grid[1], width))
        self.patch_embed = PatchEmbed(config.in_channels, width, config.patch_size)
        self.pos_drop = nn.Dropout(config.dropout)
        rates = drop_path_rates(config.drop_path, config.num_layers)
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.head = nn.Linear(width, config.num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal of deviation 0.02 cut at two deviations for matrices and positions, as in the reference code's linear
        layers up to scale; the classifier starts at zero (the paper's appendix B.1.1 for fine-tuning).
        """
        initialise(
            self,
            {
                "head.*": Init("zeros"),
                "*.bias": Init("zeros"),
                "*norm*.weight": Init("ones"),
                "cls_token": Init("normal", 1e-6),
                "*": Init("truncated_normal", 0.02),
            },
        )

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens with positions, and the grid of patches."""
        patches = self.patch_embed(images)
        grid = (patches.shape[2], patches.shape[3])
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        return self.pos_drop(tokens + resample_positions(self.pos_embed, self.grid, grid)), grid

    def _tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        x, grid = self._embed(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x), grid

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The class token after the last block and norm."""
        return self._tokens(images)[0][:, 0]

    def forward_pyramid(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """One map [B, D, h, w]: the patches after the last block and norm."""
        x, grid = self._tokens(images)
        return [x[:, 1:].transpose(1, 2).unflatten(2, grid)]

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.head(self.forward_features(images))

    def attention_maps(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "L B A T T"]:
        """Attention weights of every block and head; row t says what token t reads, token 0 is the class token."""
        x, _ = self._embed(images)
        maps: list[Tensor] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            q, k, v = block.attn.heads(block.norm1(x))
            maps.append(plain_attention(q, k, v)[1])
            x = block(x)
        return torch.stack(maps)

    def resample(self, name: str, weight: Tensor) -> Tensor | None:
        """A checkpoint's tensor brought to this network's input size: its positions; None for all other names."""
        side = int(weight.shape[1] - 1) ** 0.5 if name == "pos_embed" and weight.dim() == 3 else 0.5
        if side != int(side) or weight.shape[2] != self.config.d_model:
            return None
        return resample_positions(weight, (int(side), int(side)), self.grid)


def resample_positions(
    positions: Float[Tensor, "1 T D"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "1 S D"]:
    """Position embeddings of a grid of patches as those of another one: bicubic with antialiasing, the class token's
    as it is.

    Args:
        positions: the class token's, then those of the patches row by row.
        old, new: rows and columns of patches.
    """
    if old == new:
        return positions
    first, rest = positions[:, :1], positions[:, 1:]
    wide = torch.promote_types(rest.dtype, torch.float32)
    maps = rest.to(wide).transpose(1, 2).unflatten(2, old)
    maps = F.interpolate(maps, size=new, mode="bicubic", antialias=True)
    return torch.cat([first, maps.flatten(2).transpose(1, 2).to(rest.dtype)], dim=1)


PRESETS = {
    "vit_tiny_patch16_224": ViTConfig(d_model=192, num_heads=3),
    "vit_tiny_patch16_384": ViTConfig(d_model=192, num_heads=3, image_size=(384, 384)),
    "vit_small_patch16_224": ViTConfig(d_model=384, num_heads=6),
    "vit_small_patch16_384": ViTConfig(d_model=384, num_heads=6, image_size=(384, 384)),
    "vit_small_patch32_224": ViTConfig(d_model=384, num_heads=6, patch_size=32),
    "vit_base_patch16_224": ViTConfig(),
    "vit_base_patch16_384": ViTConfig(image_size=(384, 384)),
    "vit_base_patch32_224": ViTConfig(patch_size=32),
    "vit_base_patch32_384": ViTConfig(patch_size=32, image_size=(384, 384)),
    "vit_base_patch8_224": ViTConfig(patch_size=8),
    "vit_large_patch16_224": ViTConfig(d_model=1024, num_layers=24, num_heads=16),
    "vit_large_patch16_384": ViTConfig(d_model=1024, num_layers=24, num_heads=16, image_size=(384, 384)),
    "vit_large_patch32_224": ViTConfig(d_model=1024, num_layers=24, num_heads=16, patch_size=32),
    "vit_large_patch32_384": ViTConfig(d_model=1024, num_layers=24, num_heads=16, patch_size=32, image_size=(384, 384)),
    "vit_huge_patch14_224": ViTConfig(d_model=1280, num_layers=32, num_heads=16, patch_size=14),
    "vit-tiny": ViTConfig(
        num_classes=5, in_channels=3, image_size=(32, 32), patch_size=8, d_model=32, num_layers=2, num_heads=2
    ),
}


def example_batch(config: ViTConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random pictures of the size that positions are learned for."""
    height, width = config.image_size or (2 * config.patch_size, 2 * config.patch_size)
    return {"images": torch.randn(batch_size, config.in_channels or 3, height, width, generator=generator)}
