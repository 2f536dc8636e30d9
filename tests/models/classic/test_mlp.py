"""The perceptron against the same products written in numpy, and its initial weights."""

import numpy as np
import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.mlp import MLP, MLPConfig

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", ["none", "layer_norm"])
def test_forward_is_the_equation(activation: str, norm: str) -> None:
    torch.manual_seed(0)
    net = MLP(
        MLPConfig(in_features=12, num_classes=3, hidden=(7, 5), activation=activation, norm=norm)  # type: ignore[arg-type]
    ).double()
    images = torch.randn(4, 1, 3, 4, dtype=torch.float64)
    h = images.flatten(1).numpy()
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    for block in ("blocks.0", "blocks.1"):
        h = h @ state[f"{block}.linear.weight"].T + state[f"{block}.linear.bias"]
        if norm == "layer_norm":
            h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        h = ACTIVATIONS[activation](h)
    expected = h @ state["head.weight"].T + state["head.bias"]
    assert np.abs(net(images).detach().numpy() - expected).max() < 1e-12


def test_without_hidden_layers_it_is_linear() -> None:
    net = MLP(MLPConfig(in_features=6, num_classes=2, hidden=()))
    assert sum(parameter.numel() for parameter in net.parameters()) == 6 * 2 + 2
    x = torch.randn(5, 6)
    assert torch.allclose(net(2 * x) - net.head.bias, 2 * (net(x) - net.head.bias), atol=1e-5)


def test_activations_keep_their_size_through_many_relu_layers() -> None:
    """He's variance 2 / fan_in keeps the mean square of activations (He et al. 2015, equation 10)."""
    torch.manual_seed(0)
    net = MLP(MLPConfig(in_features=512, num_classes=2, hidden=(512,) * 10))
    features = net.forward_features(torch.randn(64, 512))
    assert 0.3 < features.square().mean().item() < 3.0


def test_sizes_that_only_the_data_knows_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="in_features and num_classes"):
        MLP(MLPConfig())


def test_other_number_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 6 values a sample, got 8"):
        MLP(MLPConfig(in_features=6, num_classes=2))(torch.zeros(1, 2, 4))
