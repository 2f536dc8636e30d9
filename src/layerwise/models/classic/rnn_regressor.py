"""A recurrent network that reads a sequence of vectors and answers with numbers at its end.

Hochreiter, Schmidhuber 1997, "Long short-term memory", https://doi.org/10.1162/neco.1997.9.8.1735, experiment 4; the
plain form of Elman 1990, https://doi.org/10.1207/s15516709cog1402_1; the GRU of Cho et al. 2014,
https://arxiv.org/abs/1406.1078. The cells' equations, step by step: `layerwise.ops.recurrent`.

Differs from the papers: the LSTM has a forget gate and no peephole connections or blocks of cells.

Shapes: B batch, T steps, F inputs, H units, L layers, K outputs.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability, Range
from layerwise.core.errors import ConfigError
from layerwise.nn.init import Init, initialise
from layerwise.nn.recurrent import CellName, recurrent_layers, reset_recurrent


@dataclass(frozen=True, kw_only=True)
class RNNRegressorConfig:
    """Sizes of a recurrent network for regression.

    Args:
        in_features: numbers a step; None is taken from the data.
        num_outputs: numbers of the answer; None is taken from the data.
        cell: "rnn" (tanh), "lstm" or "gru".
        hidden_size: units a layer.
        num_layers: recurrent layers.
        dropout: probability of dropping an element between layers in training.
        max_memory: steps that an LSTM's or GRU's units remember at the start, each another number of them up to this
            (`reset_recurrent`); None: about one and a half steps.
    """

    in_features: PositiveInt | None = None
    num_outputs: PositiveInt | None = None
    cell: CellName = "lstm"
    hidden_size: PositiveInt = 64
    num_layers: PositiveInt = 1
    dropout: Probability = 0.0
    max_memory: Annotated[int, Range(3)] | None = None


class RNNRegressor(nn.Module):
    """y = W h_T + b, h_T being the last layer's hidden state after the last step.

    Args:
        config: sizes; `in_features` and `num_outputs` must be set.

    Shape:
        features: [B, T, F]; predictions: [B, K].

    Raises:
        ConfigError: a size that only the data knows is not set.

    Example:
        >>> model = RNNRegressor(RNNRegressorConfig(in_features=2, num_outputs=1, hidden_size=8))
        >>> model(torch.zeros(3, 50, 2)).shape
        torch.Size([3, 1])
    """

    def __init__(self, config: RNNRegressorConfig) -> None:
        super().__init__()
        if config.in_features is None or config.num_outputs is None:
            raise ConfigError("RNNRegressor needs in_features and num_outputs: give both, or train on data that tells")
        self.config = config
        self.rnn = recurrent_layers(
            config.cell, config.in_features, config.hidden_size, config.num_layers, config.dropout
        )
        self.head = nn.Linear(config.hidden_size, config.num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The cells as `reset_recurrent` says; the last layer Glorot-uniform, its bias zero."""
        reset_recurrent(self.rnn, max_memory=self.config.max_memory)
        initialise(self.head, {"bias": Init("zeros"), "*": Init("glorot_uniform")})

    def forward_features(self, features: Float[Tensor, "B T F"]) -> Float[Tensor, "B H"]:
        """The last hidden state."""
        return self.rnn(features)[0][:, -1]

    def forward(self, features: Float[Tensor, "B T F"]) -> Float[Tensor, "B K"]:
        return self.head(self.forward_features(features))


def example_batch(config: RNNRegressorConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Normal sequences of 9 steps."""
    return {"features": torch.randn(batch_size, 9, config.in_features or 2, generator=generator)}


PRESETS = {
    "lstm-regressor": RNNRegressorConfig(),
    "gru-regressor": RNNRegressorConfig(cell="gru"),
    "rnn-regressor": RNNRegressorConfig(cell="rnn"),
    "lstm-regressor-tiny": RNNRegressorConfig(in_features=2, num_outputs=1, hidden_size=24, num_layers=2),
    "gru-regressor-tiny": RNNRegressorConfig(in_features=2, num_outputs=1, cell="gru", hidden_size=24),
    "rnn-regressor-tiny": RNNRegressorConfig(in_features=2, num_outputs=1, cell="rnn", hidden_size=24),
}

CARD = Card(
    title="Recurrent network for regression (RNN, LSTM, GRU)",
    authors="Sepp Hochreiter, Juergen Schmidhuber",
    paper="Long short-term memory",
    year=1997,
    link="https://doi.org/10.1162/neco.1997.9.8.1735",
    inputs={"features": "float [B, S, in_features], S steps"},
    outputs={"predictions": "[B, num_outputs]"},
    differences=("The LSTM has the forget gate of 2000, no peephole connections and no blocks of cells.",),
    capabilities=("features", "differentiable"),
)
