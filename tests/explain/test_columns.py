"""Integrated gradients over numbers and categories."""

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import UnsupportedError
from layerwise.explain.columns import integrated_column_gradients
from layerwise.models.classic.tabular_mlp import TabularMLP, TabularMLPConfig


class Linear(nn.Module):
    """Linear in the numbers and in the categories' vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embeddings = nn.ModuleList([nn.Embedding(4, 2), nn.Embedding(3, 5)])
        self.head = nn.Linear(3 + 2 + 5, 1)

    def forward(self, numeric: Tensor, categories: Tensor) -> Tensor:
        vectors = [e(column) for e, column in zip(self.embeddings, categories.unbind(1), strict=True)]
        return self.head(torch.cat([numeric, *vectors], 1))[:, 0]


def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    categories = torch.stack([torch.randint(k, (6,), generator=generator) for k in (4, 3)], 1)
    return torch.randn(6, 3, generator=generator).double(), categories


def test_columns_of_a_linear_model_get_weight_times_change() -> None:
    net = Linear().double()
    numeric, categories = rows()
    baseline = torch.tensor([[0.5, 0.0, -1.0]]).double()
    found, of_categories, start = integrated_column_gradients(net, net, numeric, categories, baseline=baseline, steps=1)
    weight = net.head.weight.detach()[0]
    torch.testing.assert_close(found, weight[:3] * (numeric - baseline))
    for column, part in enumerate((slice(3, 5), slice(5, 10))):
        vectors = net.get_parameter(f"embeddings.{column}.weight").detach()
        torch.testing.assert_close(
            of_categories[:, column], (vectors[categories[:, column]] - vectors.mean(0)) @ weight[part]
        )
    with torch.no_grad():
        mean = torch.cat([baseline[0], *(table.mean(0) for table in net.embeddings.parameters())])
        torch.testing.assert_close(start, (mean @ weight + net.head.bias).expand(6))
        torch.testing.assert_close(start + found.sum(1) + of_categories.sum(1), net(numeric, categories))


def test_columns_of_a_network_add_up_and_leave_it_as_it_was() -> None:
    torch.manual_seed(0)
    net = TabularMLP(TabularMLPConfig(num_numeric=3, category_sizes=(4, 3), num_outputs=2, activation="tanh"))
    net = net.double().eval()
    for embedding in net.embeddings:
        nn.init.normal_(embedding.weight)  # pyright: ignore[reportArgumentType]
    numeric, categories = rows()

    def score(x: Tensor, c: Tensor) -> Tensor:
        return net(x, c)[:, 1]

    with torch.no_grad():
        before = score(numeric, categories)
    found, of_categories, start = integrated_column_gradients(
        net, score, numeric, categories, baseline=torch.zeros(1, 3).double(), steps=256
    )
    torch.testing.assert_close(found.sum(1) + of_categories.sum(1), before - start, atol=2e-4, rtol=0)
    assert float(of_categories.abs().min()) > 0
    with torch.no_grad():
        assert torch.equal(score(numeric, categories), before)


def test_a_network_without_vectors_for_its_categories_is_refused() -> None:
    net = nn.Linear(3, 1).double()
    numeric, categories = rows()
    with pytest.raises(UnsupportedError, match="each of the 2 category columns"):
        integrated_column_gradients(
            net, lambda x, c: net(x)[:, 0], numeric, categories, baseline=torch.zeros(1, 3).double()
        )
