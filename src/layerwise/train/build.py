"""From a resolved recipe to the objects that train: data, task, network, objective, phases, one `Trainer` a stage."""

import fnmatch
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from layerwise.core.config import Component
from layerwise.core.errors import ConfigError, DataError, UnsupportedError
from layerwise.core.seeding import derive_seed
from layerwise.core.suggest import did_you_mean
from layerwise.data.examples import Examples, Splits
from layerwise.data.feed import Feed, in_order, in_streams
from layerwise.data.mixing import Mixing
from layerwise.data.source import StepSource
from layerwise.data.splits import limited, prepare, sampling_weights
from layerwise.interop.layouts import TRAINING_ONLY
from layerwise.interop.weights import SIZES, fit, load
from layerwise.nn.batch_norm import synchronise_batch_norm
from layerwise.nn.blocks import block_names
from layerwise.nn.init import SCALE_FREE, Distribution, Init, redraw_weights
from layerwise.objectives.base import Objective
from layerwise.objectives.distillation import DistillationConfig, student_state
from layerwise.optim.groups import parameter_groups
from layerwise.parallel.distributed import World
from layerwise.tasks.base import Accumulator, Task
from layerwise.train.artefact import fill_derived
from layerwise.train.ema import EMAWeights
from layerwise.train.loop import Hooks, LoopSettings, PhasePlan, Trainer, place
from layerwise.train.precision import Precision, resolve_precision
from layerwise.train.recipe import Phase, Recipe, Stage

DISTINCT_FACTS = "num_classes", "in_channels", "vocab_size", "in_features", "head"


