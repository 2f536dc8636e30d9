"""The bench's own arithmetic: who is compared with whom, and what counts as a goal met."""

import pytest

from bench.calibration import slug
from bench.measure import Contender, Goal, Workload, _compare, _same_work, quartiles, run


def side(*unit_s: float, **more: object) -> dict[str, object]:
    """A side whose turns took so long a unit, in windows of ten units."""
    turns = [[{"work": 10.0, "seconds": 10 * value, "cpu_s": 10 * value}] for value in unit_s]
    return {"turns": turns, **more}


def test_quartiles_of_five_values_are_its_second_third_and_fourth() -> None:
    assert quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)


def test_goal_counts_against_the_faster_peer() -> None:
    sides = {"layerwise": side(1.0, 1.0), "slow": side(9.0, 9.0), "fast": side(2.0, 2.0)}
    found = _compare(Goal(peers=("slow", "fast"), kind="speedup", value=3.0), sides)
    assert (found["peer"], found["ratio"], found["verdict"]) == ("fast", 2.0, "missed")


def test_ratios_are_taken_turn_by_turn() -> None:
    # The machine is ten times slower in the second turn, for both: the overhead stays 1.1.
    sides = {"layerwise": side(1.1, 11.0), "peer": side(1.0, 10.0)}
    found = _compare(Goal(peers=("peer",), kind="overhead", value=1.2), sides)
    assert found["ratio_quartiles"] == pytest.approx([1.1, 1.1], rel=1e-12)
    assert found["verdict"] == "met"
    assert found["clear"]


def test_memory_is_compared_launch_by_launch_with_the_peer_that_needs_least() -> None:
    sides = {
        "layerwise": side(1.0, peak_memory_bytes=[3.0, 3.0]),
        "large": side(1.0, peak_memory_bytes=[100.0, 100.0]),
        "small": side(9.0, peak_memory_bytes=[10.0, 10.0]),
    }
    found = _compare(Goal(peers=("large", "small"), kind="memory", value=0.4), sides)
    assert (found["peer"], found["ratio"], found["verdict"]) == ("small", 0.3, "met")
    assert _compare(Goal(peers=("small",), kind="memory", value=0.2), sides)["verdict"] == "missed"


def test_a_peer_that_did_not_run_is_no_win() -> None:
    sides = {"layerwise": side(1.0), "peer": {"turns": [], "not_run": "not installed"}}
    assert _compare(Goal(peers=("peer",), kind="speedup", value=0.1), sides)["verdict"] == "not run"


def test_sides_that_learn_differently_are_refused() -> None:
    sides = {"layerwise": side(1.0, check=2.0), "peer": side(1.0, check=2.3)}
    with pytest.raises(RuntimeError, match="same work"):
        _same_work(sides, ("layerwise", "peer"))


def test_machine_folder_is_a_plain_name() -> None:
    machine = {"processor": "AMD EPYC 9B14 (R) 96-Core", "cores": 2, "instructions": ["avx512_bf16", "avx2"]}
    assert slug(machine) == "amd-epyc-9b14-96-core-2-cores-avx512-bf16"


def test_sides_run_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_ABSENT_PYTHON", raising=False)
    workload = Workload(
        title="nothing",
        unit="start",
        launches=1,
        turns=2,
        contenders=(
            Contender(name="layerwise", run="bench.startup:interpreter"),
            Contender(name="absent", run="bench.startup:interpreter", interpreter="BENCH_ABSENT_PYTHON"),
        ),
        goals=(Goal(peers=("absent",), kind="speedup", value=1.0),),
    )
    found = run(workload, {})
    ours, absent = found["rows"]
    assert 0.0005 < ours["unit_s"] < 30
    assert absent["not_run"] == "BENCH_ABSENT_PYTHON names no interpreter"
    assert found["comparisons"][0]["verdict"] == "not run"
