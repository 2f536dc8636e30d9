"""Accuracy over the split's nodes, and what the task refuses."""

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import DataError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.planetoid import NodeExamples
from layerwise.tasks.node_classification import NodeClassification, NodeClassificationConfig


class Known(nn.Module):
    """Says of each node what its first feature says."""

    def forward(self, features: Tensor, edge_index: Tensor, nodes: Tensor) -> Tensor:
        return nn.functional.one_hot(features[nodes, 0].long(), 3).float() * 10


def splits() -> Splits:
    said = torch.tensor([[0.0], [1.0], [2.0], [0.0], [1.0], [2.0]])
    labels = torch.tensor([0, 1, 2, 0, 2, 1])  # the last two are said wrongly
    edges = torch.zeros(2, 0, dtype=torch.int64)
    parts = [NodeExamples(said, edges, labels, torch.tensor(nodes)) for nodes in ([0, 1, 2], [2, 3, 4, 5])]
    return Splits(train=parts[0], val=parts[1], facts={"num_classes": 3})


def test_accuracy_is_over_the_nodes_of_the_split() -> None:
    task, data = NodeClassification(NodeClassificationConfig()), splits()
    task.bind(data)
    assert data.val is not None
    batches = [task.inputs(data.val.collate(ids)) for ids in torch.arange(4).split(3)]
    metrics, table = task.evaluate(Known(), batches)
    assert metrics["accuracy"] == 0.5
    assert table["confusion"] == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]
    assert task.facts() == {"num_classes": 3}


def test_data_that_is_no_graph_is_refused() -> None:
    table = TensorExamples({"features": torch.zeros(3, 2), "labels": torch.tensor([0, 1, 0])})
    with pytest.raises(DataError, match="edge_index"):
        NodeClassification(NodeClassificationConfig()).bind(Splits(train=table, facts={"num_classes": 2}))
