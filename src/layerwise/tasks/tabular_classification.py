"""Classification of table rows: numbers and categories in, a class out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.data.feed import in_order
from layerwise.tasks.base import Batch
from layerwise.tasks.calibration import draw_reliability, reliability
from layerwise.tasks.image_classification import ClassificationMetrics
from layerwise.tasks.tabular import TableTask, TableTaskConfig


@dataclass(frozen=True, kw_only=True)
class TabularClassificationConfig(TableTaskConfig):
    """Options of tabular classification: those of tasks on tables."""


class TabularMetrics(ClassificationMetrics):
    """The classification metrics, and the area under the ROC curve: of the second class's score where there are two
    classes, else the mean over classes of each one's against the rest (those that the split has).

    The report's calibration table and curve are of the second class's probability, or of the likeliest class's where
    there are more than two.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(class_names)
        columns = 1 if len(self.class_names) == 2 else len(self.class_names)
        self.scores = torch.zeros(0, columns, dtype=torch.float64)
        self.truth = torch.zeros(0, dtype=torch.int64)

    def update_from(self, logits: Tensor, labels: Tensor, sample_ids: Tensor) -> None:
        super().update_from(logits, labels, sample_ids)
        wide = logits.double().cpu()
        # The margin orders rows as the softmax does, without its rounding to 0 and 1.
        scores = wide[:, 1:] - wide[:, :1] if len(self.class_names) == 2 else wide.softmax(1)
        self.scores = torch.cat([self.scores, scores])
        self.truth = torch.cat([self.truth, labels.cpu()])

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "scores": self.scores, "truth": self.truth}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        super().merge(states)
        self.scores = torch.cat([state["scores"] for state in states])
        self.truth = torch.cat([state["truth"] for state in states])

    def compute(self) -> dict[str, float]:
        values = super().compute()
        if areas := [roc_auc(scores, positives) for scores, positives in self._curves()]:
            values["auc"] = sum(areas) / len(areas)
        return values

    def table(self) -> dict[str, Any]:
        found = super().table()
        if not len(self.truth):
            return found
        curves = self._curves()
        if len(self.class_names) == 2 and curves:
            found["intervals"]["auc"] = auc_interval(*curves[0])
        found["calibration"] = reliability(*self.calibration_pairs())
        return found

    def calibration_pairs(self) -> tuple[Tensor, Tensor]:
        """Probability [N] that the network gave, and whether it came true [N]."""
        if len(self.class_names) == 2:
            return self.scores[:, 0].sigmoid(), self.truth == 1
        likeliest, predicted = self.scores.max(1)
        return likeliest, predicted == self.truth

    def _curves(self) -> list[tuple[Tensor, Tensor]]:
        """Scores and positives of every class (the second of two) that the split has and lacks in some rows."""
        classes = [1] if len(self.class_names) == 2 else range(len(self.class_names))
        pairs = [(column, self.truth == label) for column, label in zip(self.scores.unbind(1), classes, strict=True)]
        return [(scores, positives) for scores, positives in pairs if positives.any() and not positives.all()]


def _mean_ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing their mean rank."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum(0).double() - (counts - 1).double() / 2)[place]


def roc_auc(scores: Tensor, positives: Tensor) -> float:
    """Share of (positive, negative) pairs that the scores order rightly, ties counting half (Mann and Whitney 1947).

    Args:
        scores: [N].
        positives: bool [N], some of either kind.
    """
    ranks = _mean_ranks(scores)
    good = int(positives.sum())
    bad = len(positives) - good
    return float((ranks[positives].sum() - good * (good + 1) / 2) / (good * bad))


def auc_interval(scores: Tensor, positives: Tensor, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of `roc_auc`, normal with the variance of DeLong, DeLong and Clarke-Pearson (1988), from ranks (Sun
    and Xu 2014, "Fast implementation of DeLong's algorithm").
    """
    everywhere = _mean_ranks(scores)
    good, bad = scores[positives], scores[~positives]
    beaten = (everywhere[positives] - _mean_ranks(good)) / len(bad)  # share of negatives below each positive
    beating = 1 - (everywhere[~positives] - _mean_ranks(bad)) / len(good)  # of positives above each negative
    variance = sum(float(share.var()) / len(share) for share in (beaten, beating) if len(share) > 1)
    area, half = float(beaten.mean()), z * variance**0.5
    return max(0.0, area - half), min(1.0, area + half)


class TabularClassification(TableTask):
    """Raw `numeric`, `categories` to model inputs of the same names; the network gives logits [B, classes]."""

    monitor = ("loss", "min")

    def __init__(self, config: TabularClassificationConfig) -> None:
        super().__init__(config)
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

    def pictures(self, network: nn.Module, splits: Splits | None, folder: Path) -> list[tuple[str, Path]]:
        """The reliability curve of the test part (validation where there is none)."""
        part = None if splits is None else splits.test if splits.test is not None else splits.val
        if part is None:
            return []
        metrics, device = self.accumulator(), next(network.parameters()).device
        for batch in in_order(part, self.inputs, 1024):
            metrics.update(network, {name: value.to(device) for name, value in batch.items()})
        probabilities, came_true = metrics.calibration_pairs()
        what = f"{self.class_names[1]}" if len(self.class_names) == 2 else "the likeliest class"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "reliability.png"
        draw_reliability(probabilities, came_true, what, path)
        return [(f"Calibration: how often {what} came true, by the probability that the network gave", path)]


TASKS = {"tabular_classification": TabularClassificationConfig()}
