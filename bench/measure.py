"""Runs the sides of a workload in turns and compares them."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.calibration import OtherWork, cores

ROOT = Path(__file__).resolve().parent.parent
OURS = "layerwise"
_CHECK_TOLERANCE = 0.05  # sides whose check numbers differ by more do not do the same work
_QUIET_CORES = 0.1  # other work that is not called noise

Calibration = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One side.

    Args:
        name: in the table.
        run: "module:function", called with a `Pace`.
        rate: (unit, amount of it in a unit of work), shown as amount a second.
        limit: calibration -> shortest time of a unit of work in seconds; None where no limit is meaningful.
        interpreter: environment variable that names the Python to run it with; unset, the side is not run.
    """

    name: str
    run: str
    rate: tuple[str, float] | None = None
    limit: Callable[[Calibration], float] | None = None
    interpreter: str | None = None


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What is asked of this package against the faster of some peers.

    Args:
        ours: name of our side.
        peers: names of theirs.
        kind: "speedup" is their time over ours and must be at least `value`; "overhead" is ours over theirs and must be
            at most `value`; "memory" is our peak memory over theirs, process and all, and must be at most `value`.
        value: None compares without a goal.
    """

    ours: str = OURS
    peers: tuple[str, ...]
    kind: Literal["speedup", "overhead", "memory"]
    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Something to measure.

    Args:
        title: one line: what, on what, at which size and precision.
        unit: of work: "step", "sample", "save".
        contenders: sides, in the order of their turns.
        goals: comparisons.
        threads: of every side; None takes the machine's cores.
        launches: how often every side is started afresh.
        turns: of every side, a launch.
        windows: timed a turn; with several the first is warm-up and is left out.
        limits: reports on a value alone: contender -> most seconds a unit.
    """

    title: str
    unit: str
    contenders: tuple[Contender, ...]
    goals: tuple[Goal, ...] = ()
    threads: int | None = None
    launches: int = 2
    turns: int = 5
    windows: int = 1
    limits: dict[str, float] = field(default_factory=dict)


