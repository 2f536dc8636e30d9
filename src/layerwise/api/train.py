"""The verb `train`: a recipe to a finished run, resumable at any moment. Torch is imported after the run exists on
disk.
"""

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerwise.api.configure import EXTENDS, Configured, changed_keys, configure
from layerwise.api.judge import attach_judge
from layerwise.core.config import parse, read_yaml, to_tree
from layerwise.core.console import Console
from layerwise.core.errors import ConfigError, LayerwiseError, StopRequested, UnsupportedError
from layerwise.track import files
from layerwise.track.run_directory import MetricsLog, RunDirectory
from layerwise.track.store import StateKeeper
from layerwise.train.recipe import Recipe

if TYPE_CHECKING:
    from layerwise.train.build import Session
    from layerwise.train.loop import Trainer


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run on disk.

    Args:
        path: its directory.
        metrics: final metrics, `test/accuracy` and the like; empty while it is not finished.
        status: "finished", "stopped", "failed", "killed" or "running".
    """

    path: Path
    metrics: dict[str, float] = field(default_factory=dict)
    status: str = "running"


def train(
    target: str,
    overrides: Iterable[tuple[str, Any]] = (),
    *,
    run: str | None = None,
    resume: str = "auto",
    nproc: int = 1,
    trust_code: bool = False,
    console: Console | None = None,
) -> Run:
    """Train a recipe, file or run to its end, going on where the run was left.

    Raises:
        LayerwiseError: see its exit code; `StopRequested` after SIGTERM or Ctrl-C.
    """
    console = console or Console()
    configured = configure(target, overrides, trust_code=trust_code)
    for note in configured.notes:
        console.info(note)
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _as_worker(configured, run, console)
    directory = _directory(configured, run)
    with directory.lock():
        done = _open(directory, configured, resume, console)
        if done is not None:
            return done
        if nproc == 1:
            return _guarded(directory, configured, console)
    return _launch(directory, nproc, trust_code, console)


def _directory(configured: Configured, run: str | None) -> RunDirectory:
    if run is not None:
        return RunDirectory(run)
    return RunDirectory(configured.run) if configured.run is not None else RunDirectory.next("runs", configured.name)


def _open(directory: RunDirectory, configured: Configured, resume: str, console: Console) -> Run | None:
    """Create the run or check that it is the same one; a finished run that is not extended is returned."""
    if not directory.exists():
        directory.create(configured.yaml())
        directory.update_env({"recipe": configured.name})
        console.info(f"run: {directory.path}")
        return None
    if resume == "never":
        raise ConfigError(
            f"{directory.path} already holds a run, and --resume never was given. Choose another directory with --run."
        )
    old = to_tree(parse(Recipe, read_yaml(directory.read_config(), str(directory.config)), trust=configured.trust))
    changed = changed_keys(old, configured.tree)
    refused = {key: pair for key, pair in changed.items() if key.split(".")[-1] not in EXTENDS}
    if refused:
        rows = ", ".join(f"{key}: {a!r} -> {b!r}" for key, (a, b) in list(refused.items())[:8])
        if directory.failed_at_once():
            console.info(f"run: {directory.path} (nothing was trained there yet; {rows})")
            directory.data.unlink(missing_ok=True)
            directory.task.unlink(missing_ok=True)
            directory.write_config(configured.yaml())
            return None
        raise ConfigError(
            f"{directory.path} was begun with another configuration ({rows}). Only {', '.join(EXTENDS)} may change; "
            "choose another --run."
        )
    if changed:
        directory.write_config(configured.yaml())
    elif directory.status()["status"] == "finished":
        console.info(
            f"{directory.path} is finished: {directory.status()['reason']}. Train it longer with epochs=... or "
            "max_steps=..."
        )
        return load_run(directory.path)
    console.info(f"run: {directory.path}{' (continued)' if directory.holds_state() else ''}")
    return None


def _guarded(directory: RunDirectory, configured: Configured, console: Console) -> Run:
    """Train in this process; what goes wrong is written into the run."""
    step = 0
    try:
        worker = _Training(directory, configured, console, _join(configured))
        try:
            return worker.run()
        finally:
            step = worker.step
            worker.world.close()
    except StopRequested as stop:
        directory.set_status("stopped", step, str(stop))
        raise StopRequested(f"{stop} Go on with: layerwise train {directory.path}") from None
    except KeyboardInterrupt:
        raise
    except LayerwiseError as error:
        with contextlib.suppress(LayerwiseError):  # the disk may be what failed
            directory.write_crash(traceback.format_exc())
            directory.set_status("failed", step, f"{error.exit_code}: {error}")
        raise
    except BaseException:
        with contextlib.suppress(LayerwiseError):
            directory.write_crash(traceback.format_exc())
            directory.set_status("failed", step, "1: internal error, see crash.log")
        raise


# ---------------------------------------------------------------------------------------------------- several processes


def _as_worker(configured: Configured, run: str | None, console: Console) -> Run:
    """One of several processes that torch's launcher started: rank 0 writes, all train."""
    directory = (
        RunDirectory(run) if run is not None else RunDirectory(configured.run) if configured.run is not None else None
    )
    if directory is None:
        raise ConfigError("Several processes must share a run: name it with --run.")
    if os.environ["RANK"] != "0":
        return _guarded_worker(directory, configured, Console(quiet=True))
    with directory.lock():
        done = _open(directory, configured, "auto", console)
        return done if done is not None else _guarded(directory, configured, console)


