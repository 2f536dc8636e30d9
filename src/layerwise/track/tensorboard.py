"""TensorBoard events of a run, where tensorboard is installed."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class EventWriter:
    """Scalars as TensorBoard events.

    Args:
        writer: torch's writer.
    """

    def __init__(self, writer: "SummaryWriter") -> None:
        self._writer = writer

    def write(self, line: Mapping[str, Any]) -> None:
        """Add the numbers of a line of the metrics log at its step."""
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Write what waits."""
        self._writer.close()


def open_events(folder: Path, first_step: int = 0) -> EventWriter | None:
    """A writer into `folder`; None where tensorboard is not installed (an extra, never needed).

    Args:
        folder: made if absent.
        first_step: of a resumed run, the first step that will be written; earlier events from there on are hidden.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return EventWriter(SummaryWriter(str(folder), purge_step=first_step if first_step else None))
