"""What a person sees: messages on stderr, a live bar on a terminal, throttled plain lines elsewhere."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol


class Progress(Protocol):
    """A bar that can be moved and told numbers."""

    def update(self, done: int, numbers: dict[str, float | str]) -> None: ...


class _PlainProgress:
    """A line at most every few seconds."""

    def __init__(self, console: "Console", title: str, total: int | None, interval_s: float = 5.0) -> None:
        self._console, self._title, self._total, self._interval_s = console, title, total, interval_s
        self._shown_at = time.monotonic()

    def update(self, done: int, numbers: dict[str, float | str]) -> None:
        now = time.monotonic()
        if now - self._shown_at >= self._interval_s:
            self._shown_at = now
            of = f"/{self._total}" if self._total else ""
            self._console.info(
                f"{self._title} {done}{of}  " + "  ".join(f"{k} {_number(v)}" for k, v in numbers.items())
            )


class _Silent:
    def update(self, done: int, numbers: dict[str, float | str]) -> None:
        pass


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


class Console:
    """Messages and progress on stderr; stdout is left to results.

    Args:
        quiet: only warnings and errors.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._rich: Any = None

    def info(self, text: str) -> None:
        if not self.quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        self._print(f"warning: {text}")

    def _print(self, text: str) -> None:
        if self._rich is not None:
            self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, title: str, total: int | None, done: int = 0) -> Generator[Progress]:
        """A progress bar with rate and ETA on a terminal, plain lines otherwise, nothing when quiet."""
        if self.quiet:
            yield _Silent()
            return
        if not sys.stderr.isatty():
            yield _PlainProgress(self, title, total)
            return
        from rich.console import Console as RichConsole
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=RichConsole(stderr=True), refresh_per_second=8) as bar:
            row = bar.add_task(title, total=total, completed=done, numbers="")
            self._rich = bar

            class Live:
                def update(self, done: int, numbers: dict[str, float | str]) -> None:
                    bar.update(row, completed=done, numbers="  ".join(f"{k} {_number(v)}" for k, v in numbers.items()))

            try:
                yield Live()
            finally:
                self._rich = None
