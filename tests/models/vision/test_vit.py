"""ViT: parity with timm, torchvision and transformers, published sizes, positions of other input sizes."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.vision.vit import PRESETS, Block, ViT, ViTConfig, resample_positions

# Parameters with 1,000 classes, in millions: table 1 of the paper and timm's results table.
PUBLISHED = {
    "vit_tiny_patch16_224": 5.717, "vit_small_patch16_224": 22.051, "vit_base_patch16_224": 86.568,
    "vit_base_patch32_224": 88.224, "vit_large_patch16_224": 304.327, "vit_huge_patch14_224": 632.046,
}  # fmt: skip
SMALL = {"d_model": 32, "num_layers": 2, "num_heads": 4, "patch_size": 8, "num_classes": 7}


def built(**options: Any) -> ViT:
    return ViT(ViTConfig(**{"in_channels": 3, "image_size": (40, 40), **SMALL, **options}))


@pytest.mark.parametrize("preset", PUBLISHED)
def test_parameters_are_as_published_and_named_as_in_timm(timm: ModuleType, preset: str) -> None:
    config = PRESETS[preset]
    with torch.device("meta"):
        ours = ViT(ViTConfig(**{**vars(config), "num_classes": 1000, "in_channels": 3}))
        theirs = timm.create_model(preset, num_classes=1000)
    assert sum(p.numel() for p in ours.parameters()) / 1e6 == pytest.approx(PUBLISHED[preset], abs=6e-4)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }


@pytest.mark.parametrize(
    ("dtype", "channels", "size", "options"),
    [
        (torch.float32, 3, (40, 24), {}),
        (torch.float64, 4, (24, 40), {}),
        (torch.float64, 3, (24, 24), {"qkv_bias": False}),
    ],
    ids=["float32", "float64", "no-bias"],
)
def test_logits_equal_those_of_timm(
    timm: ModuleType,
    compare: Callable[..., None],
    dtype: torch.dtype,
    channels: int,
    size: tuple[int, int],
    options: dict[str, Any],
) -> None:
    def theirs() -> nn.Module:
        return timm.create_model(
            "vit_base_patch16_224", img_size=size, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=7,
            in_chans=channels, **options,
        )  # fmt: skip

    compare(lambda: built(in_channels=channels, image_size=size, **options), theirs, channels, [size], dtype)


def test_pictures_of_other_sizes_give_the_logits_of_timm(timm: ModuleType, compare: Callable[..., None]) -> None:
    """float32: timm interpolates positions in it whatever the network's type."""

    def theirs() -> nn.Module:
        return timm.create_model(
            "vit_base_patch16_224", img_size=40, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=7,
            dynamic_img_size=True,
        )  # fmt: skip

    compare(built, theirs, 3, [(40, 40), (64, 24), (16, 104)], torch.float32)


def test_dropout_and_stochastic_depth_act_in_training_only() -> None:
    torch.manual_seed(0)
    network, images = built(dropout=0.3, attention_dropout=0.3, drop_path=0.5), torch.randn(4, 3, 40, 40)
    nn.init.normal_(network.head.weight)
    assert torch.equal(network.eval()(images), network(images))
    assert not torch.equal(network.train()(images), network(images))
    rates = [block.drop_path.rate for block in network.blocks if isinstance(block, Block)]
    assert rates == [0.0, 0.5]


def test_positions_are_interpolated_as_pictures_are() -> None:
    """The class token's embedding stays; the others equal torch's antialiased bicubic resizing of the grid."""
    positions = torch.randn(1, 1 + 6, 5, dtype=torch.float64)
    grid = positions[0, 1:].T.reshape(1, 5, 2, 3)
    wanted = F.interpolate(grid, size=(5, 4), mode="bicubic", antialias=True)[0].reshape(5, 20).T
    found = resample_positions(positions, (2, 3), (5, 4))
    assert torch.equal(found[0, 0], positions[0, 0])
    torch.testing.assert_close(found[0, 1:], wanted, rtol=1e-12, atol=1e-12)


def test_attention_maps_are_what_the_blocks_attend_by() -> None:
    """Rows sum to one, and the maps rebuild the first block's output."""
    torch.manual_seed(0)
    network, images = built().double().eval(), torch.randn(2, 3, 40, 24, dtype=torch.float64)
    maps = network.attention_maps(images)
    assert maps.shape == (2, 2, 4, 16, 16)
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps.sum(-1)))
    block = network.blocks[0]
    assert isinstance(block, Block)
    x = torch.cat([network.cls_token.expand(2, -1, -1), network.patch_embed(images).flatten(2).mT], 1)
    x = x + resample_positions(network.pos_embed, (5, 5), (5, 3))
    value = block.attn.qkv(block.norm1(x))[..., 64:].unflatten(-1, (4, 8)).transpose(1, 2)
    mixed = block.attn.proj((maps[0] @ value).transpose(1, 2).flatten(2))
    wanted = x + mixed
    torch.testing.assert_close(block(x), wanted + block.mlp(block.norm2(wanted)), rtol=1e-10, atol=1e-10)


def test_pyramid_is_the_grid_of_patches() -> None:
    network = built().eval()
    (maps,) = network.forward_pyramid(torch.randn(2, 3, 40, 24))
    assert maps.shape == (2, *network.pyramid_channels, 40 // network.pyramid_strides[0], 24 // 8)


def test_sizes_that_do_not_divide_into_patches_are_refused() -> None:
    with pytest.raises(ConfigError, match="30 x 40"):
        built()(torch.zeros(1, 3, 30, 40))
    with pytest.raises(ConfigError, match="image_size"):
        ViTConfig(image_size=(225, 224))
    with pytest.raises(ConfigError, match="num_heads=5"):
        ViTConfig(num_heads=5)
