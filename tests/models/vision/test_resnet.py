"""ResNet: parity with torchvision and timm, published sizes, shortcuts, the plain networks."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.vision.resnet import (
    PRESETS,
    BasicBlock,
    Bottleneck,
    PaddingShortcut,
    PlainBlock,
    ResNet,
    ResNetConfig,
)
from layerwise.nn.blocks import block_names

# Parameters with 1,000 classes: torchvision's docs.
PUBLISHED = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032,
    "resnet101": 44_549_160, "resnet152": 60_192_808,
}  # fmt: skip


def sized(preset: str, **options: Any) -> ResNetConfig:
    return ResNetConfig(**{"num_classes": 7, "in_channels": 3, **_given(PRESETS[preset]), **options})


def _given(config: ResNetConfig) -> dict[str, Any]:
    return {name: value for name, value in vars(config).items() if value is not None}


def built(preset: str, **options: Any) -> ResNet:
    torch.manual_seed(0)
    return ResNet(sized(preset, **options))


def from_torchvision(torchvision: ModuleType, preset: str, channels: int) -> nn.Module:
    network = getattr(torchvision.models, preset)(num_classes=7)
    network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network


CASES = pytest.mark.parametrize(
    ("dtype", "channels", "sizes"),
    [(torch.float32, 3, [(33, 64), (71, 58)]), (torch.float64, 4, [(50, 37)])],
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
        lambda: built(preset, in_channels=channels),
        lambda: from_torchvision(torchvision, preset, channels),
        channels,
        sizes,
        dtype,
    )


@CASES
@pytest.mark.parametrize("preset", ["resnet18", "resnet50"])
def test_logits_equal_those_of_timm(
    timm: ModuleType,
    compare: Callable[..., None],
    preset: str,
    dtype: torch.dtype,
    channels: int,
    sizes: list[tuple[int, int]],
) -> None:
    compare(
        lambda: built(preset, in_channels=channels),
        lambda: timm.create_model(preset, num_classes=7, in_chans=channels),
        channels,
        sizes,
        dtype,
    )


def test_logits_equal_those_of_torchvision_at_full_size(torchvision: ModuleType, compare: Callable[..., None]) -> None:
    compare(
        lambda: built("resnet50"),
        lambda: from_torchvision(torchvision, "resnet50", 3),
        3,
        [(224, 224)],
        torch.float32,
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


@pytest.mark.parametrize(
    ("preset", "layers"), [("resnet20_cifar", 20), ("resnet56_cifar", 56), ("resnet110_cifar", 110)]
)
def test_parameters_of_the_cifar_form_are_counted_by_hand(preset: str, layers: int) -> None:
    """Section 4.2: 6 n + 2 layers, 2 n of each of the widths 16, 32, 64; option A has no parameters. The paper rounds
    to 0.27, 0.85 and 1.7 million.
    """
    n, count, before = (layers - 2) // 6, 9 * 3 * 16 + 2 * 16, 16
    for width in (16, 32, 64):
        for index in range(2 * n):
            count += 9 * (before if index == 0 else width) * width + 2 * width
        before = width
    network = built(preset, num_classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == count + 64 * 10 + 10
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules()) == layers


def test_a_shortcut_of_option_a_takes_every_second_position_and_adds_empty_maps() -> None:
    x = torch.arange(2 * 2 * 5 * 4, dtype=torch.float32).view(2, 2, 5, 4)
    y = PaddingShortcut(3, 2)(x)
    assert y.shape == (2, 5, 3, 2)
    for i in range(3):
        for j in range(2):
            assert torch.equal(y[:, :2, i, j], x[:, :, 2 * i, 2 * j])
    assert not y[:, 2:].any()


def test_option_a_cannot_take_maps_away() -> None:
    with pytest.raises(ConfigError, match="4 are too many"):
        built("resnet20_cifar", widths=(16, 12, 8))


def test_a_plain_network_is_a_residual_one_without_its_shortcuts() -> None:
    plain, residual = built("plain20_cifar").eval(), built("resnet20_cifar").eval()
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 16, 6, 6)
    ours, other = plain.blocks[0], residual.blocks[0]
    assert isinstance(ours, PlainBlock)
    assert isinstance(other, BasicBlock)
    branch = other.bn2(other.conv2(F.relu(other.bn1(other.conv1(x)))))
    torch.testing.assert_close(ours(x), F.relu(branch))
    torch.testing.assert_close(other(x), F.relu(branch + x))


def test_the_bottleneck_of_2015_has_its_stride_in_the_first_convolution() -> None:
    block = built("resnet50-2015").blocks[3]
    assert isinstance(block, Bottleneck)
    assert [conv.stride for conv in (block.conv1, block.conv2, block.conv3)] == [(2, 2), (1, 1), (1, 1)]
    later = built("resnet50").blocks[3]
    assert isinstance(later, Bottleneck)
    assert [conv.stride for conv in (later.conv1, later.conv2, later.conv3)] == [(1, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_blocks_start_as_the_identity_where_asked_for(block: str) -> None:
    """Goyal et al. 2017, section 5.1. What comes in is not negative, so that the last rectifier leaves it."""
    network = built("resnet18", block=block, zero_init_residual=True)
    x = torch.rand(2, network.blocks[1].conv1.in_channels, 5, 5)  # pyright: ignore
    torch.testing.assert_close(network.blocks[1](x), x)
    assert not torch.equal(built("resnet18", block=block).blocks[1](x), x)


def test_maps_keep_their_scale_through_the_network_at_the_start() -> None:
    """With batch statistics each block adds one to the variance at most, and each stage starts afresh."""
    network = built("resnet34").train()
    with torch.no_grad():
        maps = network.forward_pyramid(torch.randn(8, 3, 64, 64))
    assert all(0.1 <= float(x.square().mean()) <= 20 for x in maps)


@pytest.mark.parametrize("preset", ["resnet18", "resnet50"])
def test_pyramid_has_the_channels_and_strides_that_it_names(preset: str) -> None:
    network = built(preset).eval()
    maps = network.forward_pyramid(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(network.pyramid_channels, network.pyramid_strides, strict=True)
    ]
    assert network.pyramid_strides == (2, 4, 8, 16, 32)


def test_pyramid_of_timm_is_the_same(timm: ModuleType) -> None:
    theirs = timm.create_model("resnet18", features_only=True).eval()
    ours = built("resnet18").eval()
    ours.load_state_dict({**ours.state_dict(), **theirs.state_dict()})
    images = torch.randn(1, 3, 65, 83)
    with torch.no_grad():
        wanted, got = theirs(images), ours.forward_pyramid(images)
    assert theirs.feature_info.channels() == list(ours.pyramid_channels)
    assert theirs.feature_info.reduction() == list(ours.pyramid_strides)
    for mine, value in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, value, rtol=1e-5, atol=1e-5)


def test_pyramid_of_the_cifar_form_begins_at_the_pictures_own_size() -> None:
    network = built("resnet20_cifar").eval()
    assert network.pyramid_strides == (1, 2, 4)
    maps = network.forward_pyramid(torch.randn(1, 3, 32, 28))
    assert [tuple(x.shape[1:]) for x in maps] == [(16, 32, 28), (32, 16, 14), (64, 8, 7)]


def test_features_are_what_the_classifier_sees() -> None:
    network, images = built("resnet18").eval(), torch.randn(2, 3, 40, 33)
    features = network.forward_features(images)
    assert features.shape == (2, network.feature_size) == (2, 512)
    torch.testing.assert_close(network.fc(features), network(images))


def test_blocks_are_named_first_to_last() -> None:
    names = block_names(built("resnet18"))
    assert names == [f"layer{stage}.{index}" for stage in (1, 2, 3, 4) for index in (0, 1)]


def test_stochastic_depth_leaves_out_branches_while_training_only() -> None:
    """The last block's rate is all but one: its branch is left out for nearly all samples."""
    network = built("resnet-tiny", depths=(2, 1, 1, 1), widths=(8, 8, 8, 8), drop_path=0.999)
    rates = [block.drop_path.rate for block in network.blocks]  # pyright: ignore
    assert rates == pytest.approx([0.999 * i / 4 for i in range(5)])
    last, x = network.blocks[-1], torch.rand(64, 8, 6, 6)
    with torch.no_grad():
        shortcut = F.relu(last.train().downsample(x))  # pyright: ignore
        alike = [torch.equal(a, b) for a, b in zip(last(x), shortcut, strict=True)]
        assert sum(alike) >= 60
        assert not torch.equal(last.eval()(x), F.relu(last.downsample(x)))  # pyright: ignore


@pytest.mark.parametrize("norm", ["group_norm", "layer_norm", "rms_norm", "none"])
def test_other_norms_train_without_looking_at_batch_mates(norm: str) -> None:
    network = built("resnet-tiny", norm=norm, num_groups=4).train()
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1, 2)}, "one of each a stage"),
        ({"zero_init_residual": True, "norm": "none"}, "zero_init_residual"),
        ({"drop_path": 0.1, "block": "plain"}, "block=plain"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ResNetConfig(**options)


def test_the_published_form_is_made_where_nothing_is_said() -> None:
    import layerwise as lw

    count = sum(p.numel() for p in lw.create_model("resnet18").parameters())
    assert count == 11_689_512  # torchvision's table of ResNet18_Weights
    assert lw.create_model("resnet18", num_classes=7).fc.weight.shape == (7, 512)