@dataclass(kw_only=True)
class Session:
    """Everything that one run trains with. Stages are made one after the other by `trainer`.

    Args:
        recipe: resolved, derived values filled in.
        task: bound to the data.
        network: on its device; the same through all stages.
        splits: the data; None for tasks that make their own.
        choices: what was resolved on this machine and must be the same on resumption.
        notes: lines that a person should see (load report, swaps, derived values).
    """

    recipe: Recipe
    task: Task
    network: nn.Module
    splits: Splits | None
    world: World
    device: torch.device
    precision: Precision
    choices: dict[str, Any]
    notes: list[str]

    def stages(self) -> tuple[Stage, ...]:
        """The trainings in a row; a recipe without stages has one called "main"."""
        return self.recipe.stages or (Stage(name="main"),)

    def trainer(self, index: int, first_step: int, hooks: Sequence[Hooks]) -> Trainer:
        """The trainer of a stage, freshly initialised."""
        return _stage_trainer(self, self.stages()[index], index, first_step, hooks)

    def evaluate(
        self, part: str, network: nn.Module, *, concludes: bool = False
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Metrics and tables on "val" or "test"; `concludes`: see `Task`."""
        recipe, self.task.concludes = self.recipe, concludes
        examples = getattr(self.splits, part) if self.splits is not None else None
        if examples is None and self.task.needs_data:
            raise DataError(f"The data has no {part} part.")
        size = recipe.eval.batch_size or 2 * min(recipe.micro_batch_size or recipe.batch_size, 512)
        rank, world_size = self.world.rank, self.world.size
        if examples is None:
            own = self.task.own_samples(part)[rank::world_size]
            batches: Iterable[dict[str, torch.Tensor]] = ({"sample_ids": ids} for ids in own.split(size))
        elif self.task.streams:
            batches = in_streams(examples, self.task.inputs, rank, world_size)
        else:
            batches = in_order(examples, self.task.inputs, size, rank, world_size)
        placed = (place(batch, self.device, self.choices["channels_last"]) for batch in batches)
        return self.task.evaluate(network, placed, self._merge)

    def merge_adapter(self) -> float | None:
        """Put a trained adapter into the weights it changes, so that the network is the plain one again.

        Returns:
            Largest relative difference of the outputs for a few examples; None without adapter or examples.

        Raises:
            NumericsError: the outputs differ by more than rounding.
        """
        if self.recipe.adapter is None:
            return None
        examples = self.splits.train if self.splits is not None else None
        check = None
        if examples is not None:
            batch = place(next(in_order(examples, self.task.inputs, 8)), self.device, self.choices["channels_last"])
            taken = inspect.signature(self.network.forward).parameters
            check = {name: value for name, value in batch.items() if name in taken}
        return self.recipe.adapter.build().merge(self.network, check)

    def _merge(self, accumulator: Accumulator) -> None:
        if self.world.size > 1:
            accumulator.merge(self.world.gather_states(accumulator.state()))


def choose_device(wanted: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "mps".

    Raises:
        UnsupportedError: the machine does not have it.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = "cuda" if here["cuda"] else "mps" if here["mps"] else "cpu"
    if not here[wanted]:
        raise UnsupportedError(f"device={wanted}: this machine has none that torch can use. Set device=cpu.")
    return torch.device(wanted)


def build(
    recipe: Recipe, world: World | None = None, *, start: bool = True, task_state: dict[str, Any] | None = None
) -> Session:
    """Build data, task and network of a recipe.

    Args:
        start: begin with what `init` names; False where a saved state follows, and the checkpoint may have gone.
        task_state: what the task had learned when the run began, where it keeps that.

    Raises:
        ConfigError, DataError, CheckpointError, UnsupportedError: each names the thing, the value and the remedy.
    """
    world = world or World()
    device = choose_device(recipe.device) if world.size == 1 else world.device
    deterministic = recipe.deterministic if recipe.deterministic is not None else device.type == "cpu"
    torch.use_deterministic_algorithms(deterministic)
    # Filling new memory with NaN, as determinism does by default, took 11 to 28 % of a small network's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_flush_denormal(True)
    notes: list[str] = []
    task: Task = recipe.task.build()
    splits = _data(recipe, task)
    if task_state is not None:
        task.load(task_state)
    if splits is not None:
        task.bind(splits)
        notes += splits.warnings
    objective = (recipe.stages[-1].objective if recipe.stages else None) or recipe.objective
    if objective is not None:
        task.bind_objective(objective.config)
    facts = {**(splits.facts if splits else {}), **task.facts()}
    model = fill_derived(
        recipe.model, {k: v for k, v in facts.items() if k in DISTINCT_FACTS or _is_unset(recipe.model, k)}, "model"
    )
    _check_length(model, facts)
    recipe = replace(recipe, model=model)
    torch.manual_seed(derive_seed(recipe.seed, "init"))
    network: nn.Module = model.build()
    _check_inputs(network, model.name, facts)
    if not start:
        pass  # a saved state follows
    elif recipe.init in SCALE_FREE:
        drawn = redraw_weights(network, Init(cast(Distribution, recipe.init)))
        notes.append(f"init={recipe.init}: {len(drawn)} weights drawn.")
    elif recipe.init is not None:
        notes += _start_from(recipe.init, network, model)
    elif (notes_of_teacher := _start_from_teacher(objective, network)) is not None:
        notes.append(notes_of_teacher)
    if recipe.adapter is not None:
        trained = recipe.adapter.build().apply(network)
        notes.append(
            f"adapter={recipe.adapter.name}: {sum(p.numel() for p in network.parameters() if p.requires_grad):,} "
            f"parameters are trained ({len(trained)} tensors)."
        )
    if world.size > 1 and recipe.parallel.sync_batch_norm:
        synchronise_batch_norm(network, world.reduce_sum)
    network.to(device)
    channels_last = _gains_by_channels_last(network)
    if channels_last:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    world.broadcast_module(network)
    if recipe.compile:
        _compile_blocks(network)
    precision = resolve_precision(recipe.precision, device, network)
    torch.manual_seed(derive_seed(recipe.seed, "train", world.rank))
    choices = {
        "device": device.type,
        "precision": precision,
        "deterministic": deterministic,
        "threads": torch.get_num_threads(),
        "channels_last": channels_last,
        "compile": recipe.compile,
        "processes": world.size,
        "torch": str(torch.__version__),
    }
    return Session(
        recipe=recipe,
        task=task,
        network=network,
        splits=splits,
        world=world,
        device=device,
        precision=precision,
        choices=choices,
        notes=notes,
    )


def _gains_by_channels_last(network: nn.Module) -> bool:
    """Whether it has wide convolutions, and no group norms between them: torch's CPU kernels for those, and with them
    the step of a diffusion U-Net, take longer with channels last (bf16, two Zen 5 cores: 0.50 s a step of the small one
    against 0.37, 0.64 against 0.55 for that of CIFAR-10, where convolutions took 0.36 and 0.37).
    """
    modules = list(network.modules())
    if any(isinstance(module, nn.GroupNorm) for module in modules):
        return False
    return any(isinstance(module, nn.Conv2d) and module.in_channels >= 16 for module in modules)


def _check_inputs(network: nn.Module, name: str, facts: Mapping[str, Any]) -> None:
    """Whether the network takes what the task's batches have.

    Raises:
        ConfigError: it does not.
    """
    takes = inspect.signature(network.forward).parameters
    if facts.get("packed") and "documents" not in takes:
        raise ConfigError(
            f"task.packed=true: {name} does not take packed texts (its forward has no `documents`). Set "
            "task.packed=false."
        )
    if facts.get("paired") and "segments" not in takes:
        raise ConfigError(
            f"The data has pairs of texts, and {name} does not tell two texts apart (its forward has no `segments`). "
            "Take a checkpoint of BERT or its like with init=..., or such a model, as model=bert-tiny."
        )


def _check_length(model: Component, facts: dict[str, Any]) -> None:
    """Whether the network has a position for every token that the task gives it."""
    have, wanted = getattr(model.config, "max_seq_len", None), facts.get("max_seq_len")
    if isinstance(have, int) and isinstance(wanted, int) and wanted > have:
        raise ConfigError(
            f"The task gives up to {wanted} tokens at once and {model.name} has model.max_seq_len={have} positions. "
            "Set task.max_tokens (of language models task.seq_len) to at most that."
        )


def _is_unset(model: Component, name: str) -> bool:
    return getattr(model.config, name, False) is None


def _data(recipe: Recipe, task: Task) -> Splits | None:
    if not task.needs_data:
        if recipe.data is not None:
            raise ConfigError(f"data={recipe.data.name}: task={recipe.task.name} makes its own data. Leave data out.")
        return None
    if recipe.data is None:
        raise ConfigError(
            f"data is required for task={recipe.task.name}: data=NAME, and data.root=PATH for files of your own."
        )
    return prepare(recipe.data, recipe.seed)


def _start_from(source: str, network: nn.Module, model: Component) -> list[str]:
    """Weights of a run, a directory, a file or the hub into the network; lines of the load report.

    Raises:
        CheckpointError: it does not fit. Of this package's own runs parts may be wanted: there a tensor of another
            shape stays as initialised, and one without a place is left out.
    """
    loaded = load(source, model)
    report = fit(network, loaded)
    report.source = f"init={source}"
    own = loaded.checkpoint.layout is None
    if own and report.loaded:
        report = replace(report, misfit={}, replaced={**report.replaced, **report.misfit})
    report.check(extra=own)
    different = [
        f"{key}={value!r} there, {getattr(model.config, key)!r} here"
        for key, value in vars(loaded.model.config).items()
        if key not in (*TRAINING_ONLY, *SIZES, "image_size", "head") and getattr(model.config, key, value) != value
    ]
    return [*report.lines(), *([f"The checkpoint's settings differ: {'; '.join(different)}."] if different else [])]


def _teacher(source: str) -> nn.Module:
    """The network of a run or a checkpoint.

    Raises:
        CheckpointError: parts of it are missing.
    """
    loaded = load(source)
    network = loaded.model.build()
    fit(network, loaded).check(extra=False)
    return network


def _start_from_teacher(objective: Component | None, network: nn.Module) -> str | None:
    """Put some of the teacher's blocks into a student that starts from nothing else; a line that says so."""
    config = None if objective is None else objective.config
    if not isinstance(config, DistillationConfig) or config.teacher is None or not config.every_other:
        return None
    taken = student_state(_teacher(config.teacher), network)
    network.load_state_dict(taken, strict=False)
    return f"From objective.teacher={config.teacher}: {len(taken)} of {len(network.state_dict())} tensors."


def _compile_blocks(network: nn.Module) -> None:
    blocks = getattr(network, "blocks", None)
    for block in blocks if isinstance(blocks, nn.ModuleList | nn.Sequential) else [network]:
        block.compile()


# ------------------------------------------------------------------------------------------------------------- stages


def matching(names: Iterable[str], patterns: Sequence[str], where: str) -> set[str]:
    """Names that match any of the shell-style patterns.

    Raises:
        ConfigError: a pattern matches nothing; the message has near names.
    """
    names = list(names)
    found: set[str] = set()
    for pattern in patterns:
        hits = fnmatch.filter(names, pattern)
        if not hits:
            raise ConfigError(f"{where}={pattern}: no parameter has such a name.{did_you_mean(pattern, names)}")
        found.update(hits)
    return found


def _stage_trainer(session: Session, stage: Stage, index: int, first_step: int, hooks: Sequence[Hooks]) -> Trainer:
    recipe, network, world = session.recipe, session.network, session.world
    chosen = stage.objective or recipe.objective
    objective = (chosen.build() if chosen is not None else Objective()).to(session.device)
    torch.manual_seed(derive_seed(recipe.seed, "objective", index))
    if objective.teacher_source is not None:
        objective.take_teacher(_teacher(objective.teacher_source).to(session.device))
    objective.setup(network)
    objective.to(session.device)
    torch.manual_seed(derive_seed(recipe.seed, "train", index, world.rank))
    own = dict(network.named_parameters()) | {
        f"objective.{n}": p for n, p in objective.named_parameters() if p.requires_grad
    }
    freeze = recipe.freeze if stage.freeze is None else stage.freeze
    frozen = matching(own, freeze, "freeze") if freeze else set[str]()
    adapted = recipe.adapter is not None
    for name, parameter in own.items():
        if not adapted or name in frozen:
            parameter.requires_grad_(name not in frozen)
    trained = {name: parameter for name, parameter in own.items() if parameter.requires_grad}
    if not trained and recipe.max_steps != 0:
        raise ConfigError(
            "No parameter is left to train: the network has none, or all are frozen. max_steps=0 evaluates it as it is."
        )
    batch_size = stage.batch_size or recipe.batch_size
    source = session.task.make_source(network, batch_size, derive_seed(recipe.seed, "source", index))
    if source is not None and recipe.micro_batch_size is not None:
        raise ConfigError(f"micro_batch_size: task={recipe.task.name} makes whole batches itself. Leave it out.")
    if source is not None and stage.limit is not None:
        raise ConfigError(f"stages.{stage.name}.limit: task={recipe.task.name} makes its own data. Leave it out.")
    source = source or _feed(session, batch_size, index, stage.limit, objective)
    max_steps = _length(recipe, stage, source.steps_per_epoch)
    plans = (
        [_plan(session, stage, phase, trained) for phase in _phases(recipe, stage, objective)] if max_steps != 0 else []
    )
    monitor = _monitor(session) if index == len(session.stages()) - 1 else None
    evaluates = not session.task.needs_data or (session.splits is not None and session.splits.val is not None)
    if recipe.eval.stop_at is not None and (not evaluates or _monitor(session) is None):
        raise ConfigError(
            f"eval.stop_at={recipe.eval.stop_at:g} watches a metric on validation data: "
            + ("set eval.monitor, the task names none." if evaluates else "there are none, see data.val.")
        )
    settings = LoopSettings(
        max_steps=max_steps,
        max_minutes=recipe.max_minutes,
        seed=recipe.seed,
        precision=session.precision,
        device=session.device,
        log_every=min(50, max(1, (max_steps or 5000) // 100)),
        eval_every_steps=_eval_steps(recipe, source.steps_per_epoch),
        eval_every_minutes=recipe.eval.every_minutes,
        monitor=monitor,
        patience=recipe.eval.patience,
        stop_at=recipe.eval.stop_at if monitor is not None else None,
        save_every_steps=recipe.keep.every_steps,
        save_every_minutes=recipe.keep.every_minutes,
        first_step=first_step,
        channels_last=session.choices["channels_last"],
    )
    ema = None
    if recipe.ema is not None:
        ema = EMAWeights(network, recipe.ema)
    evaluate = (lambda net: session.evaluate("val", net)) if evaluates else None
    return Trainer(network, objective, source, plans, settings, evaluate=evaluate, ema=ema, world=world, hooks=hooks)


def _feed(session: Session, batch_size: int, index: int, limit: int | None, objective: Objective) -> StepSource:
    recipe, splits = session.recipe, session.splits
    assert recipe.data is not None
    if splits is None or splits.train is None:
        raise DataError("The data has no training part.")
    train: Examples = splits.train if limit is None else limited(splits.train, limit, recipe.seed)
    options = recipe.data.config  # a Dataset of one's own has neither augment nor weighted
    transforms = [transform.build() for transform in getattr(options, "augment", ())]
    if not objective.mixes and any(isinstance(transform, Mixing) for transform in transforms):
        raise ConfigError("data.augment: mixup and cutmix need an objective of classes, such as cross_entropy.")
    return Feed(
        train,
        session.task.inputs,
        batch_size=batch_size,
        micro_batch_size=recipe.micro_batch_size,
        seed=derive_seed(recipe.seed, "feed", index),
        transforms=transforms,
        rank=session.world.rank,
        world_size=session.world.size,
        weights=sampling_weights(train) if getattr(options, "weighted", False) else None,
        lengths=session.task.lengths(train),
        streams=objective.streams,
        prefetch=train.decodes,
    )


def _length(recipe: Recipe, stage: Stage, steps_per_epoch: int | None) -> int | None:
    epochs, steps = stage.epochs or recipe.epochs, stage.max_steps or recipe.max_steps
    if epochs is not None and steps_per_epoch is None:
        raise ConfigError(f"epochs={epochs:g}: this task has no epochs. Set max_steps.")
    lengths = [steps] if steps is not None else []
    if epochs is not None and steps_per_epoch is not None:
        lengths.append(max(1, math.ceil(epochs * steps_per_epoch - 1e-9)))
    if not lengths and recipe.max_minutes is None:
        raise ConfigError(f"stage {stage.name!r} has no length: set its epochs or max_steps.")
    return min(lengths) if lengths else None


def _eval_steps(recipe: Recipe, steps_per_epoch: int | None) -> int | None:
    if recipe.eval.every_steps is not None:
        return recipe.eval.every_steps
    if recipe.eval.every_epochs is None or steps_per_epoch is None:
        return None
    return max(1, round(recipe.eval.every_epochs * steps_per_epoch))


def _monitor(session: Session) -> tuple[str, str] | None:
    wanted = session.recipe.eval.monitor
    own = session.task.monitor
    if wanted is None or (own is not None and wanted == own[0]):
        return own
    if wanted == "last":
        return None
    smaller = any(part in wanted for part in ("loss", "error", "perplexity", "rmse", "mae", "distance", "bits"))
    return wanted, "min" if smaller else "max"


def _phases(recipe: Recipe, stage: Stage, objective: Objective) -> tuple[Phase, ...]:
    phases = recipe.phases if stage.phases is None else stage.phases
    if not phases:
        if len(objective.phases) > 1:
            raise ConfigError(
                f"The objective has the phases {', '.join(objective.phases)}: set phases, each with the parameters "
                "that it trains."
            )
        return (Phase(name=next(iter(objective.phases)), clip=recipe.clip),)
    for phase in phases:
        if phase.name not in objective.phases:
            raise ConfigError(
                f"phases: the objective knows no phase {phase.name!r}.{did_you_mean(phase.name, objective.phases)} "
                "Phases of a recipe are those of its objective: for another one, start from a recipe that has it."
            )
    return tuple(replace(phase, clip=phase.clip or recipe.clip) for phase in phases)


def _plan(session: Session, stage: Stage, phase: Phase, trained: dict[str, nn.Parameter]) -> PhasePlan:
    recipe = session.recipe
    chosen = matching(trained, phase.parameters, f"phases.{phase.name}.parameters")
    named = [(name, parameter) for name, parameter in trained.items() if name in chosen]
    optimizer = phase.optimizer or stage.optimizer or recipe.optimizer
    schedule: Callable[..., float] = (phase.schedule or stage.schedule or recipe.schedule).build().factor
    groups = parameter_groups(
        named,
        weight_decay=getattr(optimizer.config, "weight_decay", 0.0),
        blocks=block_names(session.network),
        layer_decay=recipe.layer_decay,
    )
    return PhasePlan(
        name=phase.name,
        parameters=named,
        optimizer=optimizer.build(groups),
        schedule=schedule,
        every=phase.every,
        repeat=phase.repeat,
        clip=phase.clip,
    )
