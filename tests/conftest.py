"""What every test stands on: one thread, no network, the data sets beside the repository where they are there."""

import importlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

# Before torch is imported anywhere: spinning threads of two workers on two cores stand in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ["LAYERWISE_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import pytest

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # where `bench` lies

# Commands that tests start see the same source, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))

_LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


@pytest.fixture(autouse=True, scope="session")
def _warn_always() -> None:
    """torch gives some warnings once a process: which test met them would depend on the order."""
    import torch

    torch.set_warn_always(True)


@pytest.fixture(autouse=True, scope="session")
def _torchvision_operators() -> None:
    """Tests compare with networks and transforms of torchvision, and of timm and transformers, which import it."""
    from bench.peers import declare_torchvision_operators

    declare_torchvision_operators()


@pytest.fixture(scope="session")
def torchvision(_torchvision_operators: None) -> ModuleType:
    """The library of reference networks and transforms; skips where it is not installed. It does not look for its
    compiled operators.
    """
    module = pytest.importorskip("torchvision")
    extension = importlib.import_module("torchvision.extension")
    extension._assert_has_ops = lambda: None
    return module


@pytest.fixture(scope="session")
def inception_of_2015(torchvision: ModuleType) -> "Callable[[], nn.Module]":
    """Makes torchvision's Inception v3 with the pools of TensorFlow's graph of 2015 in its blocks A, C and E, in whose
    features the Frechet Inception distance is measured; without dropout.
    """
    import torch.nn.functional as F
    from torch import Tensor, nn

    inception, plain = torchvision.models.inception, F.avg_pool2d

    def average(x: Tensor, **_: object) -> Tensor:
        return plain(x, 3, stride=1, padding=1, count_include_pad=False)

    def maximum(x: Tensor, **_: object) -> Tensor:
        return F.max_pool2d(x, 3, stride=1, padding=1)

    def exchange(block: Any, pool: Callable[..., Tensor]) -> None:
        branches = block._forward

        def forward(x: Tensor) -> list[Tensor]:
            with mock.patch.object(inception.F, "avg_pool2d", pool):
                return branches(x)

        block._forward = forward

    def build() -> nn.Module:
        network = inception.Inception3(num_classes=1008, aux_logits=False, init_weights=False, dropout=0.0)
        for block in network.modules():
            if isinstance(block, inception.InceptionA | inception.InceptionC | inception.InceptionE):
                exchange(block, maximum if block is network.Mixed_7c else average)
        return network

    return build


@pytest.fixture(scope="session")
def timm(torchvision: ModuleType) -> ModuleType:
    """The library of reference networks; skips where it is not installed."""
    return pytest.importorskip("timm")


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """A test that talks to another machine fails; unix sockets and this machine's own ports are free to use."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOCAL):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)  # pyright: ignore[reportArgumentType]

    socket.socket.connect = guarded  # pyright: ignore[reportAttributeAccessIssue]
    yield
    socket.socket.connect = connect


@pytest.fixture(autouse=True)
def _own_state() -> Iterator[None]:
    """Global switches of torch that a test may turn (determinism, threads, default dtype, seed) are put back."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    kept = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_default_dtype(),
    )
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.use_deterministic_algorithms(kept[0], warn_only=kept[1])
    torch.set_default_dtype(kept[2])
    torch.set_num_threads(threads)
    torch.set_rng_state(generator)


@pytest.fixture(scope="session")
def datasets_folder() -> Path:
    """Folder of real data sets: $LAYERWISE_DATA, else `shared/data` beside the repository.

    Tests that need it are skipped where it is absent.
    """
    given = os.environ.get("LAYERWISE_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}")
    return folder
