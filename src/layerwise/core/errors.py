"""Errors a person may meet, each with the exit code of the command that raises it.

A message is one or two plain lines: the thing, the value, the remedy. Anything that is not a `LayerwiseError` is an
internal error (exit code 1).
"""

EXIT_DONE = 0
EXIT_INTERNAL = 1
EXIT_WRONG = 2
EXIT_CANNOT = 3
EXIT_STOPPED = 75


class LayerwiseError(Exception):
    """Base of all errors that are explained to the user without a traceback."""

    exit_code = EXIT_INTERNAL


class ConfigError(LayerwiseError, ValueError):
    """The command or its configuration is wrong."""

    exit_code = EXIT_WRONG


class DataError(ConfigError):
    """The data given cannot be used as it is: missing file, empty folder, one class, unreadable image."""


class CheckpointError(ConfigError):
    """A file of weights or of training state is damaged or does not fit."""


class NumericsError(LayerwiseError):
    """Training produced NaN or infinity; the message names the first bad module and the samples."""

    exit_code = EXIT_CANNOT


class UnsupportedError(LayerwiseError):
    """It cannot work here: does not fit, unsupported on this machine, missing extra."""

    exit_code = EXIT_CANNOT


class StorageError(UnsupportedError):
    """The disk is full or the directory cannot be written."""


class MissingExtraError(UnsupportedError):
    """An optional package is needed.

    Args:
        package: name of the package that could not be imported.
        extra: name of the extra of this package that installs it.
        purpose: what it was needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}. Install it with: pip install 'layerwise[{extra}]'")


class LockedError(UnsupportedError):
    """Another process is writing to the run."""


class StopRequested(LayerwiseError):
    """Training was asked to stop (SIGTERM, Ctrl-C) and has saved its state."""

    exit_code = EXIT_STOPPED
