"""The perceptron on tables against the same products written in numpy."""

import numpy as np
import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.tabular_mlp import TabularMLP, TabularMLPConfig


def test_table_joins_numbers_and_category_vectors() -> None:
    torch.manual_seed(0)
    config = TabularMLPConfig(num_numeric=2, category_sizes=(3, 9), num_outputs=1, hidden=(), dropout=0.0)
    net = TabularMLP(config).double()
    assert [embedding.weight.shape for embedding in net.embeddings] == [(3, 2), (9, 5)]
    numeric, categories = torch.randn(4, 2, dtype=torch.float64), torch.tensor([[0, 8], [2, 0], [1, 1], [2, 8]])
    tables = [net.state_dict()[f"embeddings.{column}.weight"].numpy() for column in range(2)]
    row = np.concatenate([numeric.numpy(), tables[0][categories[:, 0]], tables[1][categories[:, 1]]], 1)
    expected = row @ net.head.weight.detach().numpy().T + net.head.bias.detach().numpy()
    assert np.abs(net(numeric, categories).detach().numpy() - expected).max() < 1e-12


def test_hidden_layers_are_normalised_before_the_activation() -> None:
    torch.manual_seed(0)
    net = TabularMLP(TabularMLPConfig(num_numeric=6, category_sizes=(), num_outputs=2, hidden=(7, 5)))
    net.double().eval()
    numeric = torch.randn(4, 6, dtype=torch.float64)
    h, state = numeric.numpy(), {name: value.numpy() for name, value in net.state_dict().items()}
    for block in ("blocks.0", "blocks.1"):
        h = h @ state[f"{block}.linear.weight"].T + state[f"{block}.linear.bias"]
        h = np.maximum((h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5), 0)
    expected = h @ state["head.weight"].T + state["head.bias"]
    given = net(numeric, torch.zeros(4, 0, dtype=torch.int64)).detach().numpy()
    assert np.abs(given - expected).max() < 1e-12


def test_tables_without_categories_or_without_numbers() -> None:
    none = torch.zeros(3, 0, dtype=torch.int64)
    only_numbers = TabularMLP(TabularMLPConfig(num_numeric=2, category_sizes=(), num_outputs=4))
    assert only_numbers(torch.zeros(3, 2), none).shape == (3, 4)
    only_words = TabularMLP(TabularMLPConfig(num_numeric=0, category_sizes=(5,), num_outputs=4))
    assert only_words(torch.zeros(3, 0), torch.zeros(3, 1, dtype=torch.int64)).shape == (3, 4)
    with pytest.raises(ConfigError, match="no input"):
        TabularMLP(TabularMLPConfig(num_numeric=0, category_sizes=(), num_outputs=4))


def test_sizes_that_only_the_data_knows_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="num_numeric, category_sizes and num_outputs"):
        TabularMLP(TabularMLPConfig())