def _join(configured: Configured) -> Any:
    from layerwise.parallel.distributed import init_world

    wanted = configured.recipe.device
    return init_world(configured.recipe.parallel.timeout_s, wanted if wanted != "mps" else "cpu")


def _guarded_worker(directory: RunDirectory, configured: Configured, console: Console) -> Run:
    world = _join(configured)
    try:
        return _Training(directory, configured, console, world).run()
    finally:
        world.close()


def _launch(directory: RunDirectory, nproc: int, trust_code: bool, console: Console) -> Run:
    """Train the run in several processes of this machine."""
    from layerwise.parallel.launch import launch

    flags = [*(["--quiet"] if console.quiet else []), *(["--trust-code"] if trust_code else [])]
    failed = launch(nproc, ["train", str(directory.path), *flags])
    status = directory.status()
    if status["status"] == "finished":
        return load_run(directory.path)
    if status["status"] == "stopped":
        raise StopRequested(status["reason"])
    codes = ", ".join(f"process {rank} with {code}" for rank, code in failed.items()) or "none said why"
    raise UnsupportedError(f"{directory.path} did not finish: {status['reason'] or codes}")


# -------------------------------------------------------------------------------------------------------- one training


class _Training:
    """Builds the session, takes up the newest state, trains stage after stage, evaluates, writes model and report."""

    def __init__(self, directory: RunDirectory, configured: Configured, console: Console, world: Any) -> None:
        self.directory, self.configured, self.console, self.world = directory, configured, console, world
        self.writes = world.rank == 0
        self.step = 0
        self.log: MetricsLog | None = directory.metrics_log() if self.writes else None
        self.keeper: StateKeeper | None = None
        self.final_tables: dict[str, Any] = {}

    def run(self) -> Run:
        from layerwise.train.build import build

        began = time.monotonic()
        keep = self.configured.recipe.keep
        if self.writes:
            self.keeper = StateKeeper(self.directory.state, keep.last, keep.milestones, warn=self.console.warn)
        newest = self._newest()
        session = self.session = build(
            self.configured.recipe, self.world, start=newest is None, task_state=self.directory.read_task()
        )
        for note in session.notes:
            self.console.info(note)
        attach_judge(session, self.console)
        if self.writes:
            self._describe(session)
        self.world.barrier()
        self._check_choices(session, newest)
        self.console.info(f"ready in {time.monotonic() - began:.1f} s: {_summary(session)}")
        first_step, start = (0, 0) if newest is None else (newest["first_step"], newest["stage"])
        if newest is None and self.log is not None:
            self.log.cut(0)
        elif newest is not None and self.log is not None:
            self.log.cut(newest["metrics_offset"])
        trainer = self._train_stage(session, start, first_step, newest)
        for index in range(start + 1, len(session.stages())):
            first_step += trainer.step
            trainer = self._train_stage(session, index, first_step, None, elapsed_s=60 * trainer.minutes())
        run = self._finish(session, trainer, first_step + trainer.step)
        self.world.barrier()  # nobody leaves while another one still talks
        return run

    def _newest(self) -> dict[str, Any] | None:
        from layerwise.track.store import newest_state

        found = (
            self.keeper.newest() if self.keeper is not None else newest_state(self.directory.state, lambda text: None)
        )
        if found is None and self.directory.status()["step"] > 0:
            self.console.warn(f"{self.directory.state} holds no state: training starts again at step 0.")
        return None if found is None else found[1]  # pyright: ignore[reportReturnType]

    def _describe(self, session: "Session") -> None:
        from layerwise.data.splits import describe

        derived = {
            key: value
            for key, value in to_tree(session.recipe.model).items()
            if key not in self.configured.tree["model"] or self.configured.tree["model"][key] is None
        }
        self.directory.update_env(
            {
                **session.choices,
                "derived": {"model": derived},
                "recipe": self.directory.read_env().get("choices", {}).get("recipe", self.configured.name),
            }
        )
        if session.splits is not None and not self.directory.data.exists():
            files.write_json(self.directory.data, describe(session.splits))
        elif session.splits is not None and files.read_json(self.directory.data) != describe(session.splits):
            raise ConfigError(
                f"The data differs from what {self.directory.path} was begun with (see data.json). Start a new run "
                "with --run."
            )
        if session.task.keeps_state and not self.directory.task.exists():
            files.write_json(self.directory.task, session.task.state())
        self.directory.set_status("running", self.step)

    def _check_choices(self, session: "Session", newest: dict[str, Any] | None) -> None:
        if newest is None:
            return
        old = newest["choices"]
        different = [
            f"{key}: {old.get(key)!r} then, {value!r} now"
            for key, value in session.choices.items()
            if old.get(key) != value
        ]
        if different:
            raise UnsupportedError(
                f"{self.directory.path} cannot go on exactly here ({'; '.join(different)}). Use the same setting "
                f"(threads: OMP_NUM_THREADS), or start anew with init={self.directory.path}."
            )

    def _train_stage(
        self, session: "Session", index: int, first_step: int, state: dict[str, Any] | None, elapsed_s: float = 0.0
    ) -> "Trainer":
        stage = session.stages()[index]
        trainer = session.trainer(index, first_step, [])
        trainer.elapsed_s = elapsed_s  # of the stages before
        if state is not None:
            trainer.load(state["trainer"])
            if (
                trainer.finished
                and (trainer.settings.max_steps is None or trainer.step < trainer.settings.max_steps)
                and index == len(session.stages()) - 1
            ):
                trainer.extend()
        self.step = first_step + trainer.step
        title = stage.name if len(session.stages()) > 1 else self.configured.name
        with self.console.progress(title, trainer.settings.max_steps, trainer.step) as bar:
            trainer.hooks.append(_run_hooks(self, index, bar))
            try:
                trainer.fit()
            finally:
                self.step = first_step + trainer.step
                if self.log is not None:
                    self.log.flush()
                if self.keeper is not None and sys.exc_info()[0] in (None, StopRequested):
                    self.keeper.wait()
        return trainer

    def save(self, trainer: "Trainer", index: int) -> None:
        """Save state and model; collective over processes."""
        tree: dict[str, Any] = {
            "stage": index,
            "first_step": trainer.settings.first_step,
            "choices": self.session.choices,
            "trainer": trainer.state(),
            "metrics_offset": self.log.offset() if self.log is not None else 0,
        }
        if self.keeper is not None:
            self.keeper.save(trainer.settings.first_step + trainer.step, tree)
            self.directory.set_status("running", trainer.settings.first_step + trainer.step)

    def _finish(self, session: "Session", trainer: "Trainer", steps: int) -> Run:
        import torch

        with trainer.averaged():
            if trainer.best is not None:
                session.network.load_state_dict(trainer.best["weights"])
            if (difference := session.merge_adapter()) is not None and self.writes:
                self.console.info(f"adapters merged into the weights; outputs differ by {difference:.1e} (relative).")
            if self.writes:
                self._save_model(session, trainer, steps)
            metrics: dict[str, float] = {}
            has_test = not session.task.needs_data or (session.splits is not None and session.splits.test is not None)
            has_val = not session.task.needs_data or (session.splits is not None and session.splits.val is not None)
            session.network.eval()
            if has_test or has_val:
                part = "test" if has_test else "val"
                with torch.no_grad():
                    found, self.final_tables = session.evaluate(part, session.network, concludes=True)
                metrics = {f"{part}/{name}": value for name, value in found.items()}
            if not self.writes or self.log is None:
                return Run(path=self.directory.path, metrics=metrics, status="finished")
            self.log.append(
                {
                    "step": steps,
                    "time_s": round(60 * trainer.minutes(), 3),
                    **{k: v for k, v in metrics.items() if k.startswith("test/")},
                    "final": True,
                }
            )
            self.log.flush()
            from layerwise.api.report import write_final_report

            write_final_report(self.directory, session, trainer, metrics, self.final_tables, self.console)
            return Run(path=self.directory.path, metrics=metrics, status="finished")

    def _save_model(self, session: "Session", trainer: "Trainer", steps: int) -> None:
        from layerwise.train.artefact import save_model

        best = trainer.best
        name = trainer.settings.monitor[0] if trainer.settings.monitor else ""
        selected = (
            f"best val/{name} ({best['value']:.6g}) at step {best['step']}"
            if best is not None
            else f"last step ({steps})"
        )
        origin = {
            "recipe": self.configured.name,
            "selected": selected,
            "ema": session.recipe.ema is not None,
            "step": best["step"] if best else steps,
        }
        save_model(
            self.directory.model,
            session.network,
            session.recipe.model,
            task=(session.recipe.task, session.task),
            origin=origin,
        )


