"""The residual network on tables against its equations in float64, and the reference code's parameter count."""

import numpy as np
import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.models.classic.tabular_resnet import TabularResNet, TabularResNetConfig


def network() -> TabularResNet:
    torch.manual_seed(0)
    config = TabularResNetConfig(num_numeric=3, category_sizes=(4, 7), num_outputs=2, d_model=6, d_ff=10, num_layers=2)
    net = TabularResNet(config).double()
    for module in net.modules():  # as if trained: norms are not the identity
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return net.eval()


def test_forward_is_the_papers_equation() -> None:
    """ResNetBlock(x) = x + Linear(ReLU(Linear(BatchNorm(x)))), Prediction(x) = Linear(ReLU(BatchNorm(x))); section
    3.2.
    """
    net = network()
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    numeric, categories = torch.randn(5, 3, dtype=torch.float64), torch.tensor([[0, 6], [3, 0], [1, 1], [2, 5], [3, 3]])

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def batch_norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(state[f"{name}.running_var"] + 1e-5)
        return (x - state[f"{name}.running_mean"]) / spread * state[f"{name}.weight"] + state[f"{name}.bias"]

    vectors = [state[f"embeddings.{k}.weight"][categories[:, k].numpy()] for k in range(2)]
    x = linear(np.concatenate([numeric.numpy(), *vectors], 1), "stem")
    for block in ("blocks.0", "blocks.1"):
        hidden = np.maximum(linear(batch_norm(x, f"{block}.norm"), f"{block}.linear1"), 0)
        x = x + linear(hidden, f"{block}.linear2")
    expected = linear(np.maximum(batch_norm(x, "norm"), 0), "head")
    assert np.abs(net(numeric, categories).detach().numpy() - expected).max() < 1e-12


def test_parameters_are_as_many_as_the_equation_has() -> None:
    net = TabularResNet(
        TabularResNetConfig(num_numeric=8, category_sizes=(), num_outputs=1, d_model=192, d_ff=384, num_layers=3)
    )
    stem, head, norm = 8 * 192 + 192, 192 + 1, 2 * 192
    block = norm + (192 * 384 + 384) + (384 * 192 + 192)
    assert sum(parameter.numel() for parameter in net.parameters()) == stem + 3 * block + norm + head


def test_dropout_inside_and_outside_a_block_are_two_rates() -> None:
    config = TabularResNetConfig(
        num_numeric=4, category_sizes=(), num_outputs=1, dropout=0.0, residual_dropout=1.0, num_layers=1
    )
    net = TabularResNet(config).train()
    x = torch.randn(6, config.d_model)
    assert torch.equal(net.blocks[0](x), x)  # what a block adds is dropped whole
    inside = TabularResNet(TabularResNetConfig(num_numeric=4, category_sizes=(), num_outputs=1, dropout=1.0)).train()
    assert torch.equal(inside.blocks[0](x), x + inside.blocks[0].linear2.bias)  # type: ignore[union-attr]


def test_sizes_that_only_the_data_knows_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="num_numeric, category_sizes and num_outputs"):
        TabularResNet(TabularResNetConfig())
    with pytest.raises(ConfigError, match="no input"):
        TabularResNet(TabularResNetConfig(num_numeric=0, category_sizes=(), num_outputs=4))
