"""`python -m bench [NAME...]`: calibrate, measure, print, write `bench/results/MACHINE/NAME.json`."""

import argparse
import importlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import time
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import calibration, measure

NAMES = (
    "beam_search",
    "bert_fine_tuning",
    "bert_inference",
    "chunked_cross_entropy",
    "cifar_training",
    "data_path",
    "diffusion_sampling",
    "diffusion_training",
    "gan_step",
    "jpeg_folder",
    "loop_overhead",
    "lstm_lm",
    "mnist_99",
    "optimizer_step",
    "packed_attention",
    "packed_fine_tuning",
    "muon_step",
    "rbm_epoch",
    "save_stall",
    "startup",
    "tabular_epoch",
    "vae_decode",
    "vision_inference",
    "vision_training",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workloads, of: {', '.join(NAMES)}; none runs all")
    parser.add_argument(
        "--try", action="store_true", dest="once", help="one turn of every side, and nothing is written"
    )
    asked = parser.parse_args()
    names = asked.names or NAMES
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join(NAMES)}")
    console = Console(width=max(150, shutil.get_terminal_size().columns), highlight=False)
    machine = calibration.machine()
    folder = measure.ROOT / "bench" / "results" / calibration.slug(machine)
    folder.mkdir(parents=True, exist_ok=True)
    calibrated: dict[int, measure.Calibration] = {}
    for name in names:
        workload: measure.Workload = importlib.import_module(f"bench.{name}").WORKLOAD
        if asked.once:
            workload = replace(workload, launches=1, turns=1, windows=1)
        threads = workload.threads or calibration.cores()
        if threads not in calibrated:
            calibrated[threads] = measure.calibrate(threads)
            _show_calibration(console, machine, calibrated[threads])
        found = measure.run(workload, calibrated[threads])
        _show(console, name, found)
        if asked.once:
            continue
        facts = {
            "name": name,
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "machine": machine,
            "versions": _versions(),
            "calibration": calibrated[threads],
        }
        (folder / f"{name}.json").write_text(
            json.dumps(_rounded({**facts, **found}), indent=2) + "\n", encoding="utf-8"
        )
    if not asked.once:
        console.print(f"written to {folder.relative_to(measure.ROOT)}")


def _versions() -> dict[str, str]:
    names = ("layerwise", "torch", "numpy")
    installed = {
        d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]
    }
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=measure.ROOT, capture_output=True, text=True, check=False
    )
    found = {"python": platform.python_version(), **{name: installed[name] for name in names if name in installed}}
    return {**found, "commit": commit.stdout.strip()} if commit.returncode == 0 else found


def _rounded(value: Any) -> Any:
    """Five significant digits."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


# --------------------------------------------------------------------------------------------------------------- tables


def _time(seconds: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"


def _show_calibration(console: Console, machine: dict[str, Any], found: measure.Calibration) -> None:
    console.print(
        f"\n{machine['processor']}, {machine['cores']} cores ({', '.join(machine['instructions'])}), "
        f"{machine['memory_gib']} GiB; {found['threads']:g} threads: fp32 {found['fp32_gflop_per_s']:.0f} and bf16 "
        f"{found['bf16_gflop_per_s']:.0f} GFLOP/s, memory read {found['read_gb_per_s']:.1f} and "
        f"updated {found['update_gb_per_s']:.1f} GB/s, dispatch "
        f"{found['dispatch_us']:.2f} us, fork {found['fork_us']:.1f} us"
    )


def _show(console: Console, name: str, found: dict[str, Any]) -> None:
    noise = found["other_work"]
    console.print(f"\n[bold]{name}[/bold]: {found['title']}; {found['threads']} threads")
    if noise["noisy"]:
        console.print(f"  noisy: other work kept {noise['cores_busy']} cores busy")
    rows = [_cells(row, found["unit"]) if "not_run" not in row else _not_run(row) for row in found["rows"]]
    table = Table()
    for column in dict.fromkeys(column for row in sorted(rows, key=len, reverse=True) for column in row):
        if not any(row.get(column) for row in rows):
            continue
        table.add_column(column, justify="left" if column in ("side", "note") else "right")
    for row in rows:
        table.add_row(*(row.get(str(column.header), "") for column in table.columns))
    console.print(table)
    for comparison in found["comparisons"]:
        console.print(_sentence(comparison))
    for limit in found["limits"]:
        console.print(f"  {limit['name']}: at most {_time(limit['most_s'])}: {limit['verdict']}")


def _not_run(row: dict[str, Any]) -> dict[str, str]:
    return {"side": row["name"], "note": f"not run: {row['not_run']}"}


def _cells(row: dict[str, Any], unit: str) -> dict[str, str]:
    own = {key: value for key, value in row.items() if key.startswith("own_")}
    notes = [f"{key[4:].removesuffix('_s')} {_time(value)}" for key, value in own.items()]
    low, high = row["unit_s_quartiles"]
    return {
        "side": row["name"],
        f"time a {unit}": _time(row["unit_s"]),
        "quartiles": f"{_time(low)} - {_time(high)}",
        "best": _time(row["best_unit_s"]),
        "CPU time": _time(row["cpu_unit_s"]) if "cpu_unit_s" in row else "",
        "rate": f"{row['rate']:,.4g} {row['rate_unit']}" if "rate" in row else "",
        "of limit": f"{row['share_of_limit']:.0%}" if "share_of_limit" in row else "",
        "memory": f"{row['peak_memory_mib']:,.0f} MiB",
        "to first": _time(row["first_s"]) if "first_s" in row else "",
        "note": ", ".join(filter(None, [row["note"], *notes])),
    }


def _sentence(comparison: dict[str, Any]) -> str:
    ours, kind = comparison["ours"], comparison["kind"]
    goal = "" if comparison["goal"] is None else f"; goal {'>=' if kind == 'speedup' else '<='} {comparison['goal']:g}"
    if comparison["verdict"] == "not run":
        return f"  {ours} against {' or '.join(comparison['peers'])}: not run{goal}"
    low, high = comparison["ratio_quartiles"]
    cpu = "" if comparison["ratio_of_cpu_time"] is None else f", of CPU time {comparison['ratio_of_cpu_time']:.3f}"
    verdict = (
        f": {comparison['verdict']}" + ("" if comparison.get("clear", True) else " (the spread crosses it)")
        if goal
        else ""
    )
    return (
        f"  {kind} of {ours} against {comparison['peer']}: {comparison['ratio']:.3f} (quartiles {low:.3f} - "
        f"{high:.3f}; of best times {comparison['ratio_of_best']:.3f}{cpu}){goal}{verdict}"
    )


if __name__ == "__main__":
    main()
