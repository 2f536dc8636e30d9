"""One side of a measurement in a process of its own, driven by the bench over stdin and stdout.

`python -m bench.worker MODULE:FUNCTION`
"""

import importlib
import multiprocessing
import os
import resource
import sys
from pathlib import Path

from bench.pace import FinishedError, NotRunError, Pace


def peak_memory_bytes() -> int:
    """Largest resident memory so far.

    Of this process and the workers that it still has, each counting what they share; or of its largest ended child, if
    that had more.
    """
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    found = sum(1024 * int(line.split()[1]) for pid in pids for line in _status(pid) if line.startswith("VmHWM:"))
    ended = (resource.RUSAGE_CHILDREN,) if found else (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return max(found, *(resource.getrusage(who).ru_maxrss * unit for who in ended))


def _status(pid: int | None) -> list[str]:
    path = Path(f"/proc/{pid}/status")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    module, _, name = sys.argv[1].partition(":")
    pace = Pace(channel, sys.stdin)
    try:
        getattr(importlib.import_module(module), name)(pace)
    except FinishedError:
        pace.send(peak_memory_bytes=peak_memory_bytes())
    except NotRunError as reason:
        pace.send(not_run=str(reason))


if __name__ == "__main__":
    main()
