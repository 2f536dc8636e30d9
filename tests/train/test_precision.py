"""Precision is decided by rule."""

import pytest
import torch
from torch import nn

from layerwise.core.errors import UnsupportedError
from layerwise.optim import machine
from layerwise.train import precision as module
from layerwise.train.precision import autocast, resolve_precision

CPU = torch.device("cpu")


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_bf16", lambda device: True)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_bf16", lambda device: False)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Linear(512, 256), "bf16"),
        (nn.Linear(4096, 255), "fp32"),
        (nn.Conv2d(32, 32, 3), "bf16"),
        (nn.Conv2d(1, 64, 3), "fp32"),
        (nn.Conv2d(512, 512, 3, groups=512), "fp32"),
        (nn.Embedding(50_000, 512), "fp32"),
        (nn.Linear(512, 512).double(), "fp32"),
    ],
)
def test_auto_takes_bf16_where_a_product_is_wide_enough(network: nn.Module, expected: str) -> None:
    assert resolve_precision("auto", CPU, network) == expected


@pytest.mark.usefixtures("emulated")
def test_auto_never_emulates_bf16() -> None:
    assert resolve_precision("auto", CPU, nn.Linear(512, 512)) == "fp32"


@pytest.mark.usefixtures("emulated")
def test_bf16_on_a_machine_without_it_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="precision=bf16"):
        resolve_precision("bf16", CPU, nn.Linear(2, 2))


@pytest.mark.usefixtures("native")
def test_an_explicit_choice_holds_for_any_network() -> None:
    assert resolve_precision("bf16", CPU, nn.Linear(2, 2)) == "bf16"
    assert resolve_precision("fp32", CPU, nn.Linear(512, 512)) == "fp32"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512f", "avx512_bf16"}, True), ({"amx_bf16"}, True), ({"bf16", "asimd"}, True), ({"avx2", "avx512f"}, False)],
)
def test_bf16_of_a_cpu_is_read_from_its_flags(flags: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_flags", lambda: flags)
    assert machine.has_bf16.__wrapped__("cpu") is expected


def test_cpu_flags_agree_with_torchs_view_of_the_machine() -> None:
    known = {name for name, value in torch.cpu.get_capabilities().items() if value is True}
    for flag in ("avx2", "avx512_bf16", "amx_bf16"):
        assert (flag in machine._cpu_flags()) == (flag in known)


def test_autocast_runs_products_in_bf16_and_leaves_weights_alone() -> None:
    layer = nn.Linear(3, 2)
    with autocast("bf16", CPU):
        assert layer(torch.ones(1, 3)).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert layer(torch.ones(1, 3)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
