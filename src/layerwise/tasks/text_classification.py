"""Text classification: a text, or a pair of texts, in, a class out."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Batch
from layerwise.tasks.image_classification import ClassificationMetrics
from layerwise.tasks.texts import PackedOptions, TextTask

_INPUTS = ("tokens", "mask", "segments", "documents")


@dataclass(frozen=True, kw_only=True)
class TextClassificationConfig(PackedOptions):
    """Options of text classification: how texts become tokens."""


class TextClassificationMetrics(ClassificationMetrics):
    """Those of classes, and Matthews' correlation coefficient for any number of classes (Gorodkin 2004)."""

    def compute(self) -> dict[str, float]:
        found = super().compute()
        return {**found, "mcc": matthews(self.sums["confusion"])} if found else found


def matthews(confusion: Tensor) -> float:
    """Correlation of predicted and true classes; 0 where either is always the same.

    Args:
        confusion: counts [K, K], rows are true classes.
    """
    counts = confusion.double()
    true, predicted, total = counts.sum(1), counts.sum(0), counts.sum()
    together = counts.trace() * total - (true * predicted).sum()
    spread = (total**2 - (true**2).sum()) * (total**2 - (predicted**2).sum())
    return float(together / spread.sqrt()) if spread > 0 else 0.0


class TextClassification(TextTask):
    """Model inputs `tokens`, `mask` (of pairs also `segments`) and `labels`; the network gives logits [B, classes]."""

    calls_forward_alone = True
    monitor = ("accuracy", "max")

    def __init__(self, config: TextClassificationConfig) -> None:
        super().__init__(config)
        self.packed = config.packed

    def bind(self, splits: Splits) -> None:
        self.bind_texts(splits, {"labels"})
        classes = splits.facts.get("num_classes") or 0
        self.class_names = splits.class_names or [str(k) for k in range(classes)]
        if not self.class_names:
            raise DataError("task=text_classification needs texts with a class each; the data has no classes.")

    def state(self) -> dict[str, Any]:
        return {**super().state(), "class_names": self.class_names}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self.class_names = state["class_names"]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "num_classes": len(self.class_names), "head": "classifier"}

    def accumulator(self) -> ClassificationMetrics:
        return TextClassificationMetrics(self.class_names)

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        logits = network(**{name: value for name, value in batch.items() if name in _INPUTS})
        scores = (logits[0] if isinstance(logits, tuple) else logits).float().softmax(1)
        rows: list[dict[str, Any]] = []
        for row in scores.tolist():
            ranked = sorted(zip(self.class_names, row, strict=True), key=lambda pair: -pair[1])
            rows.append({"label": ranked[0][0], "scores": dict(ranked)})
        return rows


TASKS = {"text_classification": TextClassificationConfig()}
