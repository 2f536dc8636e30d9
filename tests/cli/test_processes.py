"""Several processes from the command line: one result, no orphans, exact resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SOURCE = Path(__file__).resolve().parents[2] / "src"
ENV = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def start(*arguments: object, quiet: bool = True) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "layerwise", "train", *map(str, arguments), *(["--quiet"] if quiet else [])]
    return subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    printed, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    return printed


def workers(run: Path) -> list[str]:
    """Command lines of processes that train this run."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(run).encode() in words:
            found.append(b" ".join(words).decode())
    return found


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path) -> None:
    # 31 samples a step: shares of 16 and 15
    settings = ("lenet5", "max_steps=20", "batch_size=31", "eval.every_steps=10")
    finish(start(*settings, "--run", tmp_path / "one"))
    printed = finish(start(*settings, "--run", tmp_path / "two", "--nproc", 2, quiet=False))
    assert sum(line.startswith("test/loss ") for line in printed.splitlines()) == 1  # by one of the processes
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    # float32 sums in another order, through 20 steps of Adam
    assert all(torch.allclose(one[name], two[name], rtol=0, atol=1e-3) for name in one)
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    assert reports[0]["metrics"]["test/loss"] == pytest.approx(reports[1]["metrics"]["test/loss"], rel=1e-3)
    assert reports[0]["tables"]["count"] == reports[1]["tables"]["count"]


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_orphans_and_the_run_goes_on_exactly(tmp_path: Path) -> None:
    settings = ("lenet5", "max_steps=150", "batch_size=16", "keep.every_steps=10", "eval.every_steps=50")
    straight, run = tmp_path / "straight", tmp_path / "killed"
    finish(start(*settings, "--run", straight, "--nproc", 2))
    launcher = start(*settings, "--run", run, "--nproc", 2)
    while not list((run / "state").glob("step-*[0-9]")):
        assert launcher.poll() is None
        time.sleep(0.02)
    launcher.send_signal(signal.SIGKILL)
    launcher.communicate()
    deadline = time.monotonic() + 10
    while workers(run) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers(run) == []
    size = (run / "metrics.jsonl").stat().st_size if (run / "metrics.jsonl").exists() else 0
    time.sleep(0.5)
    assert ((run / "metrics.jsonl").stat().st_size if (run / "metrics.jsonl").exists() else 0) == size
    finish(start(*settings, "--run", run, "--nproc", 2))
    ours, theirs = (path / "model" / "model.safetensors" for path in (run, straight))
    assert ours.read_bytes() == theirs.read_bytes()
