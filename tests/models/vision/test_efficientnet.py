"""EfficientNet: parity with torchvision and timm, published sizes, both paddings."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.vision.efficientnet import PRESETS, EfficientNet, EfficientNetConfig, MBConv, SameConv2d
from layerwise.nn.blocks import block_names

# Parameters with 1,000 classes: torchvision's docs.
PUBLISHED = {
    "efficientnet_b0": 5_288_548, "efficientnet_b1": 7_794_184, "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232, "efficientnet_b4": 19_341_616, "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704, "efficientnet_b7": 66_347_960,
}  # fmt: skip


def built(preset: str, **options: Any) -> EfficientNet:
    given = {name: value for name, value in vars(PRESETS[preset]).items() if value is not None}
    torch.manual_seed(0)
    return EfficientNet(EfficientNetConfig(**{"num_classes": 7, "in_channels": 3, **given, **options}))


def from_torchvision(torchvision: ModuleType, preset: str, channels: int) -> nn.Module:
    network = getattr(torchvision.models, preset)(num_classes=7, dropout=0.0, stochastic_depth_prob=0.0)
    first = network.features[0][0]
    network.features[0][0] = nn.Conv2d(channels, first.out_channels, 3, stride=2, padding=1, bias=False)
    return network


def names_in_timm(network: EfficientNet) -> dict[str, str]:
    """Our name of each tensor -> timm's."""
    inner = {"0": "conv_pw bn1", "1": "conv_dw bn2", "2": "se se", "3": "conv_pwl bn3"}
    first = {"0": "conv_dw bn1", "1": "se se", "2": "conv_pw bn2"}  # the first stage does not expand
    last = str(len(network.features) - 1)
    found: dict[str, str] = {}
    for name in network.state_dict():
        parts = name.split(".")
        if parts[0] == "classifier":
            theirs = f"classifier.{parts[-1]}"
        elif parts[1] in ("0", last):
            conv, norm = ("conv_stem", "bn1") if parts[1] == "0" else ("conv_head", "bn2")
            theirs = f"{conv if parts[2] == '0' else norm}.{parts[-1]}"
        else:
            conv, norm = (first if parts[1] == "1" else inner)[parts[4]].split()
            layer = {"0": conv, "1": norm, "fc1": "se.conv_reduce", "fc2": "se.conv_expand"}[parts[5]]
            theirs = f"blocks.{int(parts[1]) - 1}.{parts[2]}.{layer}.{parts[-1]}"
        found[name] = theirs
    return found


CASES = pytest.mark.parametrize(
    ("dtype", "channels", "sizes"),
    [(torch.float32, 3, [(65, 48)]), (torch.float64, 4, [(33, 40)])],
    ids=["float32", "float64"],
)


@CASES
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
        lambda: built(preset, in_channels=channels, dropout=0.0, drop_path=0.0),
        lambda: from_torchvision(torchvision, preset, channels),
        channels,
        sizes,
        dtype,
    )


@CASES
@pytest.mark.parametrize("preset", ["efficientnet_b0", "efficientnet_b3", "tf_efficientnet_b0", "tf_efficientnet_b1"])
def test_logits_equal_those_of_timm(
    timm: ModuleType,
    compare: Callable[..., None],
    preset: str,
    dtype: torch.dtype,
    channels: int,
    sizes: list[tuple[int, int]],
) -> None:
    compare(
        lambda: built(preset, in_channels=channels, dropout=0.0, drop_path=0.0, momentum=0.1),
        lambda: timm.create_model(preset, num_classes=7, in_chans=channels),
        channels,
        sizes,
        dtype,
        names=names_in_timm(built(preset, in_channels=channels)),
    )


@pytest.mark.parametrize("preset", PUBLISHED)
def test_parameters_are_as_published_and_named_as_in_torchvision(torchvision: ModuleType, preset: str) -> None:
    with torch.device("meta"):
        ours = built(preset, num_classes=1000)
        theirs = getattr(torchvision.models, preset)()
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    assert sum(parameter.numel() for parameter in ours.parameters()) == PUBLISHED[preset]


@pytest.mark.parametrize("preset", PUBLISHED)
def test_constants_that_weights_do_not_carry_are_those_of_torchvision(torchvision: ModuleType, preset: str) -> None:
    with torch.device("meta"):
        pair = built(preset), getattr(torchvision.models, preset)()
    for kind, field in ((nn.BatchNorm2d, "eps"), (nn.BatchNorm2d, "momentum"), (nn.Dropout, "p")):
        ours, theirs = ([getattr(m, field) for m in network.modules() if isinstance(m, kind)] for network in pair)
        assert ours == theirs


