"""Frozen networks: the same logits, other kernels."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.api.models import create_model
from layerwise.core.errors import UnsupportedError
from layerwise.infer.freeze import FusedConv2d, freeze

SMALL = {
    "resnet-tiny": {},
    "resnet20_cifar": {"num_classes": 7, "in_channels": 3},  # shortcuts padded with zeros
    "resnet50": {"num_classes": 7, "in_channels": 3, "depths": (1, 2), "widths": (8, 16)},
    "efficientnet-tiny": {},
    "convnet-tiny": {"in_channels": 3},
    "alexnet-2012": {"num_classes": 4, "in_channels": 3, "channels": (4, 6, 8, 8, 6), "hidden": 16},
    "lenet5": {"num_classes": 5, "in_channels": 3},
    "vgg-tiny": {},
    "googlenet-tiny": {},
    "inception_v3-tiny": {},
    "inception_v3-fid": {"num_classes": 5, "width": 0.0625},
}


@pytest.fixture(autouse=True)
def _no_shape_checks():
    """A traced forward is called with stand-ins for tensors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def shaken(network: nn.Module) -> nn.Module:
    """With statistics and scales as after a training, in eval mode."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.weight.data.uniform_(0.3, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return network.eval()


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", SMALL)
def test_frozen_logits_are_the_networks(name: str) -> None:
    torch.manual_seed(0)
    network = shaken(create_model(name, **SMALL[name]))
    frozen = freeze(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    assert any(isinstance(module, FusedConv2d) for module in frozen.modules())
    sizes = ((1, 28, 28), (3, 32, 20)) if name == "lenet5" else ((1, 80, 80), (3, 75, 97))
    for batch, height, width in sizes:  # any batch and size, after one preparation
        images = torch.randn(batch, 3, height, width)
        with torch.inference_mode():
            assert difference(frozen(images), network(images)) < 1e-5


class Awkward(nn.Module):
    """What must not be folded: a result read twice, a sum that broadcasts, a sum with itself, a norm that serves
    two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.norm, self.shared = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.own = nn.BatchNorm2d(4, track_running_stats=False)
        self.reflect = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        raw = self.conv1(x)
        x = F.relu(self.norm(raw)) + raw
        x = F.relu(self.conv2(x) + x.mean((2, 3), keepdim=True))
        y = self.shared(self.conv3(x))
        y = y + y
        x = self.shared(self.reflect(self.conv3(y)))
        return self.act(self.own(self.conv2(x)) + 1.0)


def test_what_is_read_twice_or_broadcast_is_computed_all_the_same() -> None:
    torch.manual_seed(0)
    network = shaken(Awkward())
    x = torch.randn(2, 4, 9, 7)
    with torch.inference_mode():
        assert difference(freeze(network)(x), network(x)) < 1e-5


def test_sums_and_activations_move_into_the_convolutions() -> None:
    frozen = freeze(shaken(create_model("resnet-tiny")))
    assert isinstance(frozen, torch.fx.GraphModule)
    called = [str(node.target) for node in frozen.graph.nodes if node.op != "call_module"]
    assert not any("relu" in name or "add" in name for name in called)
    assert sum(len(node.args) == 2 for node in frozen.graph.nodes if node.op == "call_module") == 4  # one sum a block


class Shortcuts(nn.Module):
    """Sums whose other summand is read again, is the convolution's own input, or goes through a layer that may be a
    view of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(5))
        self.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.conv1(x))
        b = F.relu(self.conv2(a) + a)  # its own input
        c = self.conv3(b) + a
        d = self.conv4(self.same(c)) + c
        e = F.relu(self.conv5(d) + b)
        return e + a + self.same(c) + d


def test_sums_leave_what_is_read_again() -> None:
    torch.manual_seed(0)
    network = Shortcuts().eval()
    x = torch.randn(2, 4, 9, 7)
    with torch.inference_mode():
        frozen, kept = freeze(network), x.clone()
        assert difference(frozen(x), network(x)) < 1e-5
        assert torch.equal(x, kept)
        assert torch.equal(frozen(x), frozen(x))


def test_network_stays_as_it_was() -> None:
    network = shaken(create_model("resnet-tiny"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = freeze(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not frozen.training
    network.train()(torch.randn(2, 3, 32, 32)).sum().backward()  # and can be trained on


def test_bf16_is_close_and_gives_float32() -> None:
    torch.manual_seed(0)
    network = shaken(create_model("resnet-tiny"))
    images = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        found = freeze(network, torch.bfloat16)(images)
        assert found.dtype == torch.float32
        assert 1e-5 < difference(found, network(images)) < 2e-2  # eight bits of mantissa


@pytest.mark.parametrize(
    ("name", "train", "reason"),
    [
        ("resnet-tiny", True, "training mode"),
        ("mlp-tiny", False, "fewer than two convolutions"),
        ("vit-tiny", False, "fewer than two convolutions"),
        ("lenet5-1998", False, "depends on"),  # weights of a convolution are masked where it is called
    ],
)
def test_what_cannot_be_frozen_says_why(name: str, train: bool, reason: str) -> None:
    sizes = {} if name.endswith("tiny") else {"in_channels": 3, "num_classes": 5}
    with pytest.raises(UnsupportedError, match=reason):
        freeze(create_model(name, **sizes).train(train))
