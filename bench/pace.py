"""What a side of a measurement is written against: it runs window after window, and the bench decides when."""

import json
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator
from typing import Any, TextIO


class FinishedError(Exception):
    """The bench has all it wants; raised from `Pace.window`, through whatever loop the side runs in."""


class NotRunError(Exception):
    """This side cannot run here; the message says why."""


class Pace:
    """Times windows of work, and blocks between turns so that one side runs at a time.

    Args:
        send: writes a line to the bench.
        receive: reads a line from the bench; empty at its end.

    Example:
        def ours(pace):
            step = set_up()
            step()
            pace.first()
            pace.ready()
            while True:
                step()
                pace.window(1)
    """

    def __init__(self, send: TextIO, receive: TextIO) -> None:
        self._out, self._in = send, receive
        self._left = 0
        self._done: list[dict[str, Any]] = []
        self._wall = self._cpu = 0.0

    def send(self, **message: Any) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def first(self) -> None:
        """The first unit of work is done: time since the process was started."""
        self.send(first_s=time.time() - float(os.environ["BENCH_STARTED"]))

    def ready(self, check: float | None = None, note: str = "") -> None:
        """Warm. Blocks until the first turn.

        Args:
            check: a number that sides doing the same work share.
            note: precision or implementation, for the table.
        """
        self.send(ready=True, check=check, note=note)
        self._wait()

    def steps(
        self, values: Iterator[float], note: str = "", *, warm_up: int, window: int = 1, check: float | None = None
    ) -> None:
        """Take steps without end, until the bench has all it wants.

        Args:
            values: takes a step when it is asked for the next one.
            note: see `ready`.
            warm_up: steps before the first window.
            window: steps in one.
            check: see `ready`; None takes what the first step gave.
        """
        first = next(values)
        self.first()
        for _ in range(warm_up - 1):
            next(values)
        self.ready(first if check is None else check, note)
        while True:
            for _ in range(window):
                next(values)
            self.window(window)

    def window(self, work: float, *, seconds: float | None = None, **extra: float) -> None:
        """A window ended. Returns when the next one begins.

        Args:
            work: units done in it.
            seconds: what it took, where that is not the time since the window began.
            extra: other numbers to report the medians of.

        Raises:
            FinishedError: there is no next one.
        """
        wall, cpu = time.perf_counter() - self._wall, _cpu_s() - self._cpu
        one = {"work": work, "seconds": wall if seconds is None else seconds, **extra}
        # CPU time is of the whole window, and what workers that still run have used is not known.
        known = seconds is None and not multiprocessing.active_children()
        self._done.append({**one, "cpu_s": cpu} if known else one)
        self._left -= 1
        if self._left == 0:
            self.send(windows=self._done)
            self._done = []
            self._wait()
        self._wall, self._cpu = time.perf_counter(), _cpu_s()

    def _wait(self) -> None:
        line = self._in.readline()
        if not line.strip():
            raise FinishedError
        self._left = int(line)
        self._wall, self._cpu = time.perf_counter(), _cpu_s()


def _cpu_s() -> float:
    """CPU time of this process and its ended children."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)
