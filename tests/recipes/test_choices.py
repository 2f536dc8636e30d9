"""Every optimiser, schedule, norm, initialisation, regulariser and augmentation is a word in any recipe that has use
for it, and makes a difference.
"""

import typing
from functools import cache

import pytest
import torch

from layerwise.api.configure import configure
from layerwise.core.discovery import catalogue
from layerwise.core.errors import ConfigError
from layerwise.nn.init import SCALE_FREE
from layerwise.nn.norms import Norm
from layerwise.train.build import build

SHORT = {
    "data": "digits",
    "epochs": None,
    "max_steps": 4,
    "batch_size": 16,
    "eval.every_epochs": None,
    "model": "convnet",
}
PLAIN = {**SHORT, "optimizer": "SGD", "schedule": "constant", "objective.label_smoothing": 0}


def trained(overrides: dict[str, object]) -> dict[str, torch.Tensor]:
    """Weights after four steps on digits."""
    session = build(configure("lenet5", {**PLAIN, **overrides}.items()).recipe)
    session.trainer(0, 0, ()).fit()
    return {name: value.clone() for name, value in session.network.state_dict().items()}


@cache
def plain() -> dict[str, torch.Tensor]:
    return trained({})


def differs(overrides: dict[str, object]) -> bool:
    found = trained(overrides)
    assert all(torch.isfinite(value).all() for value in found.values())
    common = plain().keys() & found.keys()
    return any(not torch.equal(found[name], plain()[name]) for name in common)


def test_the_same_choices_give_the_same_weights() -> None:
    assert not differs({})


@pytest.mark.parametrize("name", sorted(set(catalogue("optimizer")) - {"SGD"}))
def test_optimizers(name: str) -> None:
    assert differs({"optimizer": name})


def test_nesterov() -> None:
    assert differs({"optimizer.momentum": 0.9, "optimizer.nesterov": True})


@pytest.mark.parametrize("name", sorted(set(catalogue("schedule")) - {"constant", "step"}))
def test_schedules(name: str) -> None:
    assert differs({"schedule": name, **({"schedule.decay_share": 0.5} if name == "wsd" else {})})


def test_step_schedule_and_warm_up() -> None:
    assert differs({"schedule": "step", "schedule.milestones": [2], "schedule.gamma": 0.1, "schedule.unit": "steps"})
    assert differs({"schedule": "constant", "schedule.warmup_steps": 2})


@pytest.mark.parametrize("name", sorted(set(typing.get_args(Norm)) - {"group_norm"}))
@pytest.mark.parametrize("model", ["convnet", "mlp"])
def test_norms(name: str, model: str) -> None:
    found = trained({"model": model, "model.norm": name})
    other = trained({"model": model, "model.norm": "group_norm"})
    assert any(not torch.equal(found[key], other[key]) for key in found.keys() & other.keys())


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("model", ["lenet5", "convnet", "mlp"])
def test_initialisations(name: str, model: str) -> None:
    session = build(configure("lenet5", {**SHORT, "model": model, "init": name}.items()).recipe)
    own = build(configure("lenet5", {**SHORT, "model": model}.items()).recipe)
    weights = [
        torch.equal(a, b)
        for a, b in zip(session.network.parameters(), own.network.parameters(), strict=True)
        if a.dim() >= 2
    ]
    assert not any(weights)
    assert any("drawn" in note for note in session.notes)


def test_an_unknown_initialisation_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"init=orthogonl.*orthogonal"):
        build(configure("lenet5", {**SHORT, "init": "orthogonl"}.items()).recipe)


@pytest.mark.parametrize(
    "overrides",
    [
        {"model.dropout": 0.5},
        {"optimizer.weight_decay": 0.1},
        {"objective.label_smoothing": 0.2},
        {"clip": 1e-3},
    ],
    ids=lambda value: next(iter(value)),
)
def test_regularisers(overrides: dict[str, object]) -> None:
    assert differs(overrides)


def test_averaged_weights() -> None:
    session = build(configure("lenet5", {**PLAIN, "ema": {"decay": 0.9}}.items()).recipe)
    trainer = session.trainer(0, 0, ())
    trainer.fit()
    assert trainer.ema is not None
    last = [p.detach().clone() for p in session.network.parameters()]
    with trainer.ema.swapped_in():
        averaged = list(session.network.parameters())
        assert not any(torch.equal(a, b) for a, b in zip(averaged, last, strict=True))


@pytest.mark.parametrize("name", sorted(set(catalogue("transform")) - {"two_views"}))
def test_augmentations(name: str) -> None:
    assert differs({"data.augment": [name]})


def test_batch_norm_trains_where_an_epoch_leaves_one_sample() -> None:
    options = {**PLAIN, "model": "mlp", "model.norm": "batch_norm", "data.limit": 3, "batch_size": 29, "max_steps": 2}
    session = build(configure("lenet5", options.items()).recipe)
    assert session.splits is not None
    assert session.splits.train is not None
    assert len(session.splits.train) == 30
    session.trainer(0, 0, ()).fit()
