"""The L2 term: its value, where it is, and that splits do not change the gradient."""

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.objectives.base import Batch, Context
from layerwise.objectives.node_cross_entropy import NodeCrossEntropy, NodeCrossEntropyConfig
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


class Rows(nn.Module):
    """Two linear layers on the rows asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4).double(), nn.Linear(4, 3).double()

    def forward(self, features: Tensor, nodes: Tensor) -> Tensor:
        return self.second(self.first(features).tanh())[nodes]


def batch(nodes: Tensor) -> Batch:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(10, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (10,), generator=generator)
    return {"features": features, "nodes": nodes, "labels": labels[nodes], "sample_ids": nodes}


def gradient(objective: NodeCrossEntropy, network: nn.Module, parts: list[Batch]) -> list[Tensor]:
    """As the loop does it: sums over counts of all micro-batches."""
    counts: dict[str, float] = {}
    for part in parts:
        for name, count in objective.counts(part, "main").items():
            counts[name] = counts.get(name, 0.0) + count
    network.zero_grad()
    for part in parts:
        terms = objective(network, part, CONTEXT)
        assert set(terms) == set(counts)
        torch.stack([t.sum * t.weight / counts[name] for name, t in terms.items()]).sum().backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def test_penalty_adds_l2_times_the_weight_to_the_first_layer_alone() -> None:
    torch.manual_seed(0)
    network, nodes = Rows(), [batch(torch.arange(6))]
    plain = gradient(NodeCrossEntropy(NodeCrossEntropyConfig()), network, nodes)
    config = NodeCrossEntropyConfig(l2=0.3, penalised=("first.*",))
    penalised = gradient(NodeCrossEntropy(config), network, nodes)
    for name, p, a, b in zip(dict(network.named_parameters()), network.parameters(), plain, penalised, strict=True):
        wanted = a + 0.3 * p.detach() if name.startswith("first") else a
        torch.testing.assert_close(b, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(4, 4), (5, 2, 1)])
def test_gradient_is_the_same_for_every_split(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = Rows()
    objective = NodeCrossEntropy(NodeCrossEntropyConfig(l2=0.3, penalised=("first.*",)))
    nodes = torch.tensor([7, 1, 4, 0, 9, 3, 2, 8])
    whole = gradient(objective, network, [batch(nodes)])
    split = gradient(objective, network, [batch(part) for part in nodes.split(list(sizes))])
    for a, b in zip(whole, split, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_pattern_that_names_nothing_is_an_error() -> None:
    objective = NodeCrossEntropy(NodeCrossEntropyConfig(l2=0.3, penalised=("frist.*",)))
    with pytest.raises(ConfigError, match="frist"):
        objective.setup(Rows())
