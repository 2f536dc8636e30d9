"""A run on disk: its files, lock, metrics log. Imports no torch, so that a run exists before torch is loaded."""

import contextlib
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from layerwise.core.config import read_yaml
from layerwise.core.errors import CheckpointError, ConfigError, LockedError, StorageError
from layerwise.track import files

Status = Literal["running", "finished", "stopped", "failed"]

# Packages whose versions can change a result or a file.
_PACKAGES = (
    "layerwise", "torch", "numpy", "safetensors", "PyYAML", "typer", "rich", "pillow", "scikit-learn", "scipy",
    "matplotlib", "jaxtyping", "tokenizers", "sentencepiece", "sacrebleu", "pyarrow", "datasets", "huggingface_hub",
    "transformers", "soundfile", "soxr", "gymnasium", "fastapi", "uvicorn", "onnx", "onnxruntime", "torchao",
    "tensorboard", "mlflow", "ray",
)  # fmt: skip
_LOCK_WAIT_S = 0.3  # `list_runs` may hold the lock for an instant


# ------------------------------------------------------------------------------------------------------------ metrics


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, appended in blocks.

    Keys that begin with `time` and `samples_per_s` are timed; everything else is reproduced exactly by a resumed run.
    NaN and infinities are written as the strings "nan", "inf", "-inf", since JSON has no such numbers.

    Args:
        path: the file; made by the first flush.
        flush_lines, flush_s: lines are written when this many wait, or when the last write is this long ago.
    """

    def __init__(self, path: str | os.PathLike[str], flush_lines: int = 50, flush_s: float = 2.0) -> None:
        self.path = Path(path)
        self._flush_lines, self._flush_s = flush_lines, flush_s
        self._waiting: list[str] = []
        self._handle: int | None = None
        self._flushed_at = time.monotonic()

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line; numbers must be Python numbers."""
        self._waiting.append(_metrics_line(line))
        if len(self._waiting) >= self._flush_lines or time.monotonic() - self._flushed_at > self._flush_s:
            self.flush()

    def flush(self) -> None:
        """Hand waiting lines to the operating system.

        Raises:
            StorageError: full disk or the like.
        """
        with files.storage_errors(self.path):
            if self._waiting:
                text, self._waiting = "".join(self._waiting), []
                files.write_all(self._open(), text.encode())
        self._flushed_at = time.monotonic()

    def offset(self) -> int:
        """Size of the log in bytes after everything so far is safe on disk; goes into the training state."""
        self.flush()
        with files.storage_errors(self.path):
            handle = self._open()
            os.fsync(handle)
            return os.fstat(handle).st_size

    def cut(self, offset: int) -> None:
        """Forget all lines after `offset`, which came from `offset()`: they will be made again.

        Raises:
            CheckpointError: the log is shorter than that, or no line ends there.
        """
        self._waiting.clear()
        with files.storage_errors(self.path):
            handle = self._open()
            size = os.fstat(handle).st_size
            if offset > size or (offset and os.pread(handle, 1, offset - 1) != b"\n"):
                raise CheckpointError(
                    f"{self.path} is damaged: the state belongs to byte {offset} of {size}; no line ends there."
                )
            os.ftruncate(handle, offset)
            os.fsync(handle)

    def read(self) -> list[dict[str, Any]]:
        """All lines, those that wait included; a torn last line (a killed writer) is left out.

        Raises:
            CheckpointError: another line is damaged.
        """
        self.flush()
        return self._parse(self.path.read_bytes(), 1) if self.path.exists() else []

    def last(self, tail_bytes: int = 1 << 18) -> dict[str, Any]:
        """The last value of every key in the last `tail_bytes` of the log."""
        self.flush()
        if not self.path.exists():
            return {}
        with open(self.path, "rb") as file:
            if file.seek(0, os.SEEK_END) > tail_bytes:
                file.seek(-tail_bytes, os.SEEK_END)
                file.readline()
            else:
                file.seek(0)
            lines = self._parse(file.read(), None)
        return {key: value for line in lines for key, value in line.items()}

    def close(self) -> None:
        """Write what waits and close the file."""
        self.flush()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _open(self) -> int:
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._drop_torn_line(self._handle)
        return self._handle

    @staticmethod
    def _drop_torn_line(handle: int) -> None:
        """Cut off what a killed writer left without a line end, so that the next line starts on its own."""
        end = os.fstat(handle).st_size
        while end and os.pread(handle, 1, end - 1) != b"\n":
            start = max(0, end - 4096)
            end = start + os.pread(handle, end - start, start).rfind(b"\n") + 1
        if end < os.fstat(handle).st_size:
            os.ftruncate(handle, end)

    def _parse(self, data: bytes, first: int | None) -> list[dict[str, Any]]:
        lines = data.split(b"\n")[:-1]  # what follows the last line end is torn or empty
        found: list[dict[str, Any]] = []
        for number, line in enumerate(lines):
            try:
                values = json.loads(line)
                found.append(
                    {
                        key: _NOT_FINITE.get(value, value) if isinstance(value, str) else value
                        for key, value in values.items()
                    }
                )
            except (ValueError, AttributeError) as error:
                where = "near its end" if first is None else f"line {first + number}"
                raise CheckpointError(f"{self.path}, {where}: damaged, not a JSON object.") from error
        return found