@pytest.mark.parametrize(
    ("size", "stride", "kernel"), [(8, 2, 3), (9, 2, 3), (8, 2, 5), (7, 2, 5), (5, 1, 3), (6, 3, 2)]
)
def test_same_padding_has_its_odd_pixel_on_the_right(size: int, stride: int, kernel: int) -> None:
    """ceil(size / stride) positions, of which the i-th sees pixels from i stride - floor(total / 2) on."""
    conv = SameConv2d(1, 1, (1, kernel), stride=(1, stride), bias=False).double()
    x = torch.randn(1, 1, 1, size, dtype=torch.float64)
    count = math.ceil(size / stride)
    left = max(0, (count - 1) * stride + kernel - size) // 2
    weight = conv.weight.detach()[0, 0, 0]
    wanted = [
        sum(
            float(weight[k] * x[0, 0, 0, i * stride - left + k])
            for k in range(kernel)
            if 0 <= i * stride - left + k < size
        )
        for i in range(count)
    ]
    torch.testing.assert_close(conv(x)[0, 0, 0], torch.tensor(wanted, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_widths_are_rounded_to_eight_and_never_down_by_more_than_a_tenth() -> None:
    """B2's stem: 32 x 1.1 = 35.2 -> 32; 24 x 1.1 = 26.4 -> 24; 40 x 1.1 = 44 -> 48; 10 would lose a fifth as 8."""
    config = EfficientNetConfig(width=1.1)
    assert [config.channels(n) for n in (32, 24, 40)] == [32, 24, 48]
    assert EfficientNetConfig(width=0.25).channels(40) == 16


def test_squeeze_and_excitation_scales_each_map_by_what_all_maps_say() -> None:
    block = built("efficientnet_b0").eval().blocks[1]
    assert isinstance(block, MBConv)
    squeeze, x = block.block[2], torch.randn(2, 96, 4, 3)
    means = x.mean((2, 3))
    inner = F.silu(means @ squeeze.fc1.weight.flatten(1).T + squeeze.fc1.bias)
    scale = torch.sigmoid(inner @ squeeze.fc2.weight.flatten(1).T + squeeze.fc2.bias)
    assert squeeze.fc1.out_channels == 4  # a quarter of the maps that come into the block
    torch.testing.assert_close(squeeze(x), x * scale[:, :, None, None])


def test_blocks_with_a_shortcut_are_those_that_keep_the_shape() -> None:
    blocks = [block for block in built("efficientnet_b0").blocks if isinstance(block, MBConv)]
    assert [block.has_shortcut for block in blocks] == [
        depth > 0 for stage in (1, 2, 2, 3, 3, 4, 1) for depth in range(stage)
    ]
    assert [block.drop_path.rate for block in blocks] == pytest.approx([0.2 * i / 15 for i in range(16)])


@pytest.mark.parametrize("preset", ["efficientnet_b0", "tf_efficientnet_b0"])
def test_pyramid_has_the_channels_and_strides_that_it_names(preset: str) -> None:
    network = built(preset).eval()
    maps = network.forward_pyramid(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(network.pyramid_channels, network.pyramid_strides, strict=True)
    ]
    assert network.pyramid_strides == (2, 4, 8, 16, 32)
    assert network.pyramid_channels == (16, 24, 40, 112, 320)


def test_features_are_what_the_classifier_sees() -> None:
    network, images = built("efficientnet-tiny").eval(), torch.randn(2, 3, 40, 33)
    features = network.forward_features(images)
    assert features.shape == (2, network.feature_size)
    torch.testing.assert_close(network.classifier(features), network(images))


def test_blocks_are_named_first_to_last() -> None:
    assert block_names(built("efficientnet_b0"))[:4] == ["features.1.0", "features.2.0", "features.2.1", "features.3.0"]


def test_initial_weights_are_drawn_by_the_connections_of_each_group() -> None:
    """The authors' rule: a depthwise 5 x 5 filter has 25 outgoing connections, variance 2 / 25."""
    depthwise = [m for m in built("efficientnet_b0").modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    for conv in depthwise:
        wanted = math.sqrt(2 / math.prod(conv.kernel_size))
        error = 5 * wanted / math.sqrt(2 * conv.weight.numel())  # five standard errors
        assert float(conv.weight.detach().square().mean().sqrt()) == pytest.approx(wanted, abs=error)


def test_no_stage_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        EfficientNetConfig(stages=())
