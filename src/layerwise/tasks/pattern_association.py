"""Pattern association: vectors in, zeros and ones out, each output unit right or wrong.

The task of the first networks: truth tables, points on two sides of a line, the problems of back-propagation's first
papers. A pattern is right when all of its output units are.

Shapes: B patterns, F inputs, K output units, D hidden units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from layerwise.core.config import Range
from layerwise.core.errors import DataError
from layerwise.data.examples import Examples, Splits
from layerwise.objectives.base import Objective
from layerwise.objectives.perceptron_rule import PerceptronRule, mistake_bound
from layerwise.tasks import pattern_drawings as drawings
from layerwise.tasks.base import Accumulator, Batch, Task, wilson_interval

OutputUnits = Literal["binary", "threshold", "logistic"]
_MOST_ROWS, _MOST_COLUMNS = 16, 12  # of a truth table that is written out
_MOST_CODES = 64  # patterns whose hidden code is drawn


@dataclass(frozen=True, kw_only=True)
class PatternAssociationConfig:
    """Options of pattern association.

    Args:
        output_units: how outputs are read: "binary" are zeros and ones already, "threshold" are 1 above zero, 0 below
            and undecided at zero, "logistic" go through `1 / (1 + e^-x)`.
        tolerance: an output unit is right when it is nearer than this to its target; at one half it is on the right
            side.
    """

    output_units: OutputUnits = "logistic"
    tolerance: Annotated[float, Range(0, 0.5, open_low=True)] = 0.5


def activations(outputs: Tensor, units: OutputUnits) -> Tensor:
    """What a network's outputs say, in [0, 1]; a threshold unit at zero is undecided, 0.5."""
    if units == "binary":
        return outputs
    return outputs.sigmoid() if units == "logistic" else torch.heaviside(outputs, outputs.new_tensor(0.5))


