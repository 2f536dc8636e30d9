"""What a task gives the rest: model inputs, metrics, predictions, and what it learned about the data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.data.examples import Examples, Splits
from layerwise.data.source import StepSource
from layerwise.objectives.base import Objective

Batch = dict[str, Tensor]


class Accumulator(ABC):
    """A metric over a split: `update` per batch, `merge` over processes, `compute` once."""

    @abstractmethod
    def update(self, network: nn.Module, batch: Batch) -> None:
        """Take in one evaluation batch (model inputs as `Task.inputs` gave them); the network is in eval mode,
        gradients are off.
        """

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """What was taken in, as tensors that may be concatenated or added by `merge`."""

    @abstractmethod
    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        """Replace what was taken in by the union of several processes' states."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Metric name -> value."""

    def table(self) -> dict[str, Any]:
        """Details for the report (confusion matrix, per-class table), as JSON values."""
        return {}


_EXAMPLE_INPUTS = {"files": "picture.png", "rows": "rows.csv", "text": '"some text"', "numbers": '"0 1"'}


class Task(ABC):
    """The meaning of inputs and outputs. Bound to the data once; what it learned there travels with the weights as
    JSON.
    """

    # Validation metric that selects weights, and whether "max" or "min" of it is better; None keeps the last weights.
    monitor: tuple[str, str] | None = None
    # Whether inputs to `predict` are files ("files"), rows of a table ("rows"), text ("text") or numbers in a text
    # ("numbers"); None: cannot predict.
    predicts: str | None = None
    # What `layerwise explain` points at: pixels of `images` ("pixels"), columns of a table ("columns"); None: nothing.
    explains: str | None = None
    # Whether a run keeps `state()` from its start, and has `bind` go on with it: what the task took from a checkpoint
    # or learned at length (a tokeniser) is then there when the run goes on.
    keeps_state: bool = False
    # Whether evaluation reads windows of a text in order, streams side by side, each from the state that the one before
    # left.
    streams: bool = False
    # Whether training is on a fixed data set; False for tasks whose batch source acts in an environment.
    needs_data: bool = True
    # Whether evaluation and predictions call nothing of the network but its forward, so that another module with the
    # same forward may stand for it.
    calls_forward_alone: bool = False
    # Set by whoever evaluates: whether the evaluation that follows is the last one of a run, or one that a person asked
    # for, and may look at more than those that training waits for.
    concludes: bool = False

    @abstractmethod
    def bind(self, splits: Splits) -> None:
        """Learn from the data what inputs need (class names, normalisation, vocabulary); check that the data fits the
        task.

        Raises:
            DataError: the data cannot serve this task.
        """

    def bind_objective(self, objective: Any) -> None:  # noqa: B027 - most tasks need nothing of it
        """Learn from the configuration of the last objective what the network's outputs will mean (the noise process
        that it learns to go back); called after `bind`.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `bind` learned, as JSON values; saved beside the weights."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Take `state()` back, instead of `bind`."""

    @property
    def example_input(self) -> str | None:
        """What a person may type behind `layerwise predict RUN`; None: cannot predict."""
        return _EXAMPLE_INPUTS.get(self.predicts or "")

    def facts(self) -> dict[str, Any]:
        """Values that the model takes from data and task: `num_classes`, `in_channels`, `vocab_size` ..."""
        return {}

    def preprocessing(self) -> nn.Module:
        """Raw column -> model input, exportable; the same in training, eval, predict and serve."""
        return nn.Identity()

    def inputs(self, batch: Batch) -> Batch:
        """A raw collated batch as the model and objective take it: forward's argument names, `labels`, `sample_ids`."""
        return batch

    def lengths(self, examples: Examples) -> Tensor | None:
        """Length of every training example [N] where batches should be of like lengths, so that little of them is
        filling; None where lengths do not matter.
        """
        return None

    @abstractmethod
    def accumulator(self) -> Accumulator:
        """A fresh set of metrics."""

    def evaluate(
        self,
        network: nn.Module,
        batches: Iterable[Batch],
        merge: Callable[[Accumulator], None] = lambda accumulator: None,
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Metrics and report tables over evaluation batches.

        Args:
            network: in eval mode, under `torch.no_grad`.
            batches: model inputs of this process's share of the split.
            merge: unites an accumulator over processes.
        """
        accumulator = self.accumulator()
        for batch in batches:
            accumulator.update(network, batch)
        merge(accumulator)
        return accumulator.compute(), accumulator.table()

    def own_samples(self, part: str) -> Tensor:
        """Sample ids, int64 [N], that a task which makes its own data is evaluated on; part is "val" or "test"."""
        raise UnsupportedError(f"{type(self).__name__} has no samples of its own.")

    def make_source(self, network: nn.Module, batch_size: int, seed: int) -> StepSource | None:
        """A batch source of the task's own (an environment that the policy acts in); None takes the data set's."""
        return None

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Raw columns (batch of one) for each thing a person gave to predict, named as they gave it."""
        raise UnsupportedError(f"{type(self).__name__} does not predict on files.")

    def remarks(self) -> list[str]:
        """What a person should know about the inputs decoded since the last call (values that training never saw)."""
        return []

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """JSON of `layerwise predict` for a batch of model inputs, without the `input` key."""
        raise UnsupportedError(f"{type(self).__name__} does not predict.")

    def scores(self, network: nn.Module, batch: Batch) -> Tensor:
        """What `explain` asks the reasons of, differentiable: a logit for each class [B, K], or the number predicted
        [B, 1].
        """
        raise UnsupportedError(f"{type(self).__name__} has no scores that could be explained.")

    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """Write pictures for the report into `folder`; (caption, file) of each."""
        return []

    def snapshot(self, network: nn.Module, folder: Path, step: int) -> None:  # noqa: B027 - most tasks draw nothing
        """Draw into `folder` how far training is at an evaluation, for `course`; the network is as it is evaluated."""

    def course(
        self, network: nn.Module, splits: Splits | None, objective: Objective, folder: Path
    ) -> tuple[list[str], list[tuple[str, Path]]]:
        """How learning went, for the report: plain sentences, and pictures written into `folder` with captions."""
        return [], []

    def generate(
        self, network: nn.Module, *, prompt: str | None, count: int, seed: int, out: Path | None
    ) -> list[dict[str, Any]]:
        """Make new samples; JSON of `layerwise generate`."""
        raise UnsupportedError(f"{type(self).__name__} does not generate.")


def call(network: nn.Module, batch: Batch, names: Sequence[str]) -> Any:
    """`network(**batch[names])`: forward's arguments by name."""
    return network(**{name: batch[name] for name in names if name in batch})


def wilson_interval(successes: float, count: float, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927). Closed form; (0, 1) without observations."""
    if count <= 0:
        return 0.0, 1.0
    p, z2 = successes / count, z * z
    centre = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = (
        z
        / (1 + z2 / count)
        * float(torch.tensor(p * (1 - p) / count + z2 / (4 * count * count), dtype=torch.float64).sqrt())
    )
    return max(0.0, centre - half), min(1.0, centre + half)
