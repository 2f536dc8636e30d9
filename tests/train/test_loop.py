"""The loop: the same gradient for every split, phases, memory, NaN, stopping, exact resumption in one process."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.errors import NumericsError, StopRequested
from layerwise.data.examples import TensorExamples
from layerwise.data.feed import Feed
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
from layerwise.optim.groups import parameter_groups
from layerwise.optim.torch_optimizers import SGD, AdamW, AdamWConfig, SGDConfig
from layerwise.tasks.base import Accumulator
from layerwise.track.store import load_tree, save_tree
from layerwise.train.loop import Hooks, LoopSettings, PhasePlan, Trainer


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Linear(5, 7)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(7, 3)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.drop(torch.tanh(self.body(features))))


def make_net(dropout: float = 0.0) -> Net:
    torch.manual_seed(3)
    return Net(dropout).double()


def make_examples(count: int = 32) -> TensorExamples:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    return TensorExamples({"features": features, "labels": torch.randint(0, 3, (count,), generator=generator)})


def make_trainer(
    net: nn.Module,
    *,
    micro: int | None = None,
    objective: Objective | None = None,
    steps: int = 1,
    batch_size: int = 32,
    optimizer: Callable[[Any], torch.optim.Optimizer] = lambda groups: SGD(SGDConfig(lr=1.0), groups),
    hooks: tuple[Hooks, ...] = (),
    examples: TensorExamples | None = None,
    **settings: Any,
) -> Trainer:
    objective = objective or CrossEntropy(CrossEntropyConfig())
    named = list(net.named_parameters())
    plan = PhasePlan(
        name=objective.phases[0],
        parameters=named,
        optimizer=optimizer(parameter_groups(named, weight_decay=0.0)),
        schedule=lambda *_: 1.0,
    )
    feed = Feed(examples or make_examples(), lambda batch: batch, batch_size=batch_size, micro_batch_size=micro, seed=1)
    return Trainer(net, objective, feed, [plan], LoopSettings(max_steps=steps, log_every=2, **settings), hooks=hooks)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("micro", [8, 1, 5, 31])
def test_a_split_batch_gives_the_gradient_of_the_whole(micro: int) -> None:
    whole, split = make_net(), make_net()
    make_trainer(whole).fit()
    make_trainer(split, micro=micro).fit()
    assert torch.allclose(weights(whole), weights(split), rtol=0, atol=1e-12)
    assert not torch.allclose(weights(whole), weights(make_net()), atol=1e-3)


def test_one_step_is_the_closed_form_of_gradient_descent() -> None:
    net, plain, examples = make_net(), make_net(), make_examples()
    make_trainer(net, micro=8).fit()
    loss = F.cross_entropy(plain(examples.columns["features"]), examples.columns["labels"])
    loss.backward()
    expected = torch.cat([(p - p.grad).detach().flatten() for p in plain.parameters() if p.grad is not None])
    assert torch.allclose(weights(net), expected, rtol=0, atol=1e-12)


def test_class_weights_divide_by_their_sum_over_all_micro_batches() -> None:
    config = CrossEntropyConfig(class_weights=(1.0, 2.0, 5.0), label_smoothing=0.1)
    net, plain, examples = make_net(), make_net(), make_examples()
    make_trainer(net, micro=5, objective=CrossEntropy(config)).fit()
    weight = torch.tensor(config.class_weights, dtype=torch.float64)
    loss = F.cross_entropy(plain(examples.columns["features"]), examples.columns["labels"], weight, label_smoothing=0.1)
    loss.backward()
    expected = torch.cat([(p - p.grad).detach().flatten() for p in plain.parameters() if p.grad is not None])
    assert torch.allclose(weights(net), expected, rtol=0, atol=1e-12)


class MaskedError(Objective):
    """Squared error of the places that a mask keeps: the count is decided by padding, not by samples."""

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"error": float(batch["mask"].sum())}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        error = (network(batch["features"]) * batch["mask"]).square().sum()
        return {"error": Term(error, self.counts(batch, context.phase)["error"])}


def test_padding_counts_nothing_in_any_split() -> None:
    generator = torch.Generator().manual_seed(9)
    base = make_examples()
    mask = (torch.rand(32, 3, generator=generator) > 0.6).double()
    mask[:8] = 0.0
    examples = TensorExamples({"features": base.columns["features"], "mask": mask})
    found = []
    for micro in (None, 8, 3):
        net = make_net()
        make_trainer(net, micro=micro, objective=MaskedError(), examples=examples).fit()
        found.append(weights(net))
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-12)
    assert torch.allclose(found[0], found[2], rtol=0, atol=1e-12)


class PairPenalty(Objective):
    """A term that depends on batch mates: the variance of the outputs within the micro-batch."""

    per_batch = ("variance",)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        return {"variance": Term(network(batch["features"]).var(0).sum(), 1.0)}


def test_a_per_batch_term_is_averaged_over_micro_batches() -> None:
    net, plain = make_net(), make_net()
    trainer = make_trainer(net, micro=8, objective=PairPenalty())
    parts = trainer.source.make(0)  # pyright: ignore[reportAttributeAccessIssue]
    trainer.fit()
    loss = torch.stack([plain(part["features"]).var(0).sum() for part in parts]).mean()
    gradients = torch.autograd.grad(loss, list(plain.parameters()), allow_unused=True)
    expected = torch.cat(
        [
            (p - (g if g is not None else 0)).detach().flatten()
            for p, g in zip(plain.parameters(), gradients, strict=True)
        ]
    )
    assert torch.allclose(weights(net), expected, rtol=0, atol=1e-12)


class Alternating(Objective):
    """Two phases: each pulls its own half of the network; both read the whole of it."""

    phases = ("a", "b")

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {f"{phase}_loss": float(len(batch["labels"]))}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        total = network(batch["features"]).square().sum()
        return {f"{context.phase}_loss": Term(total, float(len(batch["labels"])))}


def test_a_phase_moves_only_its_own_parameters_and_runs_when_due() -> None:
    net = make_net()
    objective = Alternating()
    plans = []
    for name, every, repeat in (("a", 1, 2), ("b", 3, 1)):
        part = net.body if name == "a" else net.head
        named = list(part.named_parameters())
        plans.append(
            PhasePlan(
                name=name,
                parameters=named,
                optimizer=SGD(SGDConfig(lr=0.01), parameter_groups(named, weight_decay=0.0)),
                schedule=lambda *_: 1.0,
                every=every,
                repeat=repeat,
            )
        )
    feed = Feed(make_examples(), lambda batch: batch, batch_size=8, seed=1)
    moved: list[tuple[bool, bool]] = []

    class Watch(Hooks):
        before = (net.body.weight.detach().clone(), net.head.weight.detach().clone())

        def on_step(self, trainer: Trainer) -> None:
            now = (net.body.weight.detach().clone(), net.head.weight.detach().clone())
            moved.append((not torch.equal(now[0], self.before[0]), not torch.equal(now[1], self.before[1])))
            Watch.before = now

    Trainer(net, objective, feed, plans, LoopSettings(max_steps=4), hooks=[Watch()]).fit()
    assert moved == [(True, True), (True, False), (True, False), (True, True)]
    assert feed.position == 8  # two batches a step, shared by the phases


class Hungry(CrossEntropy):
    """Runs out of memory on more than eight samples."""

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        if len(batch["labels"]) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return super().forward(network, batch, context)


def test_out_of_memory_halves_the_micro_batch_with_the_same_result() -> None:
    messages: list[str] = []

    class Listen(Hooks):
        def on_warning(self, trainer: Trainer, message: str) -> None:
            messages.append(message)

    whole, hungry = make_net(), make_net()
    make_trainer(whole, steps=3, batch_size=16).fit()
    make_trainer(hungry, steps=3, batch_size=16, objective=Hungry(CrossEntropyConfig()), hooks=(Listen(),)).fit()
    assert torch.allclose(weights(whole), weights(hungry), rtol=0, atol=1e-12)
    assert len(messages) == 1
    assert "micro_batch_size is now 8" in messages[0]


def test_a_nan_loss_stops_with_the_module_and_the_samples_and_keeps_the_batch() -> None:
    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / (x.sum() * 0)

    net = make_net()
    net.drop = Bad()  # pyright: ignore[reportAttributeAccessIssue]
    kept: list[Batch] = []

    class Keep(Hooks):
        def on_bad_batch(self, trainer: Trainer, batch: Batch) -> None:
            kept.append(batch)

    with pytest.raises(NumericsError, match=r"step 1 .*first bad module: drop \(Bad\).*Samples \["):
        make_trainer(net, micro=4, hooks=(Keep(),)).fit()
    assert len(kept[0]["sample_ids"]) == 4


def test_parameters_that_no_gradient_reaches_are_named() -> None:
    messages: list[str] = []

    class Listen(Hooks):
        def on_warning(self, trainer: Trainer, message: str) -> None:
            messages.append(message)

    net = make_net()
    net.unused = nn.Linear(2, 2).double()  # pyright: ignore[reportAttributeAccessIssue]
    make_trainer(net, steps=2, hooks=(Listen(),)).fit()
    assert messages == ["No gradient reaches 2 parameters in phase 'main': unused.weight, unused.bias."]


class Lines(Hooks):
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.states: dict[int, Any] = {}
        self.stop_at: int | None = None

    def on_metrics(self, trainer: Trainer, line: dict[str, Any]) -> None:
        self.lines.append({k: v for k, v in line.items() if not k.startswith(("time", "samples_per_s"))})

    def on_step(self, trainer: Trainer) -> None:
        if trainer.step == self.stop_at:
            signal.raise_signal(signal.SIGTERM)


def adam(groups: Any) -> torch.optim.Optimizer:
    return AdamW(AdamWConfig(lr=0.01), groups)


def accuracy(net: nn.Module) -> tuple[dict[str, float], dict[str, Any]]:
    examples = make_examples(50)
    torch.rand(3)  # an evaluation that draws must not move the training's random numbers
    return {
        "accuracy": float((net(examples.columns["features"]).argmax(1) == examples.columns["labels"]).double().mean())
    }, {}


@pytest.mark.parametrize("stop_at", [1, 6, 7, 19])
def test_a_stopped_training_goes_on_exactly(stop_at: int, tmp_path: Path) -> None:
    def run(lines: Lines) -> Trainer:
        trainer = make_trainer(
            make_net(dropout=0.3),
            steps=20,
            batch_size=6,
            optimizer=adam,
            hooks=(lines,),
            eval_every_steps=4,
            monitor=("accuracy", "max"),
        )
        trainer.evaluate = accuracy
        return trainer

    torch.manual_seed(11)
    straight_lines = Lines()
    straight = run(straight_lines)
    torch.manual_seed(11)
    straight.fit()
    first_lines = Lines()
    first_lines.stop_at = stop_at
    first = run(first_lines)
    torch.manual_seed(11)
    with pytest.raises(StopRequested):
        first.fit()
    save_tree(tmp_path / "state", first.state())
    second_lines = Lines()
    second = run(second_lines)
    torch.manual_seed(999)
    second.load(load_tree(tmp_path / "state"))  # pyright: ignore[reportArgumentType]
    second.fit()
    assert torch.equal(weights(straight.network), weights(second.network))
    assert json.dumps(straight_lines.lines) == json.dumps(first_lines.lines + second_lines.lines)
    assert straight.best is not None
    assert second.best is not None
    assert straight.best["value"] == second.best["value"]
    assert all(torch.equal(straight.best["weights"][k], second.best["weights"][k]) for k in straight.best["weights"])


def test_early_stopping_counts_evaluations_without_improvement() -> None:
    values = iter([0.5, 0.6, 0.6, 0.55, 0.9])
    trainer = make_trainer(make_net(), steps=100, eval_every_steps=1, monitor=("accuracy", "max"), patience=2)
    trainer.evaluate = lambda net: ({"accuracy": next(values)}, {})
    trainer.fit()
    assert trainer.step == 4
    assert "no better accuracy in 2 evaluations" in trainer.reason
    assert trainer.best is not None
    assert trainer.best["step"] == 2


def test_the_feed_gives_every_sample_once_an_epoch_in_another_order() -> None:
    feed = Feed(make_examples(10), lambda batch: batch, batch_size=4, seed=2)
    epochs = [[int(i) for _ in range(3) for part in feed.next_step() for i in part["sample_ids"]] for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("world", [2, 3])
def test_shares_of_all_processes_are_the_batch(world: int) -> None:
    def ids(rank: int, size: int) -> list[int]:
        feed = Feed(
            make_examples(10), lambda batch: batch, batch_size=5, micro_batch_size=2, rank=rank, world_size=size, seed=2
        )
        return [int(i) for part in feed.next_step() for i in part["sample_ids"]]

    assert [i for rank in range(world) for i in ids(rank, world)] == ids(0, 1)


def test_accumulators_are_abstract() -> None:
    with pytest.raises(TypeError):
        Accumulator()  # pyright: ignore[reportAbstractUsage]
