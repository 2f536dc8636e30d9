"""The one training loop.

A step runs each phase that is due: micro-batches from the source, counts from the data, forward and backward of every
micro-batch, one reduction
of gradients over processes, clipping, the optimiser. `Trainer` knows nothing of recipes, run directories or the command
line; those are
`Hooks`.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import CheckpointError, ConfigError, NumericsError, StopRequested
from layerwise.core.suggest import did_you_mean
from layerwise.data.source import Splittable, StepSource
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.ops.random import Draws
from layerwise.optim.state import load_named_state, named_state, set_learning_rate
from layerwise.parallel.distributed import World
from layerwise.train.clip import clip_gradients
from layerwise.train.ema import EMAWeights
from layerwise.train.precision import Precision, autocast
from layerwise.train.signals import StopFlag
from layerwise.train.tripwires import bad_parameters, first_bad_module, is_out_of_memory, without_gradient

Tree = dict[str, Any]
Evaluate = Callable[[nn.Module], tuple[dict[str, float], Tree]]


@dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """A phase with its optimiser built.

    Args:
        name: what the objective knows it by.
        parameters: (name, parameter) of everything that it trains.
        optimizer: over those parameters; `lr` of its groups is set every step.
        schedule: (step, total steps, steps an epoch) -> factor of the learning rate.
        every, repeat, clip: as in `recipe.Phase`.
    """

    name: str
    parameters: list[tuple[str, nn.Parameter]]
    optimizer: torch.optim.Optimizer
    schedule: Callable[[int, int | None, int | None], float]
    every: int = 1
    repeat: int = 1
    clip: float | None = None


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """What decides the loop's course.

    Args:
        max_steps: optimiser steps of this training; None runs until `max_minutes`.
        max_minutes: training time, over all sittings.
        seed: of noise draws.
        precision: "fp32" or "bf16", resolved.
        device: where batches go.
        log_every: steps a line of metrics.
        eval_every_steps, eval_every_minutes: cadence of evaluation; both None: at the end only.
        monitor: (metric, "max" or "min") that selects weights; None keeps the last.
        patience: evaluations without improvement before stopping.
        stop_at: value of the monitored metric that ends the training once an evaluation reaches it.
        save_every_steps, save_every_minutes: cadence of `Hooks.save`.
        first_step: steps done by earlier stages, added to every step that is shown.
        channels_last: pictures are handed to the network in that memory format.
    """

    max_steps: int | None
    max_minutes: float | None = None
    seed: int = 0
    precision: Precision = "fp32"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    log_every: int = 50
    eval_every_steps: int | None = None
    eval_every_minutes: float | None = None
    monitor: tuple[str, str] | None = None
    patience: int | None = None
    stop_at: float | None = None
    save_every_steps: int | None = None
    save_every_minutes: float | None = None
    first_step: int = 0
    channels_last: bool = False


class Hooks:
    """What happens around the loop; a run directory, a progress bar or a test overrides what it needs."""

    def on_step(self, trainer: "Trainer") -> None:
        """After every step."""

    def on_metrics(self, trainer: "Trainer", line: Tree) -> None:
        """A line of metrics: training values every `log_every` steps, validation values after an evaluation."""

    def on_evaluation(self, trainer: "Trainer") -> None:
        """Within an evaluation: the network has its averaged weights, if any, in eval mode and without gradients."""

    def save(self, trainer: "Trainer") -> None:
        """The state is due to be saved; `trainer.state()` gives it."""

    def on_warning(self, trainer: "Trainer", message: str) -> None:
        """Something that a person should know."""

    def on_bad_batch(self, trainer: "Trainer", batch: Batch) -> None:
        """The micro-batch on which the loss was not finite."""


class Trainer:
    """Trains a network by an objective on the batches of a source.

    Args:
        network: the network, on its device.
        objective: the way of learning, set up with the network.
        source: gives micro-batches.
        phases: parts of a step, in order.
        settings: see `LoopSettings`.
        evaluate: network in eval mode -> (metrics, tables); None never evaluates.
        ema: averaged weights, which are then evaluated and selected.
        world: the processes; None is one.
        hooks: called around steps.

    Example:
        See `layerwise.train.build` for how a recipe becomes a Trainer.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        source: StepSource,
        phases: Sequence[PhasePlan],
        settings: LoopSettings,
        *,
        evaluate: Evaluate | None = None,
        ema: EMAWeights | None = None,
        world: World | None = None,
        hooks: Sequence[Hooks] = (),
    ) -> None:
        self.network, self.objective, self.source, self.phases = network, objective, source, list(phases)
        self.settings, self.evaluate, self.ema, self.hooks = settings, evaluate, ema, list(hooks)
        self.world = world or World()
        self.step = 0
        self.finished = False
        self.reason = ""
        self.elapsed_s = 0.0  # training time of earlier sittings
        self.best: Tree | None = None  # {"value", "step", "weights"}
        self.evaluations_since_best = 0
        self.last_tables: Tree = {}
        self.last_loss = math.nan
        self.shown: dict[str, float | str] = {}  # newest validation values, for progress bars
        self._sums: dict[str, float] = {}  # of the metrics since the last line
        self._names = sorted({name for plan in self.phases for name, _ in plan.parameters})
        self._parameters = {plan.name: [parameter for _, parameter in plan.parameters] for plan in self.phases}
        self._scalars: dict[tuple[float, torch.dtype, torch.device], Tensor] = {}
        self._switch = len(self.phases) > 1
        self._follows = type(objective).after_step is not Objective.after_step
        self._started = self._saved_at = self._evaluated_at = self._line_at = time.monotonic()
        self._samples = 0

    # ------------------------------------------------------------------------------------------------------- the loop

    def fit(self) -> None:
        """Train to the end.

        Raises:
            StopRequested: SIGTERM or Ctrl-C came; the state was saved.
            NumericsError: the loss was NaN or infinite.
        """
        if self.finished:
            return
        now = time.monotonic()
        self._started = self._saved_at = self._evaluated_at = self._line_at = now
        self.network.train()
        self.objective.train()
        with StopFlag() as stop:
            while not self._over():
                requests = self._train_step(stop.requested is not None, self._save_is_due())
                for hook in self.hooks:
                    hook.on_step(self)
                if self.step % self.settings.log_every == 0:
                    self._log_line()
                if self._evaluation_is_due():
                    self._evaluate()
                if requests["stop"]:
                    self._save()
                    raise StopRequested(
                        f"Stopped on request at step {self.settings.first_step + self.step}; the state is saved."
                    )
                if requests["save"] or self._every(self.settings.save_every_steps):
                    self._save()
        if self._sums:
            self._log_line()
        if self.evaluate is not None and self._last_evaluated != self.step:
            self._evaluate()
        self.finished = True
        self.elapsed_s += time.monotonic() - self._started
        self._started = time.monotonic()
        self._save()

    _last_evaluated = -1

    def _over(self) -> bool:
        settings = self.settings
        if self._good_enough():
            assert settings.monitor is not None
            self.reason = f"val/{settings.monitor[0]} reached eval.stop_at={settings.stop_at:g}"
        elif settings.max_steps is not None and self.step >= settings.max_steps:
            self.reason = (
                f"all {settings.max_steps} steps done" if settings.max_steps else "nothing was trained: max_steps=0"
            )
        elif settings.max_minutes is not None and self.minutes() >= settings.max_minutes:
            self.reason = f"max_minutes={settings.max_minutes:g} reached"
        elif settings.patience is not None and self.evaluations_since_best >= settings.patience:
            self.reason = (
                f"no better {settings.monitor[0] if settings.monitor else 'value'} in {settings.patience} evaluations"
            )
        return bool(self.reason)

    def _good_enough(self) -> bool:
        settings = self.settings
        if settings.stop_at is None or settings.monitor is None or self.best is None:
            return False
        value = self.best["value"]
        return value >= settings.stop_at if settings.monitor[1] == "max" else value <= settings.stop_at

    def minutes(self) -> float:
        """Training time so far, all sittings together."""
        return (self.elapsed_s + time.monotonic() - self._started) / 60

    def _every(self, steps: int | None) -> bool:
        return steps is not None and self.step % steps == 0

    def _save_is_due(self) -> bool:
        every = self.settings.save_every_minutes
        return every is not None and self.step > 0 and time.monotonic() - self._saved_at >= 60 * every

    def _evaluation_is_due(self) -> bool:
        if self.evaluate is None:
            return False
        minutes = self.settings.eval_every_minutes
        timed = self.world.size == 1 and minutes is not None and time.monotonic() - self._evaluated_at >= 60 * minutes
        return timed or self._every(self.settings.eval_every_steps)

    def _train_step(self, stop: bool, save: bool) -> dict[str, bool]:
        """One optimiser step of every phase that is due. Returns what any process asked for."""
        due = [plan for plan in self.phases if self.step % plan.every == 0]
        # Phases with fewer repeats see the same batches as the one with the most: batch j serves every phase's j-th
        # pass.
        drawn: list[list[Batch]] = []
        requests = {"stop": float(stop), "save": float(save)}
        for plan in due:
            for j in range(plan.repeat):
                if j == len(drawn):
                    drawn.append(self._place(self.source.next_step(self.network)))
                requests = self._run_phase(plan, drawn, j, requests)
        self.step += 1
        if self._follows:
            with autocast(self.settings.precision, self.settings.device):
                self.objective.after_step(self.network, self._context("after_step"))
        if self.ema is not None:
            self.ema.update(self.step)
        return {name: value > 0 for name, value in requests.items()}

    def _place(self, micro_batches: list[Batch]) -> list[Batch]:
        device, channels_last = self.settings.device, self.settings.channels_last
        if device.type == "cpu" and not channels_last:
            return micro_batches
        return [place(batch, device, channels_last) for batch in micro_batches]

    def _run_phase(
        self, plan: PhasePlan, drawn: list[list[Batch]], index: int, requests: dict[str, float]
    ) -> dict[str, float]:
        """One pass of a phase on `drawn[index]`; where memory does not suffice, all that was drawn is split finer."""
        if self._switch:
            inside = {id(parameter) for _, parameter in plan.parameters}
            for other in self.phases:
                for _, parameter in other.parameters:
                    parameter.requires_grad_(id(parameter) in inside)
        while True:
            try:
                counts, requests = self._counts(plan.name, drawn[index], requests)
                shown = self._backward(plan, drawn[index], counts)
                break
            except (RuntimeError, MemoryError) as error:
                if not (is_out_of_memory(error) and self.world.size == 1 and isinstance(self.source, Splittable)):
                    raise
            plan.optimizer.zero_grad(set_to_none=True)
            drawn[:] = [self._place(batches) for batches in self.source.smaller(len(drawn))]
            size = len(drawn[index][0]["sample_ids"])
            self.warn(f"Out of memory: micro_batch_size is now {size}; the result is the same.")
        if self.step == 0 and (unreached := without_gradient(plan.parameters)):
            self.warn(
                f"No gradient reaches {len(unreached)} parameters in phase {plan.name!r}: {', '.join(unreached[:8])}."
            )
        parameters = self._parameters[plan.name]
        self.world.reduce_gradients(parameters)
        if plan.clip is not None:
            shown["gradient_norm"] = (float(clip_gradients(parameters, plan.clip)), 1.0)
        rate = plan.schedule(self.step, self.settings.max_steps, self.source.steps_per_epoch)
        set_learning_rate(plan.optimizer, rate)
        plan.optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        self._note(plan, shown, drawn[index])
        return requests

    def _counts(
        self, phase: str, micro_batches: list[Batch], requests: dict[str, float]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Counts of every data-determined term, over micro-batches and processes, before any forward pass."""
        totals: dict[str, float] = {}
        for batch in micro_batches:
            for name, count in self.objective.counts(batch, phase).items():
                totals[name] = totals.get(name, 0.0) + count
        if self.world.size == 1:
            return totals, requests
        totals |= {
            "\0parts": float(len(micro_batches)),
            "\0stop": requests["stop"],
            "\0save": requests["save"] * (self.world.rank == 0),
        }
        totals = self.world.sum_counts(totals)
        return totals, {"stop": totals.pop("\0stop"), "save": totals.pop("\0save")}

    def _backward(
        self, plan: PhasePlan, micro_batches: list[Batch], counts: dict[str, float]
    ) -> dict[str, tuple[float, float]]:
        """Forward and backward of every micro-batch; (sum, count) of each term."""
        parts = counts.pop("\0parts", float(len(micro_batches)))
        shown: dict[str, tuple[float, float]] = {}
        context = self._context(plan.name)
        for batch in micro_batches:
            with autocast(self.settings.precision, self.settings.device):
                terms = self.objective(self.network, batch, context)
            factors = self._factors(terms, counts, parts)
            sums = {name: term.sum.item() for name, term in terms.items()}
            value = sum(factor * sums[name] for name, factor in factors.items())
            self.last_loss = value
            if not math.isfinite(value):
                self._explain_bad_loss(plan.name, batch, context, terms)
            # The factors go in as gradients of the sums: no scaled and added tensors are made for them.
            trained = [(terms[name].sum, factor) for name, factor in factors.items() if terms[name].sum.requires_grad]
            if trained:
                torch.autograd.backward(
                    [total for total, _ in trained],
                    [self._scalar(factor, total) for total, factor in trained],
                )
            self._show(shown, terms, sums, value)
        return shown

    def _scalar(self, value: float, like: Tensor) -> Tensor:
        """A scalar tensor; the last few are kept, since most steps want the same."""
        key = (value, like.dtype, like.device)
        if key not in self._scalars:
            if len(self._scalars) > 16:
                self._scalars.clear()
            self._scalars[key] = torch.full((), value, dtype=like.dtype, device=like.device)
        return self._scalars[key]

    def _factors(self, terms: dict[str, Term], counts: dict[str, float], parts: float) -> dict[str, float]:
        """What each minimised term's sum is multiplied by: `weight / count` over the whole batch."""
        found: dict[str, float] = {}
        for name, term in terms.items():
            if not term.minimised:
                continue
            if name in self.objective.per_batch:
                count = term.count * parts
            elif name in counts:
                count = counts[name]
            else:
                owner = type(self.objective).__name__
                raise TypeError(f"{owner}.counts does not count the term {name!r}, which is not per_batch")
            found[name] = term.weight / count if count else 0.0
        if not found:
            raise TypeError(f"{type(self.objective).__name__} gave no term to minimise")
        return found

    def _show(
        self, shown: dict[str, tuple[float, float]], terms: dict[str, Term], sums: dict[str, float], value: float
    ) -> None:
        """Add a micro-batch to what the step's metrics are read from: (sum, count) of the loss and of every term."""
        sofar, steps = shown.get("loss", (0.0, float(self.world.rank == 0)))
        shown["loss"] = (sofar + value, steps)
        if len(terms) == 1:
            return
        for name, term in terms.items():
            sofar, seen = shown.get(name, (0.0, 0.0))
            if name in self.objective.per_batch:
                shown[name] = (sofar + sums[name] / (term.count or 1.0), seen + 1.0)
            else:
                shown[name] = (sofar + sums[name], seen + term.count)

    def _context(self, phase: str) -> Context:
        names = ("noise", self.settings.first_step, self.step, phase)
        return Context(
            step=self.step,
            epoch=self.source.epoch,
            phase=phase,
            draws=Draws(self.settings.seed, *names),
            gather=self.world.gather,
        )

    def _explain_bad_loss(self, phase: str, batch: Batch, context: Context, terms: dict[str, Term]) -> None:
        """Run the micro-batch again to find the first bad module, then stop."""
        for hook in self.hooks:
            hook.on_bad_batch(self, batch)
        bad = bad_parameters(self.network.named_parameters())
        with (
            first_bad_module(self.network) as found,
            torch.no_grad(),
            autocast(self.settings.precision, self.settings.device),
        ):
            self._again(batch, context)
        ids = batch["sample_ids"].tolist()
        wrong = [name for name, term in terms.items() if not bool(torch.isfinite(term.sum))]
        where = (
            f"weights that are not finite: {', '.join(bad[:4])}"
            if bad
            else f"first bad module: {found[0]}"
            if found
            else "every module's output is finite"
        )
        raise NumericsError(
            f"The loss is NaN or infinite at step {self.settings.first_step + self.step + 1} (terms "
            f"{', '.join(wrong)}; {where}). "
            f"Samples {ids[:16]}{'...' if len(ids) > 16 else ''}. Try a lower optimizer.lr, clip=1.0, or look at "
            "those samples."
        )

    def _again(self, batch: Batch, context: Context) -> None:
        with torch.enable_grad():  # penalties differentiate inside the forward pass
            self.objective(self.network, batch, context)

    # ---------------------------------------------------------------------------------------------- metrics, evaluation

    def _note(self, plan: PhasePlan, shown: dict[str, tuple[float, float]], micro_batches: list[Batch]) -> None:
        prefix = f"{plan.name}/" if self._switch else ""
        for name, (total, count) in shown.items():
            for key, value in ((f"{prefix}{name}\0sum", total), (f"{prefix}{name}\0count", count)):
                self._sums[key] = self._sums.get(key, 0.0) + value
        self._sums[f"{prefix}lr"] = float(plan.optimizer.param_groups[0]["lr"])
        self._samples += sum(batch["sample_ids"].shape[0] for batch in micro_batches) * self.world.size

    def current_loss(self) -> float | None:
        """Mean of the first term since the last line of metrics, for progress bars."""
        for key, value in self._sums.items():
            if key.endswith("\0sum"):
                return value / max(self._sums[key.removesuffix("sum") + "count"], 1e-12)
        return None

    def samples_per_s(self) -> float:
        """Since the last line of metrics."""
        return self._samples / max(time.monotonic() - self._line_at, 1e-9)

    def _log_line(self) -> None:
        names = [key.removesuffix("\0sum") for key in self._sums if key.endswith("\0sum")]
        totals = (
            self.world.sum_counts({k: v for k, v in self._sums.items() if "\0" in k})
            if self.world.size > 1
            else self._sums
        )
        line: Tree = {f"train/{n}": totals[f"{n}\0sum"] / totals[f"{n}\0count"] for n in names if totals[f"{n}\0count"]}
        line |= {key: value for key, value in self._sums.items() if "\0" not in key}
        if self._samples:  # none since an evaluation that ended the training
            line["samples_per_s"] = self.samples_per_s()
        self._sums, self._samples, self._line_at = {}, 0, time.monotonic()
        self._emit(line)

    def _emit(self, values: Tree) -> None:
        per_epoch = self.source.steps_per_epoch
        line: Tree = {
            "step": self.settings.first_step + self.step,
            "epoch": self.step / per_epoch if per_epoch else self.source.epoch,
        }
        line |= {"time_s": round(60 * self.minutes(), 3), **values}
        for hook in self.hooks:
            hook.on_metrics(self, line)

    def _evaluate(self) -> None:
        assert self.evaluate is not None
        metrics = self.evaluate_now()
        self._last_evaluated = self.step
        self._emit({f"val/{name}": value for name, value in metrics.items()})
        self._evaluated_at = time.monotonic()
        self._line_at = time.monotonic()
        self._samples = 0
        if self.settings.monitor is None:
            return
        name, mode = self.settings.monitor
        if name not in metrics:
            raise ConfigError(f"eval.monitor={name}: evaluation does not give it.{did_you_mean(name, metrics)}")
        value = metrics[name]
        better = self.best is None or (value > self.best["value"] if mode == "max" else value < self.best["value"])
        self.evaluations_since_best = 0 if better else self.evaluations_since_best + 1
        if better:
            with self.averaged():
                old = self.best["weights"] if self.best else None
                self.best = {
                    "value": value,
                    "step": self.settings.first_step + self.step,
                    "weights": _copy_weights(self.network, old),
                }

    def evaluate_now(self) -> dict[str, float]:
        """Metrics of the (averaged) weights as they are; the training's random numbers are left untouched."""
        assert self.evaluate is not None
        generators = torch.get_rng_state()
        self.network.eval()
        with self.averaged(), torch.no_grad(), autocast(self.settings.precision, self.settings.device):
            metrics, self.last_tables = self.evaluate(self.network)
            for hook in self.hooks:
                hook.on_evaluation(self)
        self.network.train()
        torch.set_rng_state(generators)
        return metrics

    def averaged(self) -> AbstractContextManager[None]:
        """Context in which the network holds the averaged weights, if there are any."""
        return self.ema.swapped_in() if self.ema is not None else nullcontext()

    def warn(self, message: str) -> None:
        for hook in self.hooks:
            hook.on_warning(self, message)

    # ------------------------------------------------------------------------------------------------------------ state

    def _save(self) -> None:
        for hook in self.hooks:
            hook.save(self)
        self._saved_at = time.monotonic()

    def state(self) -> Tree:
        """Everything that a later `load` needs to go on as if nothing had happened. Collective over processes."""
        return {
            "step": self.step,
            "finished": self.finished,
            "reason": self.reason,
            "elapsed_s": self.elapsed_s + time.monotonic() - self._started,
            "network": dict(self.network.state_dict()),
            "objective": dict(self.objective.state_dict()),
            "optimizers": {plan.name: named_state(plan.optimizer) for plan in self.phases},
            "ema": self.ema.state() if self.ema is not None else None,
            "source": self.source.state(),
            "rng": self._random_state(),
            "best": self.best,
            "evaluations_since_best": self.evaluations_since_best,
            "last_evaluated": self._last_evaluated,
            "sums": dict(self._sums),
            "names": self._names,
        }

    def load(self, tree: Tree) -> None:
        """Take `state()` back.

        Raises:
            CheckpointError: it was saved by a training of other parameters or phases.
        """
        if tree["names"] != self._names or set(tree["optimizers"]) != {plan.name for plan in self.phases}:
            raise CheckpointError(
                "The saved state is of another training: its parameters or phases differ from this configuration's."
            )
        self.network.load_state_dict(tree["network"])
        self.objective.load_state_dict(tree["objective"])
        for plan in self.phases:
            load_named_state(plan.optimizer, tree["optimizers"][plan.name])
        if self.ema is not None:
            self.ema.load(tree["ema"])
        self.source.load(tree["source"])
        self._load_random_state(tree["rng"])
        self.step, self.finished, self.reason = tree["step"], tree["finished"], tree["reason"]
        self.elapsed_s, self.best = tree["elapsed_s"], tree["best"]
        self.evaluations_since_best, self._last_evaluated = tree["evaluations_since_best"], tree["last_evaluated"]
        self._sums = dict(tree["sums"])
        self._started = time.monotonic()

    def extend(self) -> None:
        """A longer length was asked for: go on where a finished training stopped."""
        self.finished, self.reason = False, ""

    def _random_state(self) -> list[Tree]:
        states = self.world.all_gather_tensors(torch.get_rng_state())
        found: list[Tree] = [{"cpu": state} for state in states]
        if self.settings.device.type == "cuda":
            for tree, state in zip(
                found, self.world.all_gather_tensors(torch.cuda.get_rng_state(self.settings.device)), strict=True
            ):
                tree["cuda"] = state
        return found

    def _load_random_state(self, states: list[Tree]) -> None:
        own = states[self.world.rank]
        torch.set_rng_state(own["cpu"])
        if "cuda" in own:
            torch.cuda.set_rng_state(own["cuda"], self.settings.device)


def place(batch: Batch, device: torch.device, channels_last: bool) -> Batch:
    """A batch on its device, pictures in the memory format that the network has."""
    if device.type != "cpu":
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    if channels_last:
        layout = torch.channels_last
        batch = {n: v.contiguous(memory_format=layout) if v.dim() == 4 else v for n, v in batch.items()}
    return batch


def _copy_weights(network: nn.Module, into: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """A copy of the network's state, into kept tensors where there are some."""
    state = network.state_dict()
    if into is None:
        return {name: value.detach().clone() for name, value in state.items()}
    for name, value in state.items():
        into[name].copy_(value)
    return into
