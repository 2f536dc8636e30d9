"""Events where tensorboard is installed, nothing where it is not."""

import importlib.util

import pytest

from layerwise.track.tensorboard import open_events


def test_absent_tensorboard_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert open_events(tmp_path / "events") is None
    assert not (tmp_path / "events").exists()


@pytest.mark.filterwarnings("ignore")  # of the package itself
def test_events_hold_the_numbers_and_a_resumed_run_hides_what_it_repeats(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = open_events(tmp_path)
    for step in (1, 2, 3):
        first.write({"step": step, "train/loss": float(step), "stage": "one", "flag": True})
    first.close()
    second = open_events(tmp_path, first_step=3)
    second.write({"step": 3, "train/loss": 30.0})
    second.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/loss"]
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
