"""Text classification: a text in, a class out."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from layerwise.core.config import PositiveInt
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Batch
from layerwise.tasks.image_classification import ClassificationMetrics
from layerwise.tasks.texts import TextTask


@dataclass(frozen=True, kw_only=True)
class TextClassificationConfig:
    """Options of text classification.

    Args:
        tokenizer: "words" of the training texts, or "bytes" of their UTF-8.
        min_count: words that occur more rarely share the token of unknown words.
        lowercase: whether upper and lower case are the same to the tokeniser of words.
        max_tokens: a text's first so many tokens are read.
    """

    tokenizer: Literal["words", "bytes"] = "words"
    min_count: PositiveInt = 1
    lowercase: bool = True
    max_tokens: PositiveInt = 256


class TextClassification(TextTask):
    """Model inputs `tokens`, `mask` and `labels`; the network gives logits [B, classes]."""

    monitor = ("accuracy", "max")

    def __init__(self, config: TextClassificationConfig) -> None:
        super().__init__(config.max_tokens)
        self.config = config
        self.class_names: list[str] = []

    def bind(self, splits: Splits) -> None:
        config = self.config
        self.bind_texts(splits, {"labels"}, config.tokenizer, config.min_count, config.lowercase)
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
        return {**super().facts(), "num_classes": len(self.class_names)}

    def accumulator(self) -> ClassificationMetrics:
        return ClassificationMetrics(self.class_names)

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        logits = network(tokens=batch["tokens"], mask=batch["mask"])
        scores = (logits[0] if isinstance(logits, tuple) else logits).float().softmax(1)
        rows: list[dict[str, Any]] = []
        for row in scores.tolist():
            ranked = sorted(zip(self.class_names, row, strict=True), key=lambda pair: -pair[1])
            rows.append({"label": ranked[0][0], "scores": dict(ranked)})
        return rows


TASKS = {"text_classification": TextClassificationConfig()}
