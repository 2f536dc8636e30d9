"""Regression on table rows: numbers and categories in, a number out, reported in the target's own units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.config import PositiveInt
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Accumulator, Batch
from layerwise.tasks.tabular import TableTask


@dataclass(frozen=True, kw_only=True)
class TabularRegressionConfig:
    """Options of tabular regression.

    Args:
        min_count: category values with fewer training rows share the index of unseen values.
    """

    min_count: PositiveInt = 2


class RegressionMetrics(Accumulator):
    """RMSE and MAE in the target's units, and R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2, from float64 sums.

    Args:
        std: units of the target in one unit of the standardised one.
    """

    def __init__(self, std: float) -> None:
        self.std = std
        # count, sum z, sum z^2, sum (z - f)^2, sum |z - f| of standardised targets z and predictions f
        self.sums = torch.zeros(5, dtype=torch.float64)

    def update(self, network: nn.Module, batch: Batch) -> None:
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "sample_ids")}
        self.update_from(network(**inputs), batch["labels"])

    def update_from(self, predictions: Tensor, targets: Tensor) -> None:
        """Take in standardised predictions and targets of equal shape directly."""
        z, f = targets.double().flatten().cpu(), predictions.double().flatten().cpu()
        wrong = z - f
        count = torch.tensor(float(len(z)), dtype=torch.float64)
        self.sums += torch.stack([count, z.sum(), z.square().sum(), wrong.square().sum(), wrong.abs().sum()])

    def state(self) -> dict[str, Tensor]:
        return {"sums": self.sums}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = torch.stack([state["sums"] for state in states]).sum(0)

    def compute(self) -> dict[str, float]:
        count, total, squares, wrong, distance = self.sums.tolist()
        if count == 0:
            return {}
        spread = squares - total * total / count
        values = {"rmse": self.std * (wrong / count) ** 0.5, "mae": self.std * distance / count, "loss": wrong / count}
        if spread > 0:
            values["r2"] = 1 - wrong / spread
        return values


class TabularRegression(TableTask):
    """Raw `numeric`, `categories` to model inputs of the same names; the network gives the standardised target [B,
    1].
    """

    monitor = ("rmse", "min")

    def __init__(self, config: TabularRegressionConfig) -> None:
        super().__init__(config.min_count)
        self.config = config
        self.target_mean, self.target_std = 0.0, 1.0

    def bind(self, splits: Splits) -> None:
        super().bind(splits)
        assert self.schema is not None
        assert splits.train is not None
        if "target" not in splits.train.collate(torch.tensor([0])):
            raise DataError(
                f"The target {self.schema.target!r} is a class, not a number. "
                "Take task=tabular_classification, or data.target_kind=number if it is one."
            )
        chunks = torch.arange(len(splits.train)).split(8192)
        target = torch.cat([splits.train.collate(ids)["target"].double() for ids in chunks])
        self.target_mean, std = float(target.mean()), float(target.std(correction=0))
        if std == 0:
            raise DataError(
                f"The target {self.schema.target!r} is always {self.target_mean:g}: there is nothing to learn."
            )
        self.target_std = std

    def state(self) -> dict[str, Any]:
        return {**super().state(), "target_mean": self.target_mean, "target_std": self.target_std}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.target_mean, self.target_std = state["target_mean"], state["target_std"]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "num_outputs": 1}

    def inputs(self, batch: Batch) -> Batch:
        made = self.table_inputs(batch)
        if "target" in batch:
            made["labels"] = ((batch["target"].double() - self.target_mean) / self.target_std).to(torch.float32)[
                :, None
            ]
        return made

    def accumulator(self) -> RegressionMetrics:
        return RegressionMetrics(self.target_std)

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        values = network(batch["numeric"], batch["categories"])[:, 0].double() * self.target_std + self.target_mean
        return [{"value": value} for value in values.tolist()]


TASKS = {"tabular_regression": TabularRegressionConfig()}
