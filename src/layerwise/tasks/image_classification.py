"""Image classification: a picture in, a class out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Accumulator, Batch, Task, wilson_interval
from layerwise.tasks.preprocessing import Normalise

_WORST = 16  # most-wrong examples kept for the report


@dataclass(frozen=True, kw_only=True)
class ImageClassificationConfig:
    """Options of image classification.

    Args:
        normalise: "data" subtracts the training pictures' mean and divides by their deviation, "unit" gives [0, 1],
            "symmetric" gives [-1, 1].
    """

    normalise: Literal["data", "unit", "symmetric"] = "data"


class ClassificationMetrics(Accumulator):
    """Loss, accuracy, top-5 accuracy (from 10 classes on), macro F1 and calibration from the confusion matrix and the
    logits.

    Args:
        class_names: in order of label.
        bins: of confidence for the expected calibration error (Guo et al. 2017, equation 3).
    """

    def __init__(self, class_names: Sequence[str], bins: int = 15) -> None:
        self.class_names, self.bins = list(class_names), bins
        classes = len(self.class_names)
        self.sums: dict[str, Tensor] = {
            "loss": torch.zeros((), dtype=torch.float64),
            "top5": torch.zeros((), dtype=torch.float64),
            "confusion": torch.zeros(classes, classes, dtype=torch.int64),
            "calibration": torch.zeros(3, bins, dtype=torch.float64),
        }
        self.rows: dict[str, Tensor] = {
            "worst_loss": torch.zeros(0),
            "worst_ids": torch.zeros(0, dtype=torch.int64),
            "worst_labels": torch.zeros(0, dtype=torch.int64),
            "worst_predictions": torch.zeros(0, dtype=torch.int64),
        }

    def update(self, network: nn.Module, batch: Batch) -> None:
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "sample_ids")}
        logits = network(**inputs)
        logits = (logits[0] if isinstance(logits, tuple) else logits).float()
        self.update_from(logits, batch["labels"], batch["sample_ids"])

    def update_from(self, logits: Tensor, labels: Tensor, sample_ids: Tensor) -> None:
        """Take in logits [B, classes] directly."""
        classes = len(self.class_names)
        losses = F.cross_entropy(logits, labels, reduction="none")
        confidence, predictions = logits.softmax(1).max(1)
        right = predictions == labels
        self.sums["loss"] += losses.double().sum().cpu()
        self.sums["confusion"] += (
            torch.bincount(labels * classes + predictions, minlength=classes * classes).view(classes, classes).cpu()
        )
        if classes >= 10:
            self.sums["top5"] += (logits.topk(5, dim=1).indices == labels[:, None]).any(1).sum().double().cpu()
        bins = (confidence * self.bins).long().clamp_(max=self.bins - 1).cpu()
        for row, values in enumerate((torch.ones_like(confidence), confidence, right)):
            self.sums["calibration"][row].index_add_(0, bins, values.double().cpu())
        fresh = {
            "worst_loss": losses,
            "worst_ids": sample_ids,
            "worst_labels": labels,
            "worst_predictions": predictions,
        }
        self._keep_worst({name: torch.cat([self.rows[name], value.cpu()]) for name, value in fresh.items()})

    def _keep_worst(self, rows: dict[str, Tensor]) -> None:
        order = torch.argsort(rows["worst_loss"], descending=True, stable=True)[:_WORST]
        self.rows = {name: value[order] for name, value in rows.items()}

    def state(self) -> dict[str, Tensor]:
        return {**self.sums, **self.rows}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = {name: torch.stack([s[name] for s in states]).sum(0) for name in self.sums}
        self._keep_worst({name: torch.cat([s[name] for s in states]) for name in self.rows})

    def compute(self) -> dict[str, float]:
        confusion = self.sums["confusion"].double()
        count, diagonal = confusion.sum(), confusion.diagonal()
        if count == 0:
            return {}
        seen = confusion.sum(1) > 0
        f1 = 2 * diagonal / (confusion.sum(0) + confusion.sum(1)).clamp(min=1)
        _, confidence, right = self.sums["calibration"]
        values = {
            "accuracy": float(diagonal.sum() / count),
            "loss": float(self.sums["loss"] / count),
            "macro_f1": float(f1[seen].mean()),
            "calibration_error": float((confidence - right).abs().sum() / count),
        }
        if len(self.class_names) >= 10:
            values["top5_accuracy"] = float(self.sums["top5"] / count)
        return values

    def table(self) -> dict[str, Any]:
        confusion = self.sums["confusion"]
        per_class = []
        for k, name in enumerate(self.class_names):
            right, count = int(confusion[k, k]), int(confusion[k].sum())
            low, high = wilson_interval(right, count)
            per_class.append(
                {"class": name, "count": count, "recall": right / count if count else None, "low": low, "high": high}
            )
        count, right = int(confusion.sum()), int(confusion.diagonal().sum())
        worst = [
            {
                "sample_id": int(i),
                "loss": float(v),
                "label": self.class_names[int(y)],
                "prediction": self.class_names[int(p)],
            }
            for i, v, y, p in zip(
                *(self.rows[k].tolist() for k in ("worst_ids", "worst_loss", "worst_labels", "worst_predictions")),
                strict=True,
            )
        ]
        return {
            "confusion": confusion.tolist(),
            "class_names": self.class_names,
            "per_class": per_class,
            "most_wrong": worst,
            "intervals": {"accuracy": wilson_interval(right, count)},
            "count": count,
        }


class ImageClassification(Task):
    """Raw `image` uint8 [B, C, H, W] to model input `images` float [B, C, H, W]; the network gives logits [B,
    classes].
    """

    monitor = ("accuracy", "max")
    predicts = "files"

    def __init__(self, config: ImageClassificationConfig) -> None:
        self.config = config
        self.class_names: list[str] = []
        self.image_size: list[int] = []
        self.channels = 0
        self._preprocessing: Normalise | None = None

    def bind(self, splits: Splits) -> None:
        sample = next(iter(split for split in (splits.train, splits.val, splits.test) if split is not None))
        first = sample.collate(torch.tensor([0]))
        if "image" not in first or "labels" not in first:
            raise DataError(
                f"task=image_classification needs pictures with a class each; the data has columns {sorted(first)}."
            )
        classes = splits.facts.get("num_classes")
        if not classes:
            raise DataError("task=image_classification needs classes; the data has none.")
        self.class_names = splits.class_names or [str(k) for k in range(classes)]
        self.channels, *self.image_size = first["image"].shape[1:]
        if self.config.normalise == "data":
            known = splits.normalisation or (measure_normalisation(splits.train) if splits.train else None)
            if known is None:
                raise DataError("normalise=data needs training pictures to measure; set task.normalise=unit.")
            mean, std = known["mean"], known["std"]
        else:
            level = 0.0 if self.config.normalise == "unit" else 0.5
            mean, std = [level] * self.channels, [1.0 if level == 0.0 else 0.5] * self.channels
        self._preprocessing = Normalise(mean, std)

    def state(self) -> dict[str, Any]:
        return {
            "class_names": self.class_names,
            "image_size": self.image_size,
            "channels": self.channels,
            "preprocessing": self.preprocessing().config(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.class_names, self.image_size, self.channels = state["class_names"], state["image_size"], state["channels"]
        self._preprocessing = Normalise(state["preprocessing"]["mean"], state["preprocessing"]["std"])

    def facts(self) -> dict[str, Any]:
        return {"num_classes": len(self.class_names), "in_channels": self.channels}

    def preprocessing(self) -> Normalise:
        if self._preprocessing is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._preprocessing

    def inputs(self, batch: Batch) -> Batch:
        made = {name: value for name, value in batch.items() if name != "image"}
        return {"images": self.preprocessing()(batch["image"]), **made}

    def accumulator(self) -> ClassificationMetrics:
        return ClassificationMetrics(self.class_names)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        from layerwise.data.pictures import decode_image

        size = (self.image_size[0], self.image_size[1])
        return [(name, {"image": decode_image(Path(name), size, self.channels)[None]}) for name in inputs]

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        logits = network(batch["images"])
        scores = (logits[0] if isinstance(logits, tuple) else logits).float().softmax(1)
        rows = []
        for row in scores.tolist():
            ranked = sorted(zip(self.class_names, row, strict=True), key=lambda pair: -pair[1])
            rows.append({"label": ranked[0][0], "scores": dict(ranked)})
        return rows


def measure_normalisation(examples: Any, most: int = 10_000) -> dict[str, list[float]]:
    """Mean and deviation of pixels in [0, 1], per channel, over at most `most` evenly spaced examples."""
    count = min(most, len(examples))
    chosen = torch.linspace(0, len(examples) - 1, count).long()
    total = squares = torch.zeros(1, dtype=torch.float64)
    pixels = 0
    for ids in chosen.split(512):
        image = examples.collate(ids)["image"].double() / 255
        total, squares = total + image.sum((0, 2, 3)), squares + image.square().sum((0, 2, 3))
        pixels += image.numel() // image.shape[1]
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp(min=1e-6).sqrt()
    return {"mean": [round(v, 6) for v in mean.tolist()], "std": [round(v, 6) for v in std.tolist()]}


TASKS = {"image_classification": ImageClassificationConfig()}