class _Process:
    """A running side."""

    def __init__(self, contender: Contender, threads: int) -> None:
        self.name = contender.name
        self.messages: dict[str, Any] = {}
        python = os.environ.get(contender.interpreter, "") if contender.interpreter else sys.executable
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `close`
        self._child: subprocess.Popen[str] | None = None
        if not python:
            self.messages["not_run"] = f"{contender.interpreter} names no interpreter"
            return
        places = [str(ROOT)] if contender.interpreter else [str(ROOT), str(ROOT / "src")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(places),
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "GOMP_SPINCOUNT": "1000",
            "BENCH_STARTED": repr(time.time()),
        }
        self._child = subprocess.Popen(
            [python, "-m", "bench.worker", contender.run],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        while "ready" not in self.messages and "not_run" not in self.messages:
            self._read()

    @property
    def runs(self) -> bool:
        return "not_run" not in self.messages

    def _read(self) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self._child.wait()
            self._errors.seek(0)
            raise RuntimeError(f"{self.name} ended with {self._child.returncode}:\n{self._errors.read()[-4000:]}")
        self.messages |= json.loads(line)

    def turn(self, windows: int) -> list[dict[str, float]]:
        self._tell(f"{windows}\n")
        while "windows" not in self.messages:
            self._read()
        return self.messages.pop("windows")

    def _tell(self, text: str) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        self._child.stdin.write(text)
        self._child.stdin.flush()

    def close(self) -> None:
        """Let it end, and take its peak memory."""
        if self._child is not None and self.runs:
            self._tell("\n")
            self._read()
        if self._child is not None:
            self._child.communicate()
        self._errors.close()


def calibrate(threads: int) -> Calibration:
    """The machine's limits with so many threads."""
    side = _Process(Contender(name="calibration", run="bench.calibration:measure"), threads)
    (found,) = side.turn(1)
    side.close()
    return {key: round(value, 3) for key, value in found.items() if key not in ("work", "seconds", "cpu_s")}


def run(workload: Workload, calibration: Calibration) -> dict[str, Any]:
    """Measure a workload.

    Returns:
        Rows, comparisons, and what else the machine was doing, as plain values.

    Raises:
        RuntimeError: a side failed, or two sides do not do the same work.
    """
    other = OtherWork()
    sides: dict[str, dict[str, Any]] = {
        c.name: {"turns": [], "first_s": [], "peak_memory_bytes": []} for c in workload.contenders
    }
    for k in range(workload.launches):
        _launch(workload, sides, workload.contenders[:: -1 if k % 2 else 1])
    for goal in workload.goals:
        _same_work(sides, (goal.ours, *goal.peers))
    busy = other.cores()
    rows = [_row(contender, sides[contender.name], calibration) for contender in workload.contenders]
    return {
        "title": workload.title,
        "unit": workload.unit,
        "threads": workload.threads or cores(),
        "launches": workload.launches,
        "turns": workload.turns,
        "windows": workload.windows,
        "rows": rows,
        "comparisons": [_compare(goal, sides) for goal in workload.goals],
        "limits": [_limit(*pair, rows) for pair in workload.limits.items()],
        "other_work": {
            "cores_busy": None if busy is None else round(busy, 2),
            "load_at_start": round(other.load, 2),
            "noisy": busy is None or busy > _QUIET_CORES,
        },
    }


def _launch(workload: Workload, sides: dict[str, dict[str, Any]], contenders: Sequence[Contender]) -> None:
    """Start every side afresh, let them take turns, and end them. Who goes first changes from turn to turn."""
    processes = [_Process(contender, workload.threads or cores()) for contender in contenders]
    for process in processes:
        sides[process.name] |= {k: process.messages[k] for k in ("not_run", "check", "note") if k in process.messages}
        if "first_s" in process.messages:
            sides[process.name]["first_s"].append(process.messages["first_s"])
    running = [process for process in processes if process.runs]
    for k in range(workload.turns):
        for process in running[:: -1 if k % 2 else 1]:
            windows = process.turn(workload.windows)
            sides[process.name]["turns"].append(windows[1:] if len(windows) > 1 else windows)
    for process in processes:
        process.close()
        if "peak_memory_bytes" in process.messages:
            sides[process.name]["peak_memory_bytes"].append(process.messages["peak_memory_bytes"])


def _same_work(sides: dict[str, dict[str, Any]], names: Sequence[str]) -> None:
    checks = {name: sides[name]["check"] for name in names if sides[name].get("check") is not None}
    if checks and max(checks.values()) - min(checks.values()) > _CHECK_TOLERANCE * max(abs(v) for v in checks.values()):
        raise RuntimeError(f"The sides do not do the same work: {checks}")


# --------------------------------------------------------------------------------------------------------- statistics


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """(lower quartile, median, upper quartile)."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _unit_s(turns: list[list[dict[str, float]]], clock: str = "seconds") -> list[float]:
    """Seconds a unit of work: the median of each turn. Empty where that clock was not read."""
    if any(clock not in window for turn in turns for window in turn):
        return []
    return [statistics.median(window[clock] / window["work"] for window in turn) for turn in turns]


def _best_s(turns: list[list[dict[str, float]]]) -> float:
    return min(window["seconds"] / window["work"] for turn in turns for window in turn)


def _row(contender: Contender, side: dict[str, Any], calibration: Calibration) -> dict[str, Any]:
    if "not_run" in side:
        return {"name": contender.name, "not_run": side["not_run"]}
    low, middle, high = quartiles(_unit_s(side["turns"]))
    row: dict[str, Any] = {
        "name": contender.name,
        "note": side.get("note", ""),
        "unit_s": middle,
        "unit_s_quartiles": [low, high],
        "best_unit_s": _best_s(side["turns"]),
        "peak_memory_mib": round(max(side["peak_memory_bytes"]) / 2**20, 1),
    }
    if cpu := _unit_s(side["turns"], "cpu_s"):
        row["cpu_unit_s"] = statistics.median(cpu)
    if side["first_s"]:
        row["first_s"] = statistics.median(side["first_s"])
    if contender.rate is not None:
        row |= {"rate": contender.rate[1] / middle, "rate_unit": contender.rate[0]}
    if contender.limit is not None:
        shortest = contender.limit(calibration)
        row |= {"limit_unit_s": shortest, "share_of_limit": shortest / middle}
    windows = [window for turn in side["turns"] for window in turn]
    for key in windows[0].keys() - {"work", "seconds", "cpu_s"}:
        row[f"own_{key}"] = statistics.median(window[key] for window in windows)
    return row


def _compare(goal: Goal, sides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Ours against the fastest of the peers that ran, turn by turn."""
    found: dict[str, Any] = {"ours": goal.ours, "peers": list(goal.peers), "kind": goal.kind, "goal": goal.value}
    ran = [name for name in goal.peers if "not_run" not in sides[name]]
    if not ran or "not_run" in sides[goal.ours]:
        return {**found, "verdict": "not run"}
    peer = min(ran, key=lambda name: statistics.median(_unit_s(sides[name]["turns"])))

    if goal.kind == "memory":
        return {**found, **_compare_memory(goal, sides, ran)}

    def ratios(clock: str) -> list[float]:
        pairs = zip(*(_unit_s(sides[name]["turns"], clock) for name in (goal.ours, peer)), strict=False)
        return [a / b if goal.kind == "overhead" else b / a for a, b in pairs if a > 0 and b > 0]

    low, middle, high = quartiles(ratios("seconds"))
    best = _best_s(sides[goal.ours]["turns"]) / _best_s(sides[peer]["turns"])
    cpu = ratios("cpu_s")
    found |= {
        "peer": peer,
        "ratio": middle,
        "ratio_quartiles": [low, high],
        "ratio_of_best": best if goal.kind == "overhead" else 1 / best,
        "ratio_of_cpu_time": statistics.median(cpu) if cpu else None,
    }
    if goal.value is None:
        return {**found, "verdict": ""}

    def met(ratio: float) -> bool:
        assert goal.value is not None
        return ratio <= goal.value if goal.kind == "overhead" else ratio >= goal.value

    return {**found, "verdict": "met" if met(middle) else "missed", "clear": met(low) == met(high)}


def _compare_memory(goal: Goal, sides: dict[str, dict[str, Any]], ran: Sequence[str]) -> dict[str, Any]:
    """Peak memory of ours over that of the peer that needs least, launch by launch."""
    peer = min(ran, key=lambda name: statistics.median(sides[name]["peak_memory_bytes"]))
    pairs = zip(*(sides[name]["peak_memory_bytes"] for name in (goal.ours, peer)), strict=True)
    low, middle, high = quartiles([ours / theirs for ours, theirs in pairs])
    found = {"peer": peer, "ratio": middle, "ratio_quartiles": [low, high], "ratio_of_best": middle}
    found["ratio_of_cpu_time"] = None
    if goal.value is None:
        return {**found, "verdict": ""}
    verdict = "met" if middle <= goal.value else "missed"
    return {**found, "verdict": verdict, "clear": (low <= goal.value) == (high <= goal.value)}


def _limit(name: str, most_s: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    row = next(row for row in rows if row["name"] == name)
    verdict = "not run" if "not_run" in row else "met" if row["unit_s"] <= most_s else "missed"
    return {"name": name, "most_s": most_s, "verdict": verdict}
