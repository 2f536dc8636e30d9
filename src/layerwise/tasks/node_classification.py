"""Node classification: a graph in, a class a node out."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.tasks.base import Batch, Task, call
from layerwise.tasks.image_classification import ClassificationMetrics

_INPUTS = ("features", "edge_index", "nodes")


@dataclass(frozen=True, kw_only=True)
class NodeClassificationConfig:
    """Node classification has no options."""


class NodeMetrics(ClassificationMetrics):
    """Loss, accuracy, macro F1 and calibration over the split's nodes."""

    def update(self, network: nn.Module, batch: Batch) -> None:
        self.update_from(call(network, batch, _INPUTS).float(), batch["labels"], batch["sample_ids"])


class NodeClassification(Task):
    """Batches hold the graph, `features` [N, F] and `edge_index` [2, E], and the split's `nodes`, `labels` [B]."""

    monitor = ("accuracy", "max")

    def __init__(self, config: NodeClassificationConfig) -> None:
        self.config = config
        self.class_names: list[str] = []

    def bind(self, splits: Splits) -> None:
        if splits.train is None:
            raise DataError("task=node_classification needs training nodes; the data has none.")
        columns = splits.train.collate(torch.tensor([0]))
        if missing := {*_INPUTS, "labels"} - set(columns):
            raise DataError(
                f"task=node_classification needs labelled nodes of a graph; the data has no columns {sorted(missing)}."
            )
        self.class_names = splits.class_names or [str(k) for k in range(splits.facts["num_classes"])]

    def state(self) -> dict[str, Any]:
        return {"class_names": self.class_names}

    def load(self, state: dict[str, Any]) -> None:
        self.class_names = list(state["class_names"])

    def facts(self) -> dict[str, Any]:
        return {"num_classes": len(self.class_names)}

    def accumulator(self) -> NodeMetrics:
        return NodeMetrics(self.class_names)


TASKS = {"node_classification": NodeClassificationConfig()}
