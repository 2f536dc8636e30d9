"""Inception v3: parity with torchvision, auxiliary head included; the form of the Frechet Inception distance."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.models.vision.inception_v3 import PRESETS, InceptionV3, InceptionV3Config, InceptionV3Output
from layerwise.nn.blocks import block_names


def built(preset: str, **options: Any) -> InceptionV3:
    given = {name: value for name, value in vars(PRESETS[preset]).items() if value is not None}
    torch.manual_seed(0)
    return InceptionV3(InceptionV3Config(**{"num_classes": 7, "in_channels": 3, **given, **options}))


class Results(nn.Module):
    """torchvision's network, whose result without the auxiliary head is a pair with None while training."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self.network(images)
        return found if isinstance(found, Tensor) or found[1] is not None else found[0]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.load_state_dict(*args, **kwargs)


def reference(torchvision: ModuleType, **options: Any) -> nn.Module:
    return Results(torchvision.models.Inception3(num_classes=7, init_weights=False, dropout=0.0, **options))


@pytest.mark.parametrize(
    ("auxiliary", "dtype", "sizes"),
    [
        (False, torch.float32, [(107, 143), (139, 75)]),
        (False, torch.float64, [(111, 107)]),
        (True, torch.float32, [(299, 311)]),
        pytest.param(True, torch.float64, [(301, 299)], marks=pytest.mark.slow),
    ],
    ids=["float32", "float64", "auxiliary-float32", "auxiliary-float64"],
)
def test_logits_equal_those_of_torchvision(
    torchvision: ModuleType,
    compare: Callable[..., None],
    auxiliary: bool,
    dtype: torch.dtype,
    sizes: list[tuple[int, int]],
) -> None:
    """torchvision's auxiliary head takes pictures of 299 x 299 pixels or more."""
    compare(
        lambda: built("inception_v3", auxiliary=auxiliary, dropout=0.0),
        lambda: reference(torchvision, aux_logits=auxiliary),
        3,
        sizes,
        dtype,
        order=range(2),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_auxiliary_head_equals_torchvisions(
    torchvision: ModuleType, compare: Callable[..., None], dtype: torch.dtype
) -> None:
    """On maps of the sizes that pictures from 299 x 299 pixels give."""

    def theirs() -> nn.Module:
        return torchvision.models.inception.InceptionAux(768, 7)

    def ours() -> nn.Module:
        head = built("inception_v3").AuxLogits
        assert head is not None
        return head

    compare(ours, theirs, 768, [(17, 17), (18, 21)], dtype)


@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [(torch.float32, [(107, 143), (139, 75)]), (torch.float64, [(111, 107)])],
    ids=["float32", "float64"],
)
def test_the_form_of_the_frechet_distance_equals_torchvisions_with_other_pools(
    inception_of_2015: Callable[[], nn.Module],
    compare: Callable[..., None],
    dtype: torch.dtype,
    sizes: list[tuple[int, int]],
) -> None:
    compare(lambda: built("inception_v3-fid", dropout=0.0), lambda: Results(inception_of_2015()), 3, sizes, dtype)


def test_parameters_are_as_published_and_named_as_in_torchvision(torchvision: ModuleType) -> None:
    """27,161,264 with the auxiliary head: torchvision's docs."""
    with torch.device("meta"):
        ours, alone = (built("inception_v3", num_classes=1000, auxiliary=auxiliary) for auxiliary in (True, False))
        theirs = torchvision.models.Inception3(init_weights=False)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    assert sum(parameter.numel() for parameter in ours.parameters()) == 27_161_264
    head = sum(parameter.numel() for parameter in theirs.AuxLogits.parameters())
    assert sum(parameter.numel() for parameter in alone.parameters()) == 27_161_264 - head
    assert (ours.feature_size, alone.feature_size) == (2048, 2048)


def test_the_auxiliary_head_speaks_while_training_only() -> None:
    network = built("inception_v3-tiny")
    images = torch.randn(2, 3, 80, 96)
    result = network.train()(images)
    assert isinstance(result, InceptionV3Output)
    assert [value.shape for value in result] == [(2, 5)] * 2
    assert isinstance(network.eval()(images), Tensor)
    assert network.num_auxiliary == 1
    alone = built("inception_v3-tiny", auxiliary=False)
    assert alone.num_auxiliary == 0
    assert isinstance(alone.train()(images), Tensor)


def test_features_are_what_the_classifier_sees() -> None:
    network, images = built("inception_v3-tiny").eval(), torch.randn(2, 3, 80, 75)
    features = network.forward_features(images)
    assert features.shape == (2, network.feature_size)
    torch.testing.assert_close(network.fc(features), network(images))


def test_pyramid_has_the_channels_that_it_names_and_the_papers_positions() -> None:
    """Positions of 299 pixels: table 1 of the paper."""
    network = built("inception_v3-tiny").eval()
    maps = network.forward_pyramid(torch.randn(1, 3, 299, 299))
    assert [x.shape[1] for x in maps] == list(network.pyramid_channels)
    assert [tuple(x.shape[2:]) for x in maps] == [(side, side) for side in (147, 71, 35, 17, 8)]
    with torch.device("meta"):
        assert built("inception_v3").pyramid_channels == (64, 192, 288, 768, 2048)


def test_blocks_are_the_inception_modules() -> None:
    names = block_names(built("inception_v3-tiny"))
    assert names == [f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")]


def test_pictures_that_are_too_small_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"75 x 75 pixels, got 74 x 90; set data.size"):
        built("inception_v3-tiny").eval()(torch.zeros(1, 3, 74, 90))
    assert built("inception_v3-tiny").train()(torch.zeros(2, 3, 75, 75)).aux.shape == (2, 5)
