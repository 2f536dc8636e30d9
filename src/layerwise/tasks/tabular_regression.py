"""Regression on table rows: numbers and categories in, a number out, reported in the target's own units."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Batch
from layerwise.tasks.regression import RegressionMetrics, TargetScale
from layerwise.tasks.tabular import TableTask, TableTaskConfig


@dataclass(frozen=True, kw_only=True)
class TabularRegressionConfig(TableTaskConfig):
    """Options of tabular regression: those of tasks on tables."""


class TabularRegression(TableTask):
    """Raw `numeric`, `categories` to model inputs of the same names; the network gives the standardised target [B,
    1].
    """

    monitor = ("rmse", "min")

    def __init__(self, config: TabularRegressionConfig) -> None:
        super().__init__(config)
        self.config = config
        self._scale: TargetScale | None = None

    def bind(self, splits: Splits) -> None:
        super().bind(splits)
        assert self.schema is not None
        assert splits.train is not None
        if "target" not in splits.train.collate(torch.tensor([0])):
            raise DataError(
                f"The target {self.schema.target!r} is a class, not a number. "
                "Take task=tabular_classification, or data.target_kind=number if it is one."
            )
        self._scale = TargetScale.measure(splits.train, [self.schema.target])

    @property
    def scale(self) -> TargetScale:
        if self._scale is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._scale

    def state(self) -> dict[str, Any]:
        return {**super().state(), "target": self.scale.to_json()}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._scale = TargetScale(**state["target"])

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "num_outputs": 1}

    def inputs(self, batch: Batch) -> Batch:
        made = self.table_inputs(batch)
        return made | ({"labels": self.scale.standardise(batch["target"])} if "target" in batch else {})

    def accumulator(self) -> RegressionMetrics:
        return RegressionMetrics(self.scale)

    def scores(self, network: nn.Module, batch: Batch) -> Tensor:
        return self.scale.restore(super().scores(network, batch))

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        values = self.scores(network, batch)
        return [{"value": value} for value in values[:, 0].tolist()]


TASKS = {"tabular_regression": TabularRegressionConfig()}
