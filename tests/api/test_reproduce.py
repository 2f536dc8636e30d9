"""What a results file keeps of a run's course."""

from pathlib import Path

from layerwise.api.reproduce import _curves
from layerwise.track.run_directory import RunDirectory


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
