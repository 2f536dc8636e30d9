"""What a results file keeps of a run's course."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from layerwise.api.reproduce import _curves, reproduce
from layerwise.core.errors import StopRequested
from layerwise.track.run_directory import RunDirectory
from layerwise.train.loop import Trainer


def test_curves_are_of_the_loss_and_of_the_metric_that_counts(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "r")
    run.create("model: lenet5\n")
    log = run.metrics_log()
    for step in range(1, 301):
        log.append({"step": step, "train/loss": 1 / 3, "lr": 0.1, "train/accuracy": step / 300})
    log.append({"step": 300, "val/accuracy": 0.5, "val/macro_f1": 0.4, "val/loss": 2.0})
    log.close()
    found = _curves(run, "test/accuracy")
    assert set(found) == {"train/loss", "train/accuracy", "val/accuracy", "val/loss"}
    assert found["val/accuracy"] == [(300, 0.5)]
    assert found["train/loss"][0] == (5, 0.33333)  # five significant digits
    assert len(found["train/accuracy"]) == 60
    assert found["train/accuracy"][-1] == (300, round(298 / 300, 5))  # the mean of the last five
    assert set(_curves(run, None)) == {"train/loss", "val/loss"}


def test_a_run_that_was_interrupted_is_gone_on_with_and_a_finished_one_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    step = Trainer._train_step

    def counted(self: Trainer, *args: Any, **options: Any) -> dict[str, bool]:
        steps.append(1)
        if len(steps) == 40:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **options)

    monkeypatch.setattr(Trainer, "_train_step", counted)
    with pytest.raises(StopRequested):
        reproduce("backprop_xor", folder=tmp_path / "results", runs=tmp_path / "runs")
    (stopped,) = (tmp_path / "runs").iterdir()
    assert RunDirectory(stopped).status()["status"] == "stopped"
    path = reproduce("backprop_xor", folder=tmp_path / "results", runs=tmp_path / "runs")
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == ["backprop_xor-seed0-1"]
    whole = len(steps)
    first = json.loads(path.read_text())
    reproduce("backprop_xor", folder=tmp_path / "results", runs=tmp_path / "runs")
    assert {entry.name for entry in (tmp_path / "runs").iterdir()} == {"backprop_xor-seed0-1", "backprop_xor-seed0-2"}
    assert len(steps) == 2 * whole  # the interrupted run took no step twice
    assert json.loads(path.read_text())["median"] == first["median"]
