"""GCN against the paper's formula on dense float64 matrices and against PyTorch Geometric."""

import pytest
import torch
from torch import Tensor

from layerwise.models.graph.gcn import GCN, GCNConfig


def graph(nodes: int = 12, features: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sparse float64 features and an undirected graph in which the last node stands alone."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, features, generator=generator, dtype=torch.float64)
    x[torch.rand(nodes, features, generator=generator) < 0.6] = 0.0
    pairs = {
        (min(a, b), max(a, b)) for a, b in torch.randint(0, nodes - 1, (20, 2), generator=generator).tolist() if a != b
    }
    edges = torch.tensor(sorted(pairs)).T
    return x, torch.cat([edges, edges.flip(0)], dim=1)


def network(**options: object) -> GCN:
    torch.manual_seed(0)
    made = GCN(GCNConfig(in_features=6, num_classes=3, hidden_channels=4, **options)).double().eval()  # pyright: ignore[reportArgumentType]
    for parameter in made.parameters():  # biases away from zero
        torch.nn.init.normal_(parameter)
    return made


def gradients(net: GCN, output: Tensor) -> list[Tensor]:
    weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    return list(torch.autograd.grad((output * weight).sum(), list(net.parameters())))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_logits_are_the_formula_of_the_paper(layers: int, sparse: bool) -> None:
    x, edges = graph()
    net = network(num_layers=layers, sparse_features=sparse)
    adjacency = torch.eye(len(x), dtype=torch.float64)
    for a, b in edges.T.tolist():
        adjacency[b, a] = 1.0
    degree = adjacency.sum(1)
    adjacency = adjacency / torch.sqrt(degree[:, None] * degree[None, :])
    h = x
    for i, conv in enumerate(net.convs):
        h = adjacency @ h @ conv.weight + conv.bias
        h = h.relu() if i + 1 < layers else h
    torch.testing.assert_close(net(x, edges), h, rtol=0, atol=1e-10)


def test_sparse_and_dense_features_give_the_same_gradients() -> None:
    x, edges = graph()
    dense, sparse = network(), network(sparse_features=True)
    for got, wanted in zip(gradients(sparse, sparse(x, edges)), gradients(dense, dense(x, edges)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


def test_features_get_a_gradient_though_they_are_multiplied_sparse() -> None:
    x, edges = graph()
    sparse, dense = x.clone().requires_grad_(), x.clone().requires_grad_()
    network(sparse_features=True)(sparse, edges).square().sum().backward()
    network()(dense, edges).square().sum().backward()
    assert sparse.grad is not None
    assert dense.grad is not None
    torch.testing.assert_close(sparse.grad, dense.grad, rtol=0, atol=1e-10)


def test_nodes_choose_rows_of_the_logits() -> None:
    x, edges = graph()
    net, nodes = network(), torch.tensor([4, 1, 11])
    assert torch.equal(net(x, edges, nodes), net(x, edges)[nodes])


def test_renumbering_the_nodes_renumbers_the_logits() -> None:
    x, edges = graph()
    net = network(sparse_features=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    place = torch.argsort(order)
    torch.testing.assert_close(net(x[order], place[edges]), net(x, edges)[order], rtol=0, atol=1e-10)


def test_dropout_of_sparse_features_scales_or_drops_each_entry() -> None:
    net = GCN(GCNConfig(in_features=50, num_classes=50, num_layers=1, dropout=0.25, sparse_features=True))
    with torch.no_grad():
        net.convs[0].weight.copy_(torch.eye(50))
    x = torch.zeros(40, 50)
    x[:, ::2] = 3.0
    torch.manual_seed(0)
    with torch.no_grad():
        y = net(x, torch.zeros(2, 0, dtype=torch.int64))  # no edges: the adjacency is the identity
    assert set(y[:, 1::2].unique().tolist()) == {0.0}
    assert set(y[:, ::2].unique().tolist()) == {0.0, 4.0}
    kept = float((y[:, ::2] > 0).double().mean())
    assert abs(kept - 0.75) < 4 * (0.75 * 0.25 / 1000) ** 0.5


@pytest.mark.parametrize("sparse", [False, True])
def test_parity_with_pytorch_geometric(sparse: bool) -> None:
    """Both ways of weights and gradients, float64 1e-9 (Frobenius ratio)."""
    nn = pytest.importorskip("torch_geometric.nn")
    x, edges = graph(nodes=40, seed=2)
    net = network(sparse_features=sparse)
    theirs = [nn.GCNConv(6, 4).double(), nn.GCNConv(4, 3).double()]
    with torch.no_grad():
        for ours, their in zip(net.convs, theirs, strict=True):
            their.lin.weight.copy_(ours.weight.T)
            their.bias.copy_(ours.bias)
    wanted = theirs[1](theirs[0](x, edges).relu(), edges)
    got = net(x, edges)
    assert float((got - wanted).detach().norm() / wanted.detach().norm()) <= 1e-9
    parameters = [p for their in theirs for p in (their.lin.weight, their.bias)]
    weight = torch.linspace(-1, 1, wanted.numel(), dtype=torch.float64).view_as(wanted)
    for ours, their in zip(gradients(net, got), torch.autograd.grad((wanted * weight).sum(), parameters), strict=True):
        assert float((ours - (their.T if their.dim() == 2 else their)).norm() / their.norm()) <= 1e-9
