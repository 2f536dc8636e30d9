"""Start several processes of this package on one machine through torch's launcher; workers die with the process that
started them.
"""

import ctypes
import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies. Without effect where there is no such call (not
    Linux).
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died in between
        os._exit(1)


def launch(nproc: int, arguments: Sequence[str]) -> dict[int, int]:
    """Run `python -m layerwise ARGUMENTS` in `nproc` processes until all have ended.

    Workers find each other by RANK, WORLD_SIZE and the address that torch's launcher sets, share the machine's cores,
    are sent on SIGTERM and
    SIGINT, and die with this process (`die_with_parent`).

    Returns:
        Rank -> exit code of those that failed; empty if all ended well.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # each worker says itself what went wrong
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nproc,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "layerwise", *arguments)
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException as error:
        return {0: -int(error.sigval)}
    return {}
