"""Schedules against torch.optim.lr_scheduler and closed forms."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from layerwise.core.config import parse_component
from layerwise.core.discovery import catalogue
from layerwise.core.errors import ConfigError

TOTAL, EPOCH = 50, 10


def build(name: str, **options: Any) -> Any:
    return parse_component("schedule", {"name": name, **options}, "schedule").build()


def ours(name: str, total: int | None = TOTAL, epoch: int | None = EPOCH, **options: Any) -> list[float]:
    schedule = build(name, **options)
    return [schedule.factor(step, total, epoch) for step in range(TOTAL)]


def theirs(make: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(TOTAL):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def with_warmup(after: Callable[[torch.optim.Optimizer], Any], warmup: int) -> Callable[[torch.optim.Optimizer], Any]:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        return lr_scheduler.SequentialLR(optimizer, [rise, after(optimizer)], milestones=[warmup])

    return make


CASES: list[tuple[str, dict[str, Any], Callable[[torch.optim.Optimizer], Any]]] = [
    ("constant", {"warmup_steps": 8}, with_warmup(lambda o: lr_scheduler.ConstantLR(o, 1.0), 8)),
    ("linear", {"final": 0.1}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, TOTAL)),
    ("linear", {"warmup_epochs": 1}, with_warmup(lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, TOTAL - 10), 10)),
    ("cosine", {"final": 0.2}, lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.2)),
    ("cosine", {"warmup_share": 0.1}, with_warmup(lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL - 5), 5)),
    ("step", {"milestones": [1, 3], "gamma": 0.3}, lambda o: lr_scheduler.MultiStepLR(o, [10, 30], 0.3)),
    ("step", {"milestones": [7, 8], "unit": "steps"}, lambda o: lr_scheduler.MultiStepLR(o, [7, 8], 0.1)),
    ("one_cycle", {}, lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL, cycle_momentum=False)),
    (
        "one_cycle",
        {"peak": 0.25, "start_divisor": 10, "end_divisor": 100, "anneal": "linear"},
        lambda o: lr_scheduler.OneCycleLR(
            o,
            1.0,
            TOTAL,
            pct_start=0.25,
            div_factor=10,
            final_div_factor=100,
            anneal_strategy="linear",
            cycle_momentum=False,
        ),
    ),
]


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize(("name", "options", "make"), CASES)
def test_equals_torchs_scheduler(name: str, options: dict[str, Any], make: Callable[..., Any]) -> None:
    assert ours(name, **options) == pytest.approx(theirs(make), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "fall"),
    [
        ("linear", lambda p: 1 - p),
        ("cosine", lambda p: 0.5 * (1 + math.cos(math.pi * p))),
        ("sqrt", lambda p: 1 - p**0.5),
    ],
)
def test_wsd_equals_its_closed_form(shape: str, fall: Callable[[float], float]) -> None:
    expected = [(t + 1) / 5 for t in range(5)] + [1.0] * 25 + [0.1 + 0.9 * fall((t - 30) / 20) for t in range(30, 50)]
    assert ours("wsd", warmup_steps=5, decay_epochs=2, shape=shape, final=0.1) == pytest.approx(expected, rel=1e-12)


def test_inverse_root_is_equation_3_of_the_transformers_paper() -> None:
    """`d^-0.5 min(s^-0.5, s w^-1.5)` at steps s = 1, 2, ..., over its peak `(d w)^-0.5`."""
    wanted = [min(s**-0.5, s * 8**-1.5) / 8**-0.5 for s in range(1, TOTAL + 1)]
    assert ours("inverse_sqrt", total=None, warmup_steps=8) == pytest.approx(wanted, rel=1e-12)


def test_wsd_decays_over_a_fifth_unless_told_otherwise() -> None:
    factors = ours("wsd")
    assert factors[:41] == [1.0] * 41
    assert factors[41] < 1.0


@pytest.mark.parametrize("name", sorted(catalogue("schedule")))
def test_factors_stay_within_zero_and_one_past_the_end_too(name: str) -> None:
    schedule = build(name)
    for total in (1, 2, 7):
        assert all(0.0 <= schedule.factor(step, total, 3) <= 1.0 for step in range(total + 3))


@pytest.mark.parametrize("name", ["linear", "cosine", "one_cycle", "wsd"])
def test_a_schedule_that_needs_the_number_of_steps_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"schedule={name}: needs the number of steps"):
        build(name).factor(0, None, EPOCH)


def test_constant_and_step_run_without_a_number_of_steps() -> None:
    assert ours("constant", total=None) == [1.0] * TOTAL
    assert ours("step", total=None, milestones=[2], gamma=0.5) == [1.0] * 20 + [0.5] * 30


def test_epochs_without_an_epoch_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="length of an epoch"):
        build("constant", warmup_epochs=1).factor(0, TOTAL, None)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosine", {"warmup_steps": 3, "warmup_epochs": 1}, "warmup_steps and warmup_epochs"),
        ("wsd", {"decay_steps": 3, "decay_share": 0.1}, "decay_steps and decay_share"),
        ("step", {"milestones": [3, 2]}, "ascend"),
        ("cosine", {"final": 1.5}, "final=1.5"),
    ],
)
def test_contradictions_are_configuration_errors(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **options)
