"""AlexNet: parity with torchvision, published sizes, response normalisation as the paper writes it."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.vision.alexnet import PRESETS, AlexNet, AlexNetConfig, ResponseNorm


def sized(preset: str) -> AlexNet:
    return AlexNet(AlexNetConfig(**{**vars(PRESETS[preset]), "num_classes": 1000, "in_channels": 3}))  # pyright: ignore


def reference(torchvision: ModuleType, channels: int, hidden: int) -> nn.Module:
    """torchvision's, with other channels, and with narrow hidden layers, which in full take most of the time."""
    network = torchvision.models.AlexNet(num_classes=7, dropout=0.0)
    network.features[0] = nn.Conv2d(channels, 64, 11, stride=4, padding=2)
    network.classifier[1] = nn.Linear(36 * 256, hidden)
    network.classifier[4] = nn.Linear(hidden, hidden)
    network.classifier[6] = nn.Linear(hidden, 7)
    return network


@pytest.mark.parametrize(
    ("dtype", "channels", "sizes"),
    [(torch.float32, 3, [(63, 63), (95, 130)]), (torch.float64, 1, [(71, 64)])],
    ids=["float32", "float64"],
)
def test_logits_equal_those_of_torchvision(
    torchvision: ModuleType,
    compare: Callable[..., None],
    dtype: torch.dtype,
    channels: int,
    sizes: list[tuple[int, int]],
) -> None:
    compare(
        lambda: AlexNet(AlexNetConfig(num_classes=7, in_channels=channels, hidden=64, dropout=0.0)),
        lambda: reference(torchvision, channels, 64),
        channels,
        sizes,
        dtype,
    )


def test_parameters_are_as_published_and_named_as_in_torchvision(torchvision: ModuleType) -> None:
    """61,100,840: torchvision's docs."""
    with torch.device("meta"):
        ours, theirs = sized("alexnet"), torchvision.models.alexnet()
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    assert sum(parameter.numel() for parameter in ours.parameters()) == 61_100_840


def test_parameters_of_the_paper_are_those_of_caffes_copy() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in sized("alexnet-2012").parameters()) == 60_965_224


def test_response_norm_is_the_formula_of_the_paper() -> None:
    """k = 2, n = 5, alpha = 1e-4, beta = 0.75, the sum over maps max(0, i - n/2) to min(N - 1, i + n/2)."""
    maps = 50 * torch.randn(2, 7, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = torch.empty_like(maps)
    for i in range(7):
        total = sum(maps[:, j].square() for j in range(max(0, i - 2), min(6, i + 2) + 1))
        wanted[:, i] = maps[:, i] / (2 + 1e-4 * total) ** 0.75
    torch.testing.assert_close(ResponseNorm()(maps), wanted, rtol=1e-10, atol=1e-10)


def tiny(**options: object) -> AlexNet:
    torch.manual_seed(0)
    return AlexNet(AlexNetConfig(**{**vars(PRESETS["alexnet-tiny"]), **options})).eval()  # pyright: ignore


def test_features_are_what_the_last_layer_sees() -> None:
    network, images = tiny(), torch.randn(2, 3, 70, 64)
    features = network.forward_features(images)
    assert features.shape == (2, network.feature_size)
    torch.testing.assert_close(network.classifier[-1](features), network(images))


def test_pyramid_has_the_channels_and_strides_that_it_names() -> None:
    network = tiny()
    maps = network.forward_pyramid(torch.randn(1, 3, 256, 224))
    assert [x.shape[1] for x in maps] == [8, 12, 8, 8] == list(network.pyramid_channels)
    for x, stride in zip(maps, network.pyramid_strides, strict=True):
        assert abs(x.shape[2] - 256 / stride) <= 1
        assert abs(x.shape[3] - 224 / stride) <= 1


def test_halves_on_two_devices_see_half_of_the_maps() -> None:
    network = tiny(groups=2, response_norm=True)
    shapes = [tuple(m.weight.shape[:2]) for m in network.features if isinstance(m, nn.Conv2d)]
    assert shapes == [(8, 3), (12, 4), (16, 12), (16, 8), (8, 8)]
    assert sum(isinstance(m, ResponseNorm) for m in network.features) == 2


def test_widths_that_do_not_split_are_refused() -> None:
    with pytest.raises(ConfigError, match="groups=3"):
        AlexNetConfig(groups=3)


def test_pictures_that_are_too_small_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"63 x 63 pixels, got 62 x 80; set data.size"):
        tiny()(torch.zeros(1, 3, 62, 80))


def test_activations_keep_their_scale_at_the_start() -> None:
    """He et al. 2015: with weights of variance 2 / fan_in the second moment stays, whatever the depth."""
    torch.manual_seed(0)
    network = AlexNet(AlexNetConfig(num_classes=5, in_channels=3, hidden=2048)).eval()
    with torch.no_grad():
        moment = network.forward_features(torch.randn(4, 3, 64, 64)).square().mean()
    assert 0.1 <= float(moment) <= 10