_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _metrics_line(line: Mapping[str, Any]) -> str:
    values = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in line.items()
    }
    return json.dumps(values, allow_nan=False) + "\n"


# --------------------------------------------------------------------------------------------------------------- run

_held: set[int] = set()


def _close_held_locks() -> None:
    """In a forked child: a worker that outlives its launcher must not keep the run locked."""
    for handle in _held:
        os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_close_held_locks)


def _directory_name(recipe: str) -> str:
    return re.sub(r"[^\w.-]+", "-", recipe).strip("-.") or "run"


def _numbers(root: Path, name: str) -> list[int]:
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    return [int(found[1]) for entry in os.listdir(root) if (found := pattern.fullmatch(entry))]


class RunDirectory:
    """Paths and small files of one run. Building one touches nothing.

    Args:
        path: the directory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.model = self.path / "model"
        self.state = self.path / "state"
        self.env = self.path / "env.json"
        self.data = self.path / "data.json"
        self.task = self.path / "task.json"
        self.report = self.path / "report.html"
        self.card = self.path / "card.md"
        self.crash = self.path / "crash.log"
        self.status_file = self.path / "status.json"
        self.lock_file = self.path / ".lock"
        self.events = self.path / "events"

    def __repr__(self) -> str:
        return f"RunDirectory({os.fspath(self.path)!r})"

    # making

    @classmethod
    def next(cls, root: str | os.PathLike[str], recipe: str) -> "RunDirectory":
        """Make the directory `root/<recipe>-<n>` with the first free n; no two processes get the same."""
        root, name = Path(root), _directory_name(recipe)
        with files.storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            number = max(_numbers(root, name), default=0) + 1
            while True:
                try:
                    os.mkdir(root / f"{name}-{number}")
                except FileExistsError:
                    number += 1
                else:
                    return cls(root / f"{name}-{number}")

    @classmethod
    def last(cls, root: str | os.PathLike[str], recipe: str) -> "RunDirectory | None":
        """The run of the highest number that `next` made of that name; None where there is none."""
        root, name = Path(root), _directory_name(recipe)
        numbers = _numbers(root, name) if root.is_dir() else []
        return cls(root / f"{name}-{max(numbers)}") if numbers else None

    def read_task(self) -> dict[str, Any] | None:
        """What the task had learned when the run began; None where it keeps nothing."""
        return files.read_json(self.task) if self.task.exists() else None

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.config.exists()

    def prepare(self) -> None:
        """Make the directory if absent.

        Raises:
            ConfigError: it holds other things than a run.
            StorageError: it cannot be made.
        """
        with files.storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            found = sorted(
                name
                for name in os.listdir(self.path)
                if name != self.lock_file.name and not name.startswith(files.TEMPORARY)
            )
        if found and not self.exists():
            raise ConfigError(
                f"{self.path} is not empty and not a run (it has {found[0]!r}). Choose another directory with --run."
            )

    def create(self, config: str) -> None:
        """Begin a run: directory, `config.yaml` (which makes it a run) and `env.json`.

        Raises:
            ConfigError: a run was begun here before, or the directory holds other things.
        """
        self.prepare()
        if self.exists():
            raise ConfigError(f"{self.path} already holds a run. Continue it with: layerwise train {self.path}")
        files.write_text(self.config, config)
        files.write_json(self.env, environment())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that writes to the run. The lock dies with the process, not with its children.

        Raises:
            LockedError: another process writes; it is named.
            StorageError: the lock file cannot be made.
        """
        self.prepare()
        with files.storage_errors(self.lock_file):
            handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _held.add(handle)
        try:
            self._take(handle)
            yield
            with contextlib.suppress(OSError):  # the content is for people; the lock itself ends with the handle
                os.ftruncate(handle, 0)
        finally:
            if handle in _held:  # a forked child has closed it already
                _held.remove(handle)
                os.close(handle)

    def _take(self, handle: int) -> None:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LockedError(
                        f"{self.path} is being written by {_owner(handle)}. Wait for it, stop it, or choose --run."
                    ) from None
                time.sleep(0.02)
            except OSError as error:
                raise StorageError(
                    f"Cannot lock {self.lock_file}: {error.strerror}. To go on, choose a directory on another disk."
                ) from error
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)}
        with files.storage_errors(self.lock_file):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(owner).encode(), 0)

    def is_locked(self) -> bool:
        """Whether a process is writing to the run."""
        try:
            handle = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(handle)

    # small files

    def metrics_log(self) -> MetricsLog:
        """The metrics log, opened when first used."""
        return MetricsLog(self.metrics)

    def read_config(self) -> str:
        """Text of `config.yaml`.

        Raises:
            ConfigError: there is no run here.
        """
        try:
            return self.config.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"{self.path} is not a run: it has no config.yaml.") from None

    def write_config(self, config: str) -> None:
        """Replace `config.yaml`: a run that is extended."""
        files.write_text(self.config, config)

    def read_env(self) -> dict[str, Any]:
        """`env.json`; empty if the run ended before it was written."""
        return files.read_json(self.env) if self.env.exists() else {}

    def update_env(self, choices: Mapping[str, Any]) -> None:
        """Add resolved choices (device, precision, threads ...) to `env.json` under `choices`."""
        env = self.read_env() or environment()
        files.write_json(self.env, {**env, "choices": {**env.get("choices", {}), **choices}})

    def set_status(self, status: Status, step: int, reason: str = "") -> None:
        """Write `status.json`; the reason is one plain line."""
        files.write_json(self.status_file, {"status": status, "step": step, "reason": reason})

    def status(self) -> dict[str, Any]:
        """`status.json`, or that of a run without a step yet. One that says it runs and is not locked was `killed`."""
        found = {"status": "running", "step": 0, "reason": ""}
        if self.status_file.exists():
            found = files.read_json(self.status_file)
        if found["status"] == "running" and not self.is_locked():
            return {**found, "status": "killed", "reason": f"Continue it with: layerwise train {self.path}"}
        return found

    def failed_at_once(self) -> bool:
        """Whether the run failed before its first step, so that there is nothing in it to lose."""
        found = self.status()
        return found["status"] == "failed" and found["step"] == 0 and not self.holds_state()

    def holds_state(self) -> bool:
        """Whether there is a state to go on from."""
        return self.state.is_dir() and any(self.state.iterdir())

    def write_crash(self, traceback: str) -> None:
        """Add a traceback to `crash.log`."""
        with files.storage_errors(self.crash), open(self.crash, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S%z')}\n{traceback.rstrip()}\n\n")


# ------------------------------------------------------------------------------------------------------- environment


def environment() -> dict[str, Any]:
    """Versions, machine and commit, found without importing what they are about."""
    versions: dict[str, str] = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": list(sys.argv),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": {
            "cpu": _cpu(),
            "cores": _cores(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
        "git": _git(),
        "versions": versions,
        "choices": {},
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git() -> dict[str, Any] | None:
    """Commit of the working directory and whether files differ from it; None outside a repository or without git."""

    def ask(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        return {
            "commit": ask("rev-parse", "HEAD"),
            "changed": bool(ask("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def _owner(handle: int) -> str:
    """The process that a lock file names."""
    try:
        owner = json.loads(os.pread(handle, 1 << 16, 0))
        return f"process {owner['pid']} on {owner['host']} ({owner['command']})"
    except (ValueError, KeyError, TypeError):
        return "another process"


# ---------------------------------------------------------------------------------------------------------- many runs


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One line of `layerwise runs`.

    Args:
        run: the directory.
        status: running, finished, stopped, failed, killed.
        step: the last step that is known.
        started: local time, ISO 8601; empty if unknown.
        model, data: names in the configuration; empty if it has none.
        metrics: last value of every evaluation metric (`val/...`, `test/...`).
    """

    run: RunDirectory
    status: str
    step: int
    started: str
    model: str
    data: str
    metrics: dict[str, float]


def summarise(run: RunDirectory) -> RunSummary:
    """What `layerwise runs` shows of a run."""
    config = read_yaml(run.read_config(), str(run.config)) or {}
    status = run.status()
    last = run.metrics_log().last()
    return RunSummary(
        run=run,
        status=status["status"],
        step=max(int(status["step"]), int(last.get("step", 0))),
        started=run.read_env().get("started", ""),
        model=_component_name(config.get("model")),
        data=_component_name(config.get("data")),
        metrics={key: value for key, value in last.items() if key.startswith(("val/", "test/"))},
    )


def list_runs(root: str | os.PathLike[str]) -> list[RunSummary]:
    """All runs directly under `root`, oldest first; none if there is no such directory."""
    root = Path(root)
    if not root.is_dir():
        return []
    found = [summarise(RunDirectory(path)) for path in root.iterdir() if (path / "config.yaml").is_file()]
    return sorted(found, key=lambda summary: (summary.started, summary.run.path.name))


def diff_runs(a: RunDirectory, b: RunDirectory) -> dict[str, dict[str, tuple[Any, Any]]]:
    """What differs: section (`config`, `metrics`, `environment`) -> dotted key -> (value in a, value in b).

    What is absent is None.
    """
    configs = [_flatten(read_yaml(run.read_config(), str(run.config))) for run in (a, b)]
    metrics = [summarise(run).metrics for run in (a, b)]
    environments = [
        _flatten({k: v for k, v in run.read_env().items() if k not in ("started", "command")}) for run in (a, b)
    ]
    pairs = {"config": configs, "metrics": metrics, "environment": environments}
    return {section: _differences(*both) for section, both in pairs.items()}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        key: (a.get(key), b.get(key)) for key in [*a, *(key for key in b if key not in a)] if a.get(key) != b.get(key)
    }


def _flatten(tree: Any, where: str = "") -> dict[str, Any]:
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        return {where: tree}
    return {
        key: value
        for name, item in items
        for key, value in _flatten(item, f"{where}.{name}" if where else str(name)).items()
    }


def _component_name(node: Any) -> str:
    return str(node.get("name", "")) if isinstance(node, Mapping) else str(node or "")