def _run_hooks(training: _Training, index: int, bar: Any) -> Any:
    from layerwise.train.loop import Hooks

    class RunHooks(Hooks):
        def __init__(self) -> None:
            from layerwise.track.tensorboard import open_events

            self._shown_at = 0.0
            self._events = open_events(training.directory.events, training.step) if training.writes else None

        def on_step(self, trainer: "Trainer") -> None:
            now = time.monotonic()
            if now - self._shown_at > 0.25:
                self._shown_at = now
                loss = trainer.current_loss()
                numbers: dict[str, float | str] = {} if loss is None else {"loss": loss}
                numbers |= trainer.shown
                numbers["samples/s"] = trainer.samples_per_s()
                bar.update(trainer.step, numbers)

        def on_metrics(self, trainer: "Trainer", line: dict[str, Any]) -> None:
            trainer.shown.update(
                {k.removeprefix("val/"): v for k, v in line.items() if k in ("val/accuracy", "val/loss")}
            )
            if training.log is not None:
                training.log.append(line)
            if self._events is not None:
                self._events.write(line)

        def on_evaluation(self, trainer: "Trainer") -> None:
            if training.writes:
                step = trainer.settings.first_step + trainer.step
                training.session.task.snapshot(trainer.network, training.directory.path / "pictures", step)

        def save(self, trainer: "Trainer") -> None:
            training.save(trainer, index)

        def on_warning(self, trainer: "Trainer", message: str) -> None:
            training.console.warn(message)

        def on_bad_batch(self, trainer: "Trainer", batch: dict[str, Any]) -> None:
            from layerwise.track.store import save_tree

            if training.writes:
                save_tree(training.directory.path / "bad-batch", {"batch": dict(batch), "step": trainer.step})

    return RunHooks()


