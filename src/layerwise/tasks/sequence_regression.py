"""Regression on sequences: vectors step by step in, numbers out at the end, reported in the targets' own units."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.objectives.base import Objective
from layerwise.tasks.base import Batch, Task
from layerwise.tasks.gradient_drawings import draw_gradients, gradient_norms
from layerwise.tasks.regression import RegressionMetrics, TargetScale

_SHOWN = 64  # sequences over which gradients through time are averaged


@dataclass(frozen=True, kw_only=True)
class SequenceRegressionConfig:
    """Regression on sequences has no options."""


class SequenceMetrics(RegressionMetrics):
    """As of every regression, and the mean squared error in the target's own unit, squared (`mse`)."""

    def compute(self) -> dict[str, float]:
        found = super().compute()
        return found | {f"mse{name[4:]}": value**2 for name, value in found.items() if name.startswith("rmse")}


class SequenceRegression(Task):
    """Raw `features` float [B, T, F] and `target` [B] or [B, K] to `features` and standardised `labels` [B, K]."""

    monitor = ("mse", "min")
    predicts = "numbers"

    def __init__(self, config: SequenceRegressionConfig) -> None:
        self.config = config
        self._scale: TargetScale | None = None
        self.in_features = 0

    @property
    def scale(self) -> TargetScale:
        """Of the training targets."""
        if self._scale is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._scale

    def bind(self, splits: Splits) -> None:
        part = splits.train if splits.train is not None else splits.test
        if part is None:
            raise DataError("task=sequence_regression: the data has no examples.")
        first = part.collate(torch.tensor([0]))
        if not {"features", "target"} <= first.keys() or first["features"].dim() != 3:
            raise DataError(
                "task=sequence_regression needs sequences of vectors, each with numbers to answer; this data has "
                f"{', '.join(sorted(first))}. data=adding_problem has them."
            )
        count = first["target"].view(1, -1).shape[1]
        names = splits.extras.get("targets") or [f"target {k + 1}" for k in range(count)]
        self._learn(TargetScale.measure(part, names), first["features"].shape[2])

    def _learn(self, scale: TargetScale, in_features: int) -> None:
        self._scale, self.in_features = scale, in_features
        if len(scale.names) > 1:  # whose units may differ: the mean of the standardised errors
            self.monitor = ("loss", "min")

    def state(self) -> dict[str, Any]:
        return {"target": self.scale.to_json(), "in_features": self.in_features}

    def load(self, state: dict[str, Any]) -> None:
        self._learn(TargetScale(**state["target"]), state["in_features"])

    def facts(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "num_outputs": len(self.scale.names)}

    def inputs(self, batch: Batch) -> Batch:
        made = {"features": batch["features"]}
        if "target" in batch:
            made["labels"] = self.scale.standardise(batch["target"])
        return made | {name: batch[name] for name in ("sample_ids",) if name in batch}

    def accumulator(self) -> SequenceMetrics:
        return SequenceMetrics(self.scale)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        """Steps with semicolons between them, the numbers of a step with spaces or commas: `"0.3 0; 0.9 1; 0.2 1"`.

        Raises:
            DataError: something else, or another number of numbers in a step.
        """
        rows: list[tuple[str, Batch]] = []
        for text in inputs:
            try:
                steps = [[float(word) for word in step.replace(",", " ").split()] for step in text.split(";")]
            except ValueError:
                raise DataError(f"{text!r}: not numbers, with semicolons between steps.") from None
            if wrong := next((step for step in steps if len(step) != self.in_features), None):
                raise DataError(f"{text!r}: a step has {len(wrong)} numbers; the model takes {self.in_features}.")
            if not all(steps):
                raise DataError(f"{text!r}: a step is empty; the model takes {self.in_features} numbers a step.")
            rows.append((text, {"features": torch.tensor([steps])}))
        return rows

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        values = self.scale.restore(network(features=batch["features"])).tolist()
        return [{"label": row[0], "values": dict(zip(self.scale.names, row, strict=True))} for row in values]

    def course(
        self, network: nn.Module, splits: Splits | None, objective: Objective, folder: Path
    ) -> tuple[list[str], list[tuple[str, Path]]]:
        """How far back the loss is felt: the norm of its gradient by the state of every step, of weights drawn afresh
        and as they were learned; for recurrent networks (`rnn` of torch) alone.
        """
        part = None if splits is None else splits.val if splits.val is not None else splits.train
        layers = getattr(network, "rnn", None)
        if part is None or not isinstance(layers, nn.RNN | nn.LSTM | nn.GRU):
            return [], []
        batch = self.inputs(part.collate(torch.arange(min(_SHOWN, len(part)))))
        courses = gradient_norms(network, layers, batch)
        path = draw_gradients(courses, folder / "gradients.png")
        first, last = (
            {name: norms[0] / norms[-1] for name, norms in drawn.items() if norms[-1] > 0} for drawn in courses
        )
        remark = "From the last step to the first the gradient shrinks to "
        said = [f"{kept:.2g} of itself at the start and {last[name]:.2g} after training ({name})"
                for name, kept in first.items() if name in last]  # fmt: skip
        caption = "Norm of the loss's gradient by the state of each step, mean of 64 validation sequences"
        return [remark + ", ".join(said) + "."], [(caption, path)]


TASKS = {"sequence_regression": SequenceRegressionConfig()}
