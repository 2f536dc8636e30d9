"""The perceptron against the same products written in numpy, and its initial weights."""

import numpy as np
import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.mlp import MLP, MLPConfig, TableMLP, TableMLPConfig

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_forward_is_the_equation(activation: str, layer_norm: bool) -> None:
    torch.manual_seed(0)
    net = MLP(
        MLPConfig(in_features=12, num_classes=3, hidden=(7, 5), activation=activation, layer_norm=layer_norm)  # type: ignore[arg-type]
    ).double()
    images = torch.randn(4, 1, 3, 4, dtype=torch.float64)
    h = images.flatten(1).numpy()
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    for block in ("blocks.0", "blocks.1"):
        h = h @ state[f"{block}.linear.weight"].T + state[f"{block}.linear.bias"]
        if layer_norm:
            h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        h = ACTIVATIONS[activation](h)
    expected = h @ state["head.weight"].T + state["head.bias"]
    assert np.abs(net(images).detach().numpy() - expected).max() < 1e-12


def test_without_hidden_layers_it_is_linear() -> None:
    net = MLP(MLPConfig(in_features=6, num_classes=2, hidden=()))
    assert sum(parameter.numel() for parameter in net.parameters()) == 6 * 2 + 2
    x = torch.randn(5, 6)
    assert torch.allclose(net(2 * x) - net.head.bias, 2 * (net(x) - net.head.bias), atol=1e-5)


def test_table_joins_numbers_and_category_vectors() -> None:
    torch.manual_seed(0)
    config = TableMLPConfig(num_numeric=2, category_sizes=(3, 9), num_outputs=1, hidden=(), dropout=0.0)
    net = TableMLP(config).double()
    assert [embedding.weight.shape for embedding in net.embeddings] == [(3, 2), (9, 5)]
    numeric, categories = torch.randn(4, 2, dtype=torch.float64), torch.tensor([[0, 8], [2, 0], [1, 1], [2, 8]])
    tables = [embedding.weight.detach().numpy() for embedding in net.embeddings]
    row = np.concatenate([numeric.numpy(), tables[0][categories[:, 0]], tables[1][categories[:, 1]]], 1)
    expected = row @ net.head.weight.detach().numpy().T + net.head.bias.detach().numpy()
    assert np.abs(net(numeric, categories).detach().numpy() - expected).max() < 1e-12


def test_table_without_categories_or_without_numbers() -> None:
    none = torch.zeros(3, 0, dtype=torch.int64)
    only_numbers = TableMLP(TableMLPConfig(num_numeric=2, category_sizes=(), num_outputs=4))
    assert only_numbers(torch.zeros(3, 2), none).shape == (3, 4)
    only_words = TableMLP(TableMLPConfig(num_numeric=0, category_sizes=(5,), num_outputs=4))
    assert only_words(torch.zeros(3, 0), torch.zeros(3, 1, dtype=torch.int64)).shape == (3, 4)
    with pytest.raises(ConfigError, match="no input"):
        TableMLP(TableMLPConfig(num_numeric=0, category_sizes=(), num_outputs=4))


def test_activations_keep_their_size_through_many_relu_layers() -> None:
    """He's variance 2 / fan_in keeps the mean square of activations (He et al. 2015, equation 10)."""
    torch.manual_seed(0)
    net = MLP(MLPConfig(in_features=512, num_classes=2, hidden=(512,) * 10))
    features = net.forward_features(torch.randn(64, 512))
    assert 0.3 < features.square().mean().item() < 3.0


def test_sizes_that_only_the_data_knows_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="in_features and num_classes"):
        MLP(MLPConfig())
    with pytest.raises(ConfigError, match="num_numeric, category_sizes and num_outputs"):
        TableMLP(TableMLPConfig())


def test_other_number_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 6 values a sample, got 8"):
        MLP(MLPConfig(in_features=6, num_classes=2))(torch.zeros(1, 2, 4))
