"""The typed tree that every recipe is: what is trained, on what, how, and what it must reach. Imports no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from layerwise.core.config import (
    Component,
    Kind,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    component,
)
from layerwise.core.errors import ConfigError

Optimizer = Annotated[Component, Kind("optimizer")]
Schedule = Annotated[Component, Kind("schedule")]
Objective = Annotated[Component, Kind("objective")]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One part of a step with parameters and an optimiser of its own (a GAN's critic and generator).

    Args:
        name: what the objective knows it by.
        parameters: patterns of parameter names that it trains, shell style (`discriminator.*`).
        optimizer: its optimiser; None takes the recipe's.
        schedule: its schedule; None takes the recipe's.
        every: runs in every n-th step.
        repeat: how often it runs in such a step, each time on a fresh batch.
        clip: largest gradient norm; None does not clip.
    """

    name: str
    parameters: tuple[str, ...] = ("*",)
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    every: PositiveInt = 1
    repeat: PositiveInt = 1
    clip: PositiveFloat | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of several trainings in a row of the same network (greedy pre-training, then fine-tuning). None takes the
    recipe's value.

    Args:
        name: shown in the log and known to the objective.
        objective, optimizer, schedule, phases, epochs, max_steps, batch_size: as in the recipe.
        freeze: patterns of parameter names left untouched in this stage.
        limit: at most so many training examples a class, chosen by the seed, as `data.limit` does for the whole run.
    """

    name: str
    objective: Objective | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    phases: tuple[Phase, ...] | None = None
    epochs: PositiveFloat | None = None
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    freeze: tuple[str, ...] | None = None
    limit: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class EMA:
    """Exponential moving average of the weights; the averaged weights are evaluated and saved.

    Args:
        decay: share of the old average kept a step.
        warmup: the decay is at most (1 + step) / (10 + step), so that early averages follow quickly.
        parameters: patterns of names that are averaged; the others are taken as they are.
    """

    decay: Annotated[float, Range(0, 1, open_high=True)] = 0.999
    warmup: bool = True
    parameters: tuple[str, ...] = ("*",)


@dataclass(frozen=True, kw_only=True)
class Eval:
    """When the validation data is looked at and what it decides.

    Args:
        every_epochs, every_steps, every_minutes: cadence; any may be None, all None evaluates at the end only.
        monitor: validation metric that selects the weights; None takes the task's own, "last" keeps the last weights.
        patience: evaluations without a better value before training stops; None never stops early.
        stop_at: training stops at the evaluation where the monitored metric is this good; None goes on to the end.
        batch_size: None takes twice the training micro-batch.
    """

    every_epochs: PositiveFloat | None = 1.0
    every_steps: PositiveInt | None = None
    every_minutes: PositiveFloat | None = None
    monitor: str | None = None
    patience: PositiveInt | None = None
    stop_at: float | None = None
    batch_size: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.stop_at is not None and self.monitor == "last":
            raise ConfigError(
                f"eval.stop_at={self.stop_at:g}: eval.monitor=last watches no metric. Name one, or leave monitor out."
            )
        watching = "patience" if self.patience is not None else "stop_at" if self.stop_at is not None else None
        if watching is not None and self.every_minutes is not None:
            raise ConfigError(
                f"{watching} looks at evaluations; with every_minutes a slower machine would train differently. Set "
                "every_steps or every_epochs."
            )


@dataclass(frozen=True, kw_only=True)
class Keep:
    """When the training state is saved and how many saves are retained.

    Args:
        every_steps, every_minutes: cadence of saves; at the end and on request it is always saved.
        last: number of newest states kept.
        milestones: steps whose states are kept for good.
    """

    every_steps: PositiveInt | None = None
    every_minutes: PositiveFloat | None = 2.0
    last: PositiveInt = 2
    milestones: tuple[PositiveInt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How several processes share the work.

    Args:
        sync_batch_norm: batch statistics over all processes, as one process with the whole batch would have.
        timeout_s: how long a process waits for its peers before it gives up.
    """

    sync_batch_norm: bool = True
    timeout_s: PositiveFloat = 300.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a training run is decided by.

    Args:
        task: what the inputs and outputs mean, metrics, predictions.
        model: the network; values that only the data knows (`num_classes` ...) are None until built.
        init: where weights start from: a run, a directory, a weights file; or a distribution that all weights of
            linear, convolution and recurrent layers are drawn from (glorot_uniform, glorot_normal, he_uniform,
            he_normal, lecun_uniform, lecun_normal, orthogonal); None starts from the model's own `reset_parameters`.
        data: where examples come from; None for tasks that make their own.
        objective: the way of learning; None only where max_steps=0.
        optimizer, schedule: of every phase and stage that names none of its own.
        phases: parts of one step; empty means one phase over all parameters.
        stages: trainings in a row; empty means one.
        epochs, max_steps: the length, of each stage that does not say otherwise.
        max_minutes: training time of all stages and sittings together; the first of the three that is reached ends the
            training. max_steps=0 trains nothing: the network is built, evaluated, saved and reported.
        batch_size: samples a step, over all processes.
        micro_batch_size: samples a forward pass; None means the share of the process at once.
        seed: of weights, order, augmentation and noise.
        deterministic: deterministic algorithms; None means on CPU only.
        device: "auto" takes an accelerator if there is one.
        precision: "auto" takes bf16 where machine and network gain from it.
        compile: compile the repeated blocks.
        ema: averaged weights.
        clip: largest gradient norm.
        freeze: patterns of parameter names that are not trained.
        adapter: surgery that trains a few added parameters (LoRA).
        layer_decay: learning-rate factor from each block to the one before it.
        eval, keep, parallel: see their classes.
    """

    task: Annotated[Component, Kind("task")]
    model: Annotated[Component, Kind("model")]
    init: str | None = None
    data: Annotated[Component, Kind("data")] | None = None
    objective: Objective | None = None
    optimizer: Optimizer = component("AdamW")
    schedule: Schedule = component("constant")
    phases: tuple[Phase, ...] = ()
    stages: tuple[Stage, ...] = ()
    epochs: PositiveFloat | None = None
    max_steps: NonNegativeInt | None = None
    max_minutes: PositiveFloat | None = None
    batch_size: PositiveInt = 64
    micro_batch_size: PositiveInt | None = None
    seed: NonNegativeInt = 0
    deterministic: bool | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    ema: EMA | None = None
    clip: PositiveFloat | None = None
    freeze: tuple[str, ...] = ()
    adapter: Annotated[Component, Kind("adapter")] | None = None
    layer_decay: Annotated[float, Range(0, 1, open_low=True)] | None = None
    eval: Eval = Eval()
    keep: Keep = Keep()
    parallel: Parallel = Parallel()

    def __post_init__(self) -> None:
        if not self.stages and self.epochs is None and self.max_steps is None and self.max_minutes is None:
            raise ConfigError("one of epochs, max_steps, max_minutes is required: training has no end otherwise.")
        if self.objective is None and self.max_steps != 0:
            raise ConfigError("objective is required; without one nothing can be learned, and max_steps must be 0.")
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ConfigError(
                f"micro_batch_size={self.micro_batch_size}: must be at most batch_size={self.batch_size}."
            )
        if self.stages and self.epochs is not None and all(stage.epochs is not None for stage in self.stages):
            names = ", ".join(f"stages.{stage.name}.epochs" for stage in self.stages)
            raise ConfigError(f"epochs={self.epochs:g}: every stage has its own. Set {names}.")
        for where, phases in (("phases", self.phases), *((f"stages.{s.name}.phases", s.phases) for s in self.stages)):
            names = [phase.name for phase in phases or ()]
            if len(set(names)) < len(names):
                raise ConfigError(f"{where}={names}: names must differ.")


__all__ = ["EMA", "Eval", "Keep", "Parallel", "Phase", "Recipe", "Stage", "component"]
