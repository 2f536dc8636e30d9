"""What the machine can do: the limits that figures are held against, and what else it was busy with meanwhile."""

import os
import platform
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.pace import Pace

_SIZE = 2048  # of the square product
_READ_BYTES = 2**30
_GRAIN = 32768  # elements a thread in torch's elementwise operators


def measure(pace: Pace) -> None:
    """The side that calibrates: best of several tries each, with as many threads as torch was given."""
    import torch

    threads = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Any] = {"threads": threads}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(_SIZE, _SIZE, generator=generator).to(dtype) for _ in range(2))
        found[f"{name}_gflop_per_s"] = 2e-9 * _SIZE**3 / _best(lambda a=a, b=b: a @ b, 5)
    block = torch.randn(_READ_BYTES // 4, generator=generator)
    found["read_gb_per_s"] = 1e-9 * _READ_BYTES / _best(block.sum, 8)
    found["update_gb_per_s"] = 2e-9 * _READ_BYTES / _best(lambda: block.add_(1.0), 8)
    one = torch.ones(1)
    found["dispatch_us"] = 1e6 * _best(lambda: one.add_(1.0), 50, 500)
    found["fork_us"] = _fork_s(torch, threads) * 1e6 if threads > 1 else 0.0
    pace.ready()
    pace.window(1.0, **found)


def _best(work: Callable[[], object], tries: int, repeats: int = 1) -> float:
    """Shortest time of one call, in seconds."""
    work()
    times: list[float] = []
    for _ in range(tries):
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        times.append((time.perf_counter() - began) / repeats)
    return min(times)


def _fork_s(torch: Any, threads: int) -> float:
    """An operator that is just split over all threads, less its share of the work done by one."""
    x = torch.ones(threads * _GRAIN)
    split = _best(lambda: x.add_(1.0), 50, 50)
    torch.set_num_threads(1)
    whole = _best(lambda: x.add_(1.0), 50, 50)
    torch.set_num_threads(threads)
    return max(0.0, split - whole / threads)


# --------------------------------------------------------------------------------------------------------- the machine


def machine() -> dict[str, Any]:
    """Processor, its widest instructions for products, cores, memory, system."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*:\s*(.+)", info)
    flags = re.search(r"flags\s*:\s*(.+)", info)
    known = flags[1].split() if flags else []
    wanted = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "instructions": [flag for flag in wanted if flag in known],
        "cores": cores(),
        "memory_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slug(machine: dict[str, Any]) -> str:
    """A folder name for the machine: `intel-xeon-processor-2-cores-amx-bf16`."""
    best = machine["instructions"][:1]
    text = " ".join([re.sub(r"\((R|TM)\)", "", machine["processor"]), str(machine["cores"]), "cores", *best])
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class OtherWork:
    """Cores that other processes kept busy between `__init__` and `cores`, the hypervisor's other guests included.

    On Linux; elsewhere not known.
    """

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy_s(), _own_s()
        self.load = os.getloadavg()[0]

    def cores(self) -> float | None:
        busy = _busy_s()
        if busy is None or self._busy is None:
            return None
        return max(0.0, (busy - self._busy - (_own_s() - self._own)) / (time.monotonic() - self._began))


def _busy_s() -> float | None:
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, irq, soft, steal = (int(v) for v in path.read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)
