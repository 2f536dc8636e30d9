"""Image regression: a picture in, one or several numbers out, reported in the targets' own units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Batch
from layerwise.tasks.pictures import PictureTask, Scale, Statistics
from layerwise.tasks.regression import RegressionMetrics, TargetScale


@dataclass(frozen=True, kw_only=True)
class ImageRegressionConfig:
    """Options of image regression.

    Args:
        normalise: of pixels, as in `image_classification`.
    """

    normalise: Scale | Statistics = "data"


class ImageRegression(PictureTask):
    """Raw `image` and `target` [B] or [B, T] to `images` and standardised `labels` [B, T], which the network gives."""

    monitor = ("loss", "min")
    predicts = "files"
    explains = "pixels"
    calls_forward_alone = True

    def __init__(self, config: ImageRegressionConfig) -> None:
        super().__init__()
        self.config = config
        self._scale: TargetScale | None = None

    @property
    def scale(self) -> TargetScale:
        if self._scale is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._scale

    def bind(self, splits: Splits) -> None:
        if splits.train is None:
            raise DataError("task=image_regression needs pictures to learn from; the data has no training part.")
        needs = "task=image_regression needs pictures with numbers (data=image_table, or data.target_kind=number)"
        self.bind_pictures(splits, {"target"}, self.config.normalise, needs)
        self.class_names = []
        self._scale = TargetScale.measure(splits.train, splits.extras.get("targets", ["target"]))

    def state(self) -> dict[str, Any]:
        return {**super().state(), "target": self.scale.to_json()}

    def load(self, state: dict[str, Any]) -> None:
        super().load(state)
        self._scale = TargetScale(**state["target"])

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "num_classes": len(self.scale.names)}

    def inputs(self, batch: Batch) -> Batch:
        made = super().inputs({name: value for name, value in batch.items() if name not in ("target", "labels")})
        return made | ({"labels": self.scale.standardise(batch["target"])} if "target" in batch else {})

    def accumulator(self) -> RegressionMetrics:
        return RegressionMetrics(self.scale)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        return self.read_pictures(inputs)

    def scores(self, network: nn.Module, batch: Batch) -> Tensor:
        outputs = network(batch["images"])
        return outputs[0] if isinstance(outputs, tuple) else outputs

    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """`{"values": {target: number}}`, under the names of the columns, which carry the unit where they have one."""
        rows = self.scale.restore(self.scores(network, batch)).tolist()
        return [{"values": dict(zip(self.scale.names, row, strict=True))} for row in rows]


TASKS = {"image_regression": ImageRegressionConfig()}
