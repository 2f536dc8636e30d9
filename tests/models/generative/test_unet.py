"""The diffusion U-Net: published sizes, classes, sizes that do not fit. Parity: tests/interop/test_diffusers.py."""

import pytest
import torch

import layerwise as lw
from layerwise.core.errors import ConfigError
from layerwise.models.generative.unet import PRESETS, UNet, UNetConfig


@pytest.mark.parametrize(("name", "millions"), [("ddpm-cifar10", 35.7), ("ddpm-256", 114)])
def test_size_is_the_published_one(name: str, millions: float) -> None:
    """Ho et al. 2020, appendix B: 35.7 million for CIFAR-10, 114 million for LSUN and CelebA-HQ."""
    with torch.device("meta"):
        network = lw.create_model(name)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.05 if millions < 100 else 0.5)


def make_net(**options: object) -> UNet:
    torch.manual_seed(0)
    net = UNet(UNetConfig(**{**vars(PRESETS["ddpm-tiny"]), **options}))  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def test_a_fresh_network_predicts_zero() -> None:
    net = UNet(PRESETS["ddpm-tiny"])
    assert bool((net(torch.randn(2, 1, 8, 8), torch.tensor([1.0, 9.0])) == 0).all())


def test_no_label_means_the_class_for_none() -> None:
    net, images, times = make_net(), torch.randn(2, 1, 8, 8), torch.tensor([5.0, 50.0])
    without = net(images, times)
    assert torch.equal(without, net(images, times, torch.tensor([5, 5])))
    assert not torch.allclose(without, net(images, times, torch.tensor([0, 1])))


def test_labels_and_classes_must_go_together() -> None:
    images, times, labels = torch.randn(2, 1, 8, 8), torch.tensor([5.0, 50.0]), torch.tensor([0, 1])
    with pytest.raises(ConfigError, match="without classes"):
        make_net(num_classes=0)(images, times, labels)
    with pytest.raises(ConfigError, match="needs labels"):
        make_net(null_class=False)(images, times)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"attention": (True,)}, "attention"),
        ({"num_groups": 3}, "num_groups=3"),
        ({"head_dim": 5}, "head_dim=5"),
        ({"image_size": (8, 9)}, "divisible by 2"),
        ({"in_channels": None}, "in_channels"),
    ],
)
def test_sizes_that_do_not_fit_are_named(options: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make_net(**options)


def test_pictures_that_levels_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="7 x 8"):
        make_net()(torch.zeros(1, 1, 7, 8), torch.zeros(1))
