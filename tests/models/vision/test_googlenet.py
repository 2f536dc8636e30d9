"""GoogLeNet: parity with torchvision, auxiliary heads included; the paper's sizes."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.vision.googlenet import PRESETS, GoogLeNet, GoogLeNetConfig, GoogLeNetOutput, Inception
from layerwise.nn.blocks import block_names


def sized(preset: str, **options: Any) -> GoogLeNetConfig:
    given = {name: value for name, value in vars(PRESETS[preset]).items() if value is not None}
    return GoogLeNetConfig(**{"num_classes": 7, "in_channels": 3, **given, **options})


def built(preset: str, **options: Any) -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(sized(preset, **options))


def reference(torchvision: ModuleType, channels: int, **options: Any) -> nn.Module:
    network = torchvision.models.GoogLeNet(num_classes=7, init_weights=False, dropout=0.0, dropout_aux=0.0, **options)
    network.conv1.conv = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize(
    ("dtype", "channels", "sizes"),
    [(torch.float32, 3, [(64, 64), (71, 83)]), (torch.float64, 1, [(97, 64)])],
    ids=["float32", "float64"],
)
def test_logits_equal_those_of_torchvision(
    torchvision: ModuleType,
    compare: Callable[..., None],
    dtype: torch.dtype,
    channels: int,
    sizes: list[tuple[int, int]],
    auxiliary: bool,
) -> None:
    """torchvision names its three results logits, aux_logits2, aux_logits1."""
    compare(
        lambda: built("googlenet", in_channels=channels, auxiliary=auxiliary, dropout=0.0, auxiliary_dropout=0.0),
        lambda: reference(torchvision, channels, aux_logits=auxiliary),
        channels,
        sizes,
        dtype,
        order=(0, 2, 1),
    )


def test_parameters_are_as_published_and_named_as_in_torchvision(torchvision: ModuleType) -> None:
    """13,004,888 with auxiliary heads and 6,624,904 without: torchvision's docs."""
    with torch.device("meta"):
        ours, alone = (built("googlenet", num_classes=1000, auxiliary=auxiliary) for auxiliary in (True, False))
        theirs = torchvision.models.GoogLeNet(init_weights=False)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    assert sum(parameter.numel() for parameter in ours.parameters()) == 13_004_888
    assert sum(parameter.numel() for parameter in alone.parameters()) == 6_624_904


def test_parameters_of_the_paper_are_those_of_caffes_copy() -> None:
    """6,998,552, of which 6,990,272 are weights; the paper's own table does not add up with its widths."""
    with torch.device("meta"):
        network = built("googlenet-2014", num_classes=1000, auxiliary=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_998_552
    assert sum(parameter.numel() for parameter in network.parameters() if parameter.dim() > 1) == 6_990_272


def test_inception_joins_its_four_branches() -> None:
    block = built("googlenet").eval().blocks[0]
    assert isinstance(block, Inception)
    x = torch.randn(2, 192, 9, 7)
    y = block(x)
    assert y.shape == (2, 256, 9, 7)
    for start, end, branch in ((0, 64, block.branch1), (64, 192, block.branch2), (192, 224, block.branch3)):
        torch.testing.assert_close(y[:, start:end], branch(x))
    torch.testing.assert_close(y[:, 224:], block.branch4(x))


def test_auxiliary_heads_speak_while_training_only() -> None:
    network = built("googlenet-tiny")
    images = torch.randn(2, 3, 64, 64)
    result = network.train()(images)
    assert isinstance(result, GoogLeNetOutput)
    assert [value.shape for value in result] == [(2, 5)] * 3
    assert isinstance(network.eval()(images), torch.Tensor)
    assert network.num_auxiliary == 2
    alone = built("googlenet-tiny", auxiliary=False)
    assert alone.num_auxiliary == 0
    assert isinstance(alone.train()(images), torch.Tensor)


def test_features_are_what_the_classifier_sees() -> None:
    network, images = built("googlenet-tiny").eval(), torch.randn(2, 3, 40, 33)
    features = network.forward_features(images)
    assert features.shape == (2, network.feature_size)
    torch.testing.assert_close(network.fc(features), network(images))


def test_pyramid_has_the_channels_and_strides_that_it_names() -> None:
    network = built("googlenet").eval()
    maps = network.forward_pyramid(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(network.pyramid_channels, network.pyramid_strides, strict=True)
    ]


def test_blocks_are_the_inception_modules() -> None:
    names = block_names(built("googlenet-tiny"))
    assert names == [f"inception{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]


def test_pictures_that_are_too_small_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"15 x 15 pixels, got 14 x 40; set data.size"):
        built("googlenet-tiny").eval()(torch.zeros(1, 3, 14, 40))
    built("googlenet-tiny").eval()(torch.zeros(1, 3, 15, 15))


def test_a_missing_module_is_refused() -> None:
    with pytest.raises(ConfigError, match="9 modules, got 1"):
        GoogLeNetConfig(inceptions=((1, 1, 1, 1, 1, 1),))