class PatternMetrics(Accumulator):
    """Share of patterns with every unit right (`accuracy`), how many are not (`errors`), 1 where none is (`solved`),
    and the mean squared error of the units (`squared_error`).

    Args:
        config: see `PatternAssociationConfig`.
        sampled: the patterns stand for others, so that the accuracy has an interval; a truth table is all there is.
    """

    def __init__(self, config: PatternAssociationConfig, *, sampled: bool = True) -> None:
        self.config, self.sampled = config, sampled
        self.sums = torch.zeros(4, dtype=torch.float64)  # patterns, right ones, squared error, units

    def update(self, network: nn.Module, batch: Batch) -> None:
        self.update_from(network(images=batch["images"]), batch["labels"])

    def update_from(self, outputs: Tensor, targets: Tensor) -> None:
        """Take in outputs and targets [B, K] directly.

        Raises:
            DataError: they have different numbers of units.
        """
        if outputs.shape != targets.shape:
            raise DataError(f"The network has {outputs.shape[1]} output units, the data {targets.shape[1]} targets.")
        distance = (activations(outputs.double(), self.config.output_units) - targets.double()).abs().cpu()
        right = (distance < self.config.tolerance).all(1).sum()
        numbers = (float(len(targets)), float(right), float(distance.square().sum()), float(distance.numel()))
        self.sums += torch.tensor(numbers, dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = torch.stack([state["sums"] for state in states]).sum(0)

    def compute(self) -> dict[str, float]:
        count, right, squares, units = self.sums.tolist()
        if count == 0:
            return {}
        wrong = count - right
        found = {"accuracy": right / count, "errors": wrong, "solved": float(wrong == 0)}
        return {**found, "squared_error": squares / units}

    def table(self) -> dict[str, Any]:
        count, right = (int(value) for value in self.sums[:2])
        intervals = {"accuracy": wilson_interval(right, count)} if self.sampled else {}
        return {"count": count, "intervals": intervals}


class PatternAssociation(Task):
    """Raw `features` [B, F] and `target` [B, K] of zeros and ones to `images` and `labels`; outputs are [B, K]."""

    monitor = ("accuracy", "max")
    predicts = "numbers"

    def __init__(self, config: PatternAssociationConfig) -> None:
        self.config = config
        self.num_inputs = self.num_outputs = 0
        self.sampled = True

    def bind(self, splits: Splits) -> None:
        self.sampled = splits.test is None or splits.test is not splits.train
        part = next((p for p in (splits.train, splits.val, splits.test) if p is not None), None)
        if part is None:
            raise DataError("task=pattern_association: the data has no examples.")
        for ids in torch.arange(len(part)).split(8192):
            batch = part.collate(ids)
            if missing := {"features", "target"} - batch.keys():
                raise DataError(
                    f"task=pattern_association needs vectors with zeros and ones to answer; the data has no column "
                    f"{', '.join(sorted(missing))}. data=logic and data=separable have them."
                )
            if not bool(((batch["target"] == 0) | (batch["target"] == 1)).all()):
                raise DataError("task=pattern_association: targets must be 0 or 1.")
            self.num_inputs, self.num_outputs = batch["features"].shape[1], batch["target"].shape[1]

    def state(self) -> dict[str, Any]:
        return {"num_inputs": self.num_inputs, "num_outputs": self.num_outputs, "sampled": self.sampled}

    def load(self, state: dict[str, Any]) -> None:
        self.num_inputs, self.num_outputs, self.sampled = (
            state[name] for name in ("num_inputs", "num_outputs", "sampled")
        )

    def facts(self) -> dict[str, Any]:
        # A network that counts classes (`mlp`) has one output a target here.
        return {"in_features": self.num_inputs, "num_outputs": self.num_outputs, "num_classes": self.num_outputs}

    def inputs(self, batch: Batch) -> Batch:
        made = {"images": batch["features"], "labels": batch.get("target"), "sample_ids": batch.get("sample_ids")}
        return {name: value for name, value in made.items() if value is not None}

    def accumulator(self) -> PatternMetrics:
        return PatternMetrics(self.config, sampled=self.sampled)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Numbers with spaces or commas between them: `"0 1"`.

        Raises:
            DataError: something else, or another number of them.
        """
        rows: list[tuple[str, Batch]] = []
        for text in inputs:
            try:
                values = [float(word) for word in text.replace(",", " ").split()]
            except ValueError:
                raise DataError(f"{text!r}: not numbers with spaces or commas between them.") from None
            if len(values) != self.num_inputs:
                raise DataError(f"{text!r} has {len(values)} numbers; the model takes {self.num_inputs}.")
            rows.append((text, {"features": torch.tensor([values])}))
        return rows

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        values = activations(network(images=batch["images"]).double(), self.config.output_units)
        return [{"label": _digits(row), "outputs": row} for row in values.tolist()]

    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """The truth table, the answer over the plane, the hidden code of each pattern: what fits the network's size."""
        part = None if splits is None else splits.test if splits.test is not None else splits.val
        if part is None:
            return []
        batch, found = self._whole(part), list[tuple[str, Path]]()
        features, targets = batch["images"], batch["labels"]
        outputs = activations(network(images=features).double(), self.config.output_units)
        binary = bool(((features == 0) | (features == 1)).all())
        hidden = getattr(network, "forward_features", None)
        code = hidden(features) if callable(hidden) and len(features) <= _MOST_CODES else None
        learned = isinstance(code, Tensor) and not torch.equal(code, features)
        if binary and len(features) <= _MOST_ROWS and features.shape[1] + 2 * targets.shape[1] <= _MOST_COLUMNS:
            right = (outputs - targets).abs() < self.config.tolerance
            path = drawings.truth_table(features, targets, outputs, right.all(1), folder / "truth-table.png")
            found.append(("Truth table: inputs, what is wanted, what the network gives", path))
        if features.shape[1] == 2 and targets.shape[1] == 1:

            def answer(points: Tensor) -> Tensor:
                return activations(network(images=points).double(), self.config.output_units)[:, 0]

            path = drawings.surface(answer, features, targets[:, 0], folder / "surface.png")
            found.append(("The network's answer over the plane of its two inputs", path))
        if learned and isinstance(code, Tensor) and code.shape[1] == 2:
            path = drawings.hidden_plane(code, targets, folder / "hidden-plane.png")
            found.append(("Where the two hidden units put each pattern", path))
        if learned and isinstance(code, Tensor) and binary and 2 < code.shape[1] <= _MOST_ROWS >= len(features):
            path = drawings.code_table(features, code, outputs, folder / "hidden-code.png")
            found.append(("The code that the hidden units found for each pattern", path))
        return found

    def course(
        self, network: nn.Module, splits: Splits | None, objective: Objective, folder: Path
    ) -> tuple[list[str], list[tuple[str, Path]]]:
        """For the perceptron: whether it converged, beside the bound of the theorem, and its line as learning went."""
        if splits is None or splits.train is None or not isinstance(objective, PerceptronRule):
            return [], []
        batch = self._whole(splits.train)
        remark = _convergence(network, batch, objective, splits.extras.get("separator"))
        states = objective.states()
        if batch["images"].shape[1] != 2 or not states or len(states[0][1]) != 3:
            return [remark], []
        if states[-1][0] < int(objective.updates):
            states.append((int(objective.updates), torch.cat([p.detach().flatten() for p in network.parameters()])))
        path = drawings.line_course(states, batch["images"], batch["labels"][:, 0], folder / "line.png")
        return [remark], [("The line after 1, 2, 4, 8 ... updates, from pale to dark, and the one that was kept", path)]

    def _whole(self, part: Examples) -> Batch:
        return self.inputs(part.collate(torch.arange(len(part))))


def _digits(values: Sequence[float]) -> str:
    """Output units rounded: "0 1"; "?" for one in the middle."""
    return " ".join("?" if value == 0.5 else str(int(value > 0.5)) for value in values)


def _convergence(network: nn.Module, batch: Batch, objective: PerceptronRule, separator: dict[str, Any] | None) -> str:
    """Passes, updates and the bound; or that there was no end.

    The bound is the smaller one of two: from the margin of the weights that were found, and from that of the separating
    plane that the data set knows, where it does.
    """
    features, signs = batch["images"], 2 * batch["labels"].double() - 1
    agreement = signs * network(images=features).double()
    passes, updates = int(objective.seen) / len(features), int(objective.updates)
    counted = f"{passes:g} pass{'es' * (passes != 1)}, {updates:,} update{'s' * (updates != 1)}"
    if not bool((agreement > 0).all()):
        return f"Did not converge in {counted}: the data may not be linearly separable."
    if not objective.is_rule_as_proved():
        return f"Converged after {counted}."
    seen = getattr(network, "forward_features", lambda images: images)(features)
    length = float(torch.cat([p.detach().double().flatten() for p in network.parameters()]).norm())
    bound = mistake_bound(seen, agreement, length)
    if separator is not None and torch.equal(seen, features):
        weight = torch.tensor(separator["weight"], dtype=torch.float64)
        known = signs * (features.double() @ weight + separator["bias"])[:, None]
        bound = min(bound, mistake_bound(features, known, float(weight.square().sum() + separator["bias"] ** 2) ** 0.5))
    return f"Converged after {counted}; the bound (R / margin)^2 is {bound:,.1f}."


TASKS = {"pattern_association": PatternAssociationConfig()}
