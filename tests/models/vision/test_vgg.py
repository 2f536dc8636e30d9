"""VGG: parity with torchvision, published sizes."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.vision.vgg import PRESETS, VGG, VGGConfig

# Parameters with 1,000 classes: torchvision's docs.
PUBLISHED = {
    "vgg11": 132_863_336, "vgg13": 133_047_848, "vgg16": 138_357_544, "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840, "vgg13_bn": 133_053_736, "vgg16_bn": 138_365_992, "vgg19_bn": 143_678_248,
}  # fmt: skip


def sized(preset: str, **options: object) -> VGGConfig:
    return VGGConfig(**{**vars(PRESETS[preset]), **options})  # pyright: ignore


def reference(torchvision: ModuleType, preset: str, channels: int, hidden: int) -> nn.Module:
    """torchvision's, with other channels, and with narrow hidden layers, which in full take most of the time."""
    network = getattr(torchvision.models, preset)(num_classes=7, dropout=0.0)
    network.features[0] = nn.Conv2d(channels, 64, 3, padding=1)
    network.classifier[0] = nn.Linear(49 * 512, hidden)
    network.classifier[3] = nn.Linear(hidden, hidden)
    network.classifier[6] = nn.Linear(hidden, 7)
    return network


@pytest.mark.parametrize(
    ("dtype", "channels", "sizes"),
    [(torch.float32, 3, [(32, 32), (47, 65)]), (torch.float64, 1, [(39, 32)])],
    ids=["float32", "float64"],
)
@pytest.mark.parametrize("preset", PUBLISHED)
def test_logits_equal_those_of_torchvision(
    torchvision: ModuleType,
    compare: Callable[..., None],
    preset: str,
    dtype: torch.dtype,
    channels: int,
    sizes: list[tuple[int, int]],
) -> None:
    compare(
        lambda: VGG(sized(preset, num_classes=7, in_channels=channels, hidden=32, dropout=0.0)),
        lambda: reference(torchvision, preset, channels, 32),
        channels,
        sizes,
        dtype,
    )


@pytest.mark.parametrize("preset", PUBLISHED)
def test_parameters_are_as_published_and_named_as_in_torchvision(torchvision: ModuleType, preset: str) -> None:
    with torch.device("meta"):
        ours = VGG(sized(preset, num_classes=1000, in_channels=3)).state_dict()
        network = getattr(torchvision.models, preset)()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    assert (
        sum(value.numel() for name, value in ours.items() if "running" not in name and "num_b" not in name)
        == (PUBLISHED[preset])
    )


def tiny(**options: object) -> VGG:
    torch.manual_seed(0)
    return VGG(sized("vgg-tiny", **options)).eval()


def test_features_are_what_the_last_layer_sees() -> None:
    network, images = tiny(), torch.randn(2, 3, 50, 32)
    features = network.forward_features(images)
    assert features.shape == (2, network.feature_size)
    torch.testing.assert_close(network.classifier[-1](features), network(images))


def test_pyramid_has_the_channels_and_strides_that_it_names() -> None:
    network = tiny()
    maps = network.forward_pyramid(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(network.pyramid_channels, network.pyramid_strides, strict=True)
    ]
    assert network.pyramid_strides == (1, 2, 4, 8, 16, 32)


def test_norms_may_be_swapped() -> None:
    kinds = {type(module) for module in tiny(norm="group_norm", num_groups=4).features}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


def test_pictures_that_are_too_small_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"32 x 32 pixels, got 40 x 31; set data.size"):
        tiny()(torch.zeros(1, 3, 40, 31))
