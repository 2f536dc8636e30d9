"""Stop on request: SIGTERM and Ctrl-C set a flag that the loop reads after each step; a second one stops at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class StopFlag:
    """Context in which SIGTERM and SIGINT ask the loop to save and stop.

    Outside the main thread signals cannot be caught; the flag then stays False and may be set by `request`.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._before: dict[signal.Signals, object] = {}

    def request(self, reason: str) -> None:
        self.requested = reason

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.requested is not None:
            raise KeyboardInterrupt(name)
        self.requested = name

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._before.clear()
