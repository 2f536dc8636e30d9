"""Maps must depend on what the network learned (Adebayo et al., "Sanity checks for saliency maps", 2018,
https://arxiv.org/abs/1810.03292): with weights drawn anew they change. An edge detector would not notice.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from layerwise.core.config import parse_component
from layerwise.data.splits import prepare
from layerwise.explain import attribution
from layerwise.models.classic.lenet5 import LeNet5, LeNet5Config

Method = Callable[[LeNet5, Tensor, Tensor], Tensor]
SEEN = 16  # pictures
ALIKE = 0.7  # rank correlation from which two maps count as the same


def network(seed: int) -> LeNet5:
    torch.manual_seed(seed)
    return LeNet5(LeNet5Config(num_classes=10, in_channels=1, activation="relu"))


@pytest.fixture(scope="module")
def trained() -> tuple[LeNet5, Tensor, Tensor]:
    """LeNet-5 after some seconds on the bundled digits, pictures that it has not seen, and their classes."""
    splits = prepare(parse_component("data", {"name": "digits", "size": 32}, "data"), 0)
    assert splits.train is not None
    assert splits.val is not None
    batch = splits.train.collate(torch.arange(len(splits.train)))
    images, labels = batch["image"].float() / 255 * 2 - 1, batch["labels"]
    net = network(0)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for ids in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(images[ids]), labels[ids]).backward()
            optimizer.step()
    held = splits.val.collate(torch.arange(len(splits.val)))
    pictures, classes = held["image"].float() / 255 * 2 - 1, held["labels"]
    with torch.no_grad():
        assert float((net(pictures).argmax(1) == classes).float().mean()) > 0.93  # it has learned
    return net.eval(), pictures[:SEEN], classes[:SEEN]


def ranks(x: Tensor) -> Tensor:
    """Mean ranks [N] of [N] values, ties sharing theirs."""
    _, place, counts = torch.unique(x, return_inverse=True, return_counts=True)
    return (counts.cumsum(0).double() - (counts.double() - 1) / 2)[place]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's; 0 where a map is the same everywhere."""
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    return float(torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1])


def likeness(method: Method, one: LeNet5, other: LeNet5, pictures: Tensor, classes: Tensor) -> float:
    """Mean rank correlation of the sizes of two networks' maps, over pixels that have ink."""
    maps = [method(net, pictures, classes) for net in (one, other)]
    found = []
    for a, b, picture in zip(*maps, pictures, strict=True):
        ink = picture[0] > -0.9 if a.shape == picture.shape[1:] else torch.ones_like(a, dtype=torch.bool)
        found.append(rank_correlation(a[ink].abs(), b[ink].abs()))
    return sum(found) / len(found)


def saliency(net: LeNet5, x: Tensor, target: Tensor) -> Tensor:
    return attribution.saliency(net, x, target)[:, 0]


def integrated_gradients(net: LeNet5, x: Tensor, target: Tensor) -> Tensor:
    black = torch.full_like(x, -1.0)
    return attribution.integrated_gradients(net, x, target, baseline=black, steps=16)[:, 0]


def occlusion(net: LeNet5, x: Tensor, target: Tensor) -> Tensor:
    return attribution.occlusion(net, x, target, window=6, stride=3, baseline=torch.full_like(x, -1.0))


def grad_cam(net: LeNet5, x: Tensor, target: Tensor) -> Tensor:
    return attribution.grad_cam(net, net, x, target, layer="conv1")


def edges(net: LeNet5, x: Tensor, target: Tensor) -> Tensor:
    """What a bad method could do: it looks at the picture and never at the network."""
    across = F.conv2d(x, torch.tensor([[[[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]]]), padding=1)
    return across[:, 0].abs()


@pytest.mark.parametrize("method", [saliency, integrated_gradients, occlusion, grad_cam])
def test_maps_change_when_weights_are_drawn_anew(method: Method, trained: tuple[LeNet5, Tensor, Tensor]) -> None:
    net, pictures, classes = trained
    assert likeness(method, net, net, pictures, classes) > 0.9  # the same weights, the same map
    for seed in (1, 2):
        assert likeness(method, net, network(seed).eval(), pictures, classes) < ALIKE


def test_an_edge_detector_is_found_out(trained: tuple[LeNet5, Tensor, Tensor]) -> None:
    net, pictures, classes = trained
    assert likeness(edges, net, network(1).eval(), pictures, classes) > ALIKE
