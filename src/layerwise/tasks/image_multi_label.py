"""Multi-label image classification: a picture in, a yes or no for every label out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Probability
from layerwise.data.examples import Splits
from layerwise.tasks.base import Accumulator, Batch, wilson_interval
from layerwise.tasks.pictures import PictureTask, Scale, Statistics


@dataclass(frozen=True, kw_only=True)
class ImageMultiLabelConfig:
    """Options of multi-label classification.

    Args:
        normalise: of pixels, as in `image_classification`.
        threshold: probability from which a label is given; F1, exact matches and predictions depend on it, mean average
            precision does not.
    """

    normalise: Scale | Statistics = "data"
    threshold: Probability = 0.5


def average_precision(scores: Tensor, positives: Tensor) -> float:
    """Sum over thresholds of `(R_n - R_{n-1}) P_n`, precision at every rise of recall; equal scores are one threshold.

    Args:
        scores: [N].
        positives: bool [N], at least one.
    """
    ordered, place = scores.sort(descending=True, stable=True)
    right = positives[place].double().cumsum(0)
    ends = torch.cat([ordered[1:] != ordered[:-1], torch.ones(1, dtype=torch.bool)])  # of runs of equal scores
    right, taken = right[ends], (torch.nonzero(ends).flatten() + 1).double()
    gained = torch.diff(right, prepend=right.new_zeros(1))
    return float((gained * right / taken).sum() / right[-1])


class MultiLabelMetrics(Accumulator):
    """Mean average precision over labels, F1 (the labels' mean and over all answers), exact matches and loss, on the
    answers that are known.

    Args:
        names: of the labels.
        threshold: probability from which a label is given.
    """

    def __init__(self, names: Sequence[str], threshold: float) -> None:
        self.names, self.threshold = list(names), threshold
        self.logits = torch.zeros(0, len(self.names), dtype=torch.float64)
        self.labels = torch.zeros(0, len(self.names), dtype=torch.int8)

    def update(self, network: nn.Module, batch: Batch) -> None:
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "sample_ids")}
        logits = network(**inputs)
        self.update_from(logits[0] if isinstance(logits, tuple) else logits, batch["labels"])

    def update_from(self, logits: Tensor, labels: Tensor) -> None:
        """Take in logits [B, L] and labels [B, L] (1, 0, -1 for not known) directly."""
        self.logits = torch.cat([self.logits, logits.double().cpu()])
        self.labels = torch.cat([self.labels, labels.to(torch.int8).cpu()])

    def state(self) -> dict[str, Tensor]:
        return {"logits": self.logits, "labels": self.labels}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.logits = torch.cat([state["logits"] for state in states])
        self.labels = torch.cat([state["labels"] for state in states])

    def compute(self) -> dict[str, float]:
        known = self.labels >= 0
        if not known.any():
            return {}
        rows = self._rows()
        precise = [row["average precision"] for row in rows if row["average precision"] is not None]
        true, given, there = (sum(row[key] for row in rows) for key in ("right", "given", "count"))
        answers = self.labels.clamp(min=0).double()
        losses = F.binary_cross_entropy_with_logits(self.logits, answers, reduction="none")
        wrong = ((self._given() != (self.labels == 1)) & known).any(1)
        values = {
            "loss": float(losses[known].mean()),
            "macro_f1": sum(row["f1"] for row in rows) / len(rows),
            "micro_f1": 2 * true / (given + there) if given + there else 0.0,
            "exact_match": float((~wrong).double().mean()),
        }
        return values | ({"map": sum(precise) / len(precise)} if precise else {})

    def table(self) -> dict[str, Any]:
        rows = [{"class": row["label"], **{k: v for k, v in row.items() if k != "label"}} for row in self._rows()]
        return {"count": len(self.labels), "per_class": rows}

    def _given(self) -> Tensor:
        return self.logits.sigmoid() >= self.threshold

    def _rows(self) -> list[dict[str, Any]]:
        """Each label's figures; `low` and `high` are the 95 % interval of its recall."""
        rows: list[dict[str, Any]] = []
        for name, logits, labels, given in zip(
            self.names, self.logits.unbind(1), self.labels.unbind(1), self._given().unbind(1), strict=True
        ):
            known = labels >= 0
            positives, given = labels[known] == 1, given[known]
            count, right, said = int(positives.sum()), int((positives & given).sum()), int(given.sum())
            low, high = wilson_interval(right, count)
            rows.append(
                {
                    "label": name,
                    "count": count,
                    "average precision": average_precision(logits[known], positives) if count else None,
                    "given": said,
                    "right": right,
                    "precision": right / said if said else None,
                    "f1": 2 * right / (said + count) if said + count else 0.0,
                    "recall": right / count if count else None,
                    "low": low,
                    "high": high,
                }
            )
        return rows


class ImageMultiLabel(PictureTask):
    """Raw `image` and `multi_labels` int8 [B, L] to `images` and `labels`; the network gives logits [B, L]."""

    monitor = ("map", "max")
    predicts = "files"
    explains = "pixels"
    calls_forward_alone = True

    def __init__(self, config: ImageMultiLabelConfig) -> None:
        super().__init__()
        self.config = config

    def bind(self, splits: Splits) -> None:
        needs = "task=image_multi_label needs pictures with labels (data=image_table, or data.target_kind=labels)"
        self.bind_pictures(splits, {"multi_labels"}, self.config.normalise, needs)

    def inputs(self, batch: Batch) -> Batch:
        made = super().inputs({name: value for name, value in batch.items() if name != "multi_labels"})
        return made | ({"labels": batch["multi_labels"]} if "multi_labels" in batch else {})

    def accumulator(self) -> MultiLabelMetrics:
        return MultiLabelMetrics(self.class_names, self.config.threshold)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        return self.read_pictures(inputs)

    def scores(self, network: nn.Module, batch: Batch) -> Tensor:
        logits = network(batch["images"])
        return logits[0] if isinstance(logits, tuple) else logits

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """`{"labels": [names from the threshold on], "scores": {name: probability}}`, likeliest first."""
        rows: list[dict[str, Any]] = []
        for row in self.scores(network, batch).float().sigmoid().tolist():
            ranked = sorted(zip(self.class_names, row, strict=True), key=lambda pair: -pair[1])
            given = [name for name, score in ranked if score >= self.config.threshold]
            rows.append({"labels": given, "scores": dict(ranked)})
        return rows


TASKS = {"image_multi_label": ImageMultiLabelConfig()}
