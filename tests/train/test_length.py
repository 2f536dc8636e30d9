"""How a training ends: good enough on validation data, or before it began because there is nothing to learn."""

from pathlib import Path
from typing import Any

import pytest
import torch

from layerwise.api.configure import configure
from layerwise.api.train import dry_run
from layerwise.core.console import Console
from layerwise.core.errors import ConfigError
from layerwise.track.store import load_tree, save_tree
from layerwise.train.build import build
from layerwise.train.loop import Hooks, Trainer


def session(recipe: str, **overrides: Any) -> Any:
    return build(configure(recipe, [(name.replace("__", "."), value) for name, value in overrides.items()]).recipe)


class Values(Hooks):
    """The monitored value of every evaluation."""

    def __init__(self, name: str) -> None:
        self.name, self.seen = name, list[float]()

    def on_metrics(self, trainer: Trainer, line: dict[str, Any]) -> None:
        if f"val/{self.name}" in line:
            self.seen.append(line[f"val/{self.name}"])


def test_training_stops_at_the_first_evaluation_that_is_good_enough() -> None:
    values = Values("errors")
    trainer = session("perceptron").trainer(0, 0, [values])
    trainer.fit()
    assert values.seen[-1] == 0
    assert all(value > 0 for value in values.seen[:-1])
    assert trainer.step == 100 * len(values.seen) < 10_000
    assert trainer.reason == "val/errors reached eval.stop_at=0"


def test_a_larger_value_is_better_where_the_metric_says_so() -> None:
    values = Values("accuracy")
    trainer = session("backprop_encoder", eval__stop_at=0.5).trainer(0, 0, [values])
    trainer.fit()
    assert values.seen[-1] >= 0.5
    assert all(value < 0.5 for value in values.seen[:-1])


def test_without_a_goal_it_goes_on_to_the_end() -> None:
    trainer = session("perceptron", eval__stop_at=None, epochs=15).trainer(0, 0, [])
    trainer.fit()
    assert trainer.step == 1500
    assert trainer.reason == "all 1500 steps done"


def test_a_resumed_run_stops_where_the_straight_one_did(tmp_path: Path) -> None:
    straight = session("perceptron")
    whole = straight.trainer(0, 0, [])
    whole.fit()

    class SaveOnce(Hooks):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.step == 333:
                save_tree(tmp_path / "state", trainer.state())

    session("perceptron").trainer(0, 0, [SaveOnce()]).fit()
    resumed = session("perceptron")
    rest = resumed.trainer(0, 0, [])
    rest.load(load_tree(tmp_path / "state"))
    rest.fit()
    assert (rest.step, rest.reason) == (whole.step, whole.reason)
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name])
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, rest.objective.state_dict()[name])


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        ("perceptron", {"eval__monitor": "last"}, "eval.monitor=last watches no metric"),
        ("perceptron", {"eval__every_minutes": 1.0}, "a slower machine would train differently"),
        ("gpt_shakespeare", {"objective": None}, "objective is required"),
    ],
)
def test_settings_that_contradict_are_refused(recipe: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(recipe, [(name.replace("__", "."), value) for name, value in changes.items()])


def test_a_goal_needs_validation_data() -> None:
    with pytest.raises(ConfigError, match=r"eval\.stop_at=0 watches a metric on validation data: there are none"):
        session("perceptron", data__val=0.0).trainer(0, 0, [])


def test_a_network_without_parameters_is_evaluated_as_it_is() -> None:
    found = session("mcculloch_pitts_xor")
    values = Values("accuracy")
    trainer = found.trainer(0, 0, [values])
    trainer.fit()
    assert (trainer.step, values.seen) == (0, [1.0])
    assert trainer.reason == "nothing was trained: max_steps=0"


def test_a_network_without_parameters_cannot_be_trained() -> None:
    changed = session("mcculloch_pitts_xor", max_steps=3, objective="squared_error")
    with pytest.raises(ConfigError, match="No parameter is left to train"):
        changed.trainer(0, 0, [])


def test_max_steps_0_leaves_any_network_as_it_was() -> None:
    found = session("lenet5", max_steps=0, data__limit=5)
    before = {name: value.clone() for name, value in found.network.state_dict().items()}
    trainer = found.trainer(0, 0, [])
    trainer.fit()
    assert trainer.finished
    assert all(torch.equal(value, before[name]) for name, value in found.network.state_dict().items())


def test_a_dry_run_of_nothing_takes_no_step() -> None:
    assert dry_run(configure("mcculloch_pitts_and"), Console(quiet=True))[0] == "no step to take: max_steps=0"