def _summary(session: "Session") -> str:
    count = sum(p.numel() for p in session.network.parameters())
    parts = [f"{session.recipe.model.name} with {count:,} parameters"]
    if session.splits is not None and session.splits.train is not None:
        parts.append(f"{len(session.splits.train):,} training examples")
    threads = session.choices["threads"]
    parts.append(f"{session.device.type}, {session.precision}, {threads} thread{'s' if threads != 1 else ''}")
    return ", ".join(parts)


def load_run(path: str | Path) -> Run:
    """A run on disk with its final metrics.

    Raises:
        ConfigError: there is no run.
    """
    directory = RunDirectory(path)
    directory.read_config()
    status = directory.status()["status"]
    facts = directory.path / "report.json"
    metrics = files.read_json(facts)["metrics"] if facts.exists() else {}
    return Run(path=directory.path, metrics=metrics, status=str(status))


def dry_run(configured: Configured, console: Console) -> list[str]:
    """Build everything, take one step on one batch, and return the derived values as lines; nothing is written."""
    from dataclasses import replace

    from layerwise.train.build import build
    from layerwise.train.loop import LoopSettings

    session = build(configured.recipe)
    for note in session.notes:
        console.info(note)
    trainer = session.trainer(0, 0, [])
    total = trainer.settings.max_steps
    if total == 0:
        return ["no step to take: max_steps=0", f"resolved: {session.choices}", _summary(session)]
    settings: LoopSettings = replace(trainer.settings, max_steps=1)
    trainer.settings, trainer.evaluate = settings, None
    trainer.fit()
    derived = {
        k: v
        for k, v in to_tree(session.recipe.model).items()
        if configured.tree["model"].get(k) is None and v is not None
    }
    lines = [f"one step done: loss {trainer.last_loss:.6g}", f"total steps: {total}", f"resolved: {session.choices}"]
    return [*lines, *(f"model.{k}: {v} (from the data)" for k, v in derived.items()), _summary(session)]
