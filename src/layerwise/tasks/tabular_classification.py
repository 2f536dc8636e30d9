"""Classification of table rows: numbers and categories in, a class out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.config import PositiveInt
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Batch
from layerwise.tasks.image_classification import ClassificationMetrics
from layerwise.tasks.tabular import TableTask


@dataclass(frozen=True, kw_only=True)
class TabularClassificationConfig:
    """Options of tabular classification.

    Args:
        min_count: category values with fewer training rows share the index of unseen values.
    """

    min_count: PositiveInt = 2


class TabularMetrics(ClassificationMetrics):
    """The classification metrics, and for two classes the area under the ROC curve of the second one's score."""

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(class_names)
        self.scores = torch.zeros(0, dtype=torch.float64)
        self.positives = torch.zeros(0, dtype=torch.bool)

    def update_from(self, logits: Tensor, labels: Tensor, sample_ids: Tensor) -> None:
        super().update_from(logits, labels, sample_ids)
        if len(self.class_names) == 2:
            margin = (
                (logits[:, 1] - logits[:, 0]).double().cpu()
            )  # orders rows as the softmax does, without its rounding
            self.scores = torch.cat([self.scores, margin])
            self.positives = torch.cat([self.positives, labels.cpu() == 1])

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "scores": self.scores, "positives": self.positives}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        super().merge(states)
        self.scores = torch.cat([state["scores"] for state in states])
        self.positives = torch.cat([state["positives"] for state in states])

    def compute(self) -> dict[str, float]:
        values = super().compute()
        if self.positives.any() and not self.positives.all():
            values["auc"] = roc_auc(self.scores, self.positives)
        return values


def roc_auc(scores: Tensor, positives: Tensor) -> float:
    """Share of (positive, negative) pairs that the scores order rightly, ties counting half (Mann and Whitney 1947).

    Args:
        scores: [N].
        positives: bool [N], some of either kind.
    """
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    ends = torch.cumsum(counts, 0).double()
    ranks = (ends - (counts - 1).double() / 2)[place]  # mean rank of equal scores, from 1
    good = int(positives.sum())
    bad = len(positives) - good
    return float((ranks[positives].sum() - good * (good + 1) / 2) / (good * bad))


class TabularClassification(TableTask):
    """Raw `numeric`, `categories` to model inputs of the same names; the network gives logits [B, classes]."""

    monitor = ("loss", "min")

    def __init__(self, config: TabularClassificationConfig) -> None:
        super().__init__(config.min_count)
        self.config = config
        self.class_names: list[str] = []

    def bind(self, splits: Splits) -> None:
        super().bind(splits)
        assert self.schema is not None
        if not splits.facts.get("num_classes") or splits.class_names is None:
            raise DataError(
                f"The target {self.schema.target!r} is a number, not a class. "
                "Take task=tabular_regression, or data.target_kind=class if its values are classes."
            )
        self.class_names = splits.class_names

    def state(self) -> dict[str, Any]:
        return {**super().state(), "class_names": self.class_names}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.class_names = state["class_names"]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "num_outputs": len(self.class_names), "num_classes": len(self.class_names)}

    def inputs(self, batch: Batch) -> Batch:
        return self.table_inputs(batch) | ({"labels": batch["labels"]} if "labels" in batch else {})

    def accumulator(self) -> TabularMetrics:
        return TabularMetrics(self.class_names)

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        scores = network(batch["numeric"], batch["categories"]).float().softmax(1)
        rows: list[dict[str, Any]] = []
        for row in scores.tolist():
            ranked = sorted(zip(self.class_names, row, strict=True), key=lambda pair: -pair[1])
            rows.append({"label": ranked[0][0], "scores": dict(ranked)})
        return rows


TASKS = {"tabular_classification": TabularClassificationConfig()}
