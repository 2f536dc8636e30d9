"""What saving a training state of about 500 MB costs a loop of short steps.

The state is 42 million parameters with AdamW's two moments. A window is one save: `time a save` is how long the loop
stands still, `written` how long until the state is on disk, and `lost` the stall plus what the steps until then took
longer than in quiet. One thread computes; writers have what cores are left.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench.loop_overhead import MLP, made_data
from bench.measure import OURS, Calibration, Contender, Goal, Workload
from bench.pace import Pace

TENSORS, SIZE = 20, (1024, 2048)  # parameters; three tensors of each are saved
QUIET = 200  # steps timed without a save


def state_bytes() -> int:
    return 3 * 4 * TENSORS * SIZE[0] * SIZE[1]


def made_state() -> dict[str, Any]:
    """Weights and moments by name."""
    generator = torch.Generator().manual_seed(0)
    return {
        part: {f"w{k}": torch.randn(SIZE, generator=generator) for k in range(TENSORS)}
        for part in ("network", "exp_avg", "exp_avg_sq")
    }


def _stepper() -> Callable[[], None]:
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    network: nn.Module = MLP()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images, labels = (part[:32] for part in made_data())

    def step() -> None:
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _run(pace: Pace, folder: Path, save: Callable[[int, dict[str, Any]], Callable[[], bool]], note: str) -> None:
    """Save again and again.

    Args:
        save: (number, state) -> whether that state is on disk by now.
    """
    step, state = _stepper(), made_state()

    def once(number: int) -> dict[str, float]:
        times: list[float] = []
        for _ in range(QUIET):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        quiet = sorted(times)[len(times) // 2]
        began = time.perf_counter()
        written = save(number, state)
        stalled = time.perf_counter() - began
        steps = 0
        while not written():
            step()
            steps += 1
        whole = time.perf_counter() - began
        return {"seconds": stalled, "written_s": whole, "lost_s": max(stalled, whole - steps * quiet)}

    try:
        once(1)
        pace.first()
        once(2)
        pace.ready(note=note)
        number = 2
        while True:
            number += 1
            pace.window(1, **once(number))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="bench-save-"))


def keeper(pace: Pace) -> None:
    """`layerwise.track.store.StateKeeper`."""
    from layerwise.track.store import StateKeeper, list_states

    folder = _folder()
    keeper = StateKeeper(folder, keep_last=1, warn=print)

    def save(number: int, state: dict[str, Any]) -> Callable[[], bool]:
        keeper.save(number, state)
        return lambda: any(step == number for step, _ in list_states(folder))

    _run(pace, folder, save, "SHA-256, fsync, atomic")


def torch_save(pace: Pace) -> None:
    """`torch.save` in the loop."""
    folder = _folder()

    def save(number: int, state: dict[str, Any]) -> Callable[[], bool]:
        torch.save(state, folder / "state.pt")
        return lambda: True

    _run(pace, folder, save, "no fsync, in place")


def safetensors_save(pace: Pace) -> None:
    """`safetensors.torch.save_file` in the loop."""
    from safetensors.torch import save_file

    folder = _folder()

    def save(number: int, state: dict[str, Any]) -> Callable[[], bool]:
        save_file(
            {f"{part}.{name}": value for part, tensors in state.items() for name, value in tensors.items()},
            folder / "state.safetensors",
        )
        return lambda: True

    _run(pace, folder, save, "no fsync, in place")


def checkpoint_async(pace: Pace) -> None:
    """torch.distributed.checkpoint's `async_save` with staging buffers that are kept."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
    from torch.distributed.checkpoint.state_dict_saver import async_save

    folder = _folder()
    stager = DefaultStager(
        StagingOptions(
            use_pinned_memory=False, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=False
        )
    )

    def save(number: int, state: dict[str, Any]) -> Callable[[], bool]:
        writer = FileSystemWriter(folder / "state", overwrite=True)
        future = async_save(state, storage_writer=writer, async_stager=stager, no_dist=True)
        return future.done  # pyright: ignore[reportAttributeAccessIssue]

    _run(pace, folder, save, "fsync, in place")


def _limit(calibration: Calibration) -> float:
    """Reading the state once and writing the copy."""
    return 2 * state_bytes() / (1e9 * max(calibration["read_gb_per_s"], calibration["update_gb_per_s"]))


PEERS = "torch.save", "safetensors", "checkpoint async_save"
WORKLOAD = Workload(
    title=f"saving {state_bytes() / 1e6:.0f} MB beside a loop of MLP steps",
    unit="save",
    threads=1,
    launches=1,
    turns=5,
    contenders=(
        Contender(
            name=OURS,
            run="bench.save_stall:keeper",
            limit=_limit,
        ),
        Contender(name=PEERS[0], run="bench.save_stall:torch_save"),
        Contender(name=PEERS[1], run="bench.save_stall:safetensors_save"),
        Contender(name=PEERS[2], run="bench.save_stall:checkpoint_async"),
    ),
    goals=(Goal(peers=PEERS, kind="speedup"),),
)
