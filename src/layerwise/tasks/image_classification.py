"""Image classification: a picture in, a class out."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Accumulator, Batch, wilson_interval
from layerwise.tasks.pictures import PictureTask, Scale, Statistics

View = Literal["flip", "shift"]
_SHIFTED = 16  # part of a side
_WORST = 16  # most-wrong examples kept for the report


@dataclass(frozen=True, kw_only=True)
class ImageClassificationConfig:
    """Options of image classification.

    Args:
        normalise: "data" subtracts the training pictures' mean and divides by their deviation, "unit" gives [0, 1],
            "symmetric" gives [-1, 1]; `{mean: [...], std: [...]}` are the numbers themselves, one a channel, for
            pictures in [0, 1]. With `init` the default is what the weights were trained with, where they say so.
        test_time: how else a picture is looked at in validation, test and predict (test-time augmentation): "flip" adds
            its mirror image, "shift" itself moved by a sixteenth of its sides to each corner; both together make ten
            views. The probabilities of the views are averaged. Training and `explain` see the picture as it is.
    """

    normalise: Scale | Statistics = "data"
    test_time: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.test_time)) < len(self.test_time):
            raise ConfigError(f"task.test_time={','.join(self.test_time)}: each once.")


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


class Views(nn.Module):
    """A classifier that looks at several views of each picture: logits are log p with p the mean over the views of
    softmax(logits of the view), so that their softmax is p.

    With "flip" among the views a picture and its mirror image get the same logits to the bit: every view is a forward
    pass of its own, and mirror images are added to each other first.

    Args:
        network: images [B, C, H, W] -> logits [B, classes].
        views: see `ImageClassificationConfig`.
    """

    def __init__(self, network: nn.Module, views: Sequence[View]) -> None:
        super().__init__()
        self.network, self.views = network, views
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        found = self._seen(images)
        if "shift" in self.views:
            down, right = (math.ceil(side / _SHIFTED) for side in images.shape[-2:])
            above, below = (
                torch.logaddexp(self._seen(shifted(images, y, -right)), self._seen(shifted(images, y, right)))
                for y in (-down, down)
            )
            found = torch.logaddexp(found, torch.logaddexp(above, below))
        return found - math.log((5 if "shift" in self.views else 1) * (2 if "flip" in self.views else 1))

    def _seen(self, images: Tensor) -> Tensor:
        """Log-probabilities of a view [B, classes] in float32; with "flip" those of its mirror image are added, as
        probabilities.
        """
        views = [images, images.flip(-1)] if "flip" in self.views else [images]
        found = [logits_of(self.network, view).float().log_softmax(1) for view in views]
        return torch.logaddexp(found[0], found[1]) if len(found) == 2 else found[0]


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Images [B, C, H, W] moved by whole pixels, less than their sides; the border is repeated into the gap."""
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - right).clamp(0, width - 1)
    return images[:, :, rows[:, None], columns]


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [B, classes] of a classifier, the first of several heads."""
    logits = network(images)
    return logits[0] if isinstance(logits, tuple) else logits


class ImageClassification(PictureTask):
    """Pictures to classes; the network gives logits [B, classes]."""

    monitor = ("accuracy", "max")
    predicts = "files"
    explains = "pixels"
    calls_forward_alone = True

    def __init__(self, config: ImageClassificationConfig) -> None:
        super().__init__()
        self.config = config

    def bind(self, splits: Splits) -> None:
        needs = "task=image_classification needs pictures with a class each"
        self.bind_pictures(splits, {"labels"}, self.config.normalise, needs)
        if not self.class_names:
            raise DataError(f"{needs}; the data has no classes.")

    def accumulator(self) -> ClassificationMetrics:
        return ClassificationMetrics(self.class_names)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        return self.read_pictures(inputs)

    def viewed(self, network: nn.Module) -> nn.Module:
        """The network as it is evaluated and predicts: with `test_time`."""
        return Views(network, self.config.test_time) if self.config.test_time else network

    def evaluate(
        self,
        network: nn.Module,
        batches: Iterable[Batch],
        merge: Callable[[Accumulator], None] = lambda accumulator: None,
    ) -> tuple[dict[str, float], dict[str, Any]]:
        return super().evaluate(self.viewed(network), batches, merge)

    def scores(self, network: nn.Module, batch: Batch) -> Tensor:
        return logits_of(network, batch["images"])

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        scores = self.scores(self.viewed(network), batch).float().softmax(1)
        rows = []
        for row in scores.tolist():
            ranked = sorted(zip(self.class_names, row, strict=True), key=lambda pair: -pair[1])
            rows.append({"label": ranked[0][0], "scores": dict(ranked)})
        return rows


TASKS = {"image_classification": ImageClassificationConfig()}
