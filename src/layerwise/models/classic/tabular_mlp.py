"""Perceptron on table rows, with a learned vector for every value of a category.

Paper: C. Guo, F. Berkhahn, "Entity embeddings of categorical variables", 2016, https://arxiv.org/abs/1604.06737

Differs from the paper: each hidden layer is normalised before its activation; dropout after it and on the categories'
vectors; a vector has half as many values as its column, rounded up, at most 50, where the paper tunes its width.

Shapes: B batch, F numbers, G category columns, D width.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.category_embeddings import CategoryEmbeddings
from layerwise.nn.hidden_layer import HiddenLayer

CARD = Card(
    title="Perceptron on tables",
    authors="Cheng Guo, Felix Berkhahn",
    paper="Entity embeddings of categorical variables",
    year=2016,
    link="https://arxiv.org/abs/1604.06737",
    inputs={
        "numeric": "float [B, num_numeric]",
        "categories": "int [B, G], each below its column's category_sizes",
    },
    outputs={"logits": "float [B, num_outputs]"},
    differences=(
        "Each hidden layer is normalised before its activation.",
        "Dropout after hidden layers and on the categories' vectors.",
        "Widths of vectors follow a rule instead of tuning.",
    ),
    capabilities=("differentiable", "features"),
)


@dataclass(frozen=True, kw_only=True)
class TabularMLPConfig:
    """Sizes of a perceptron on table rows.

    Args:
        num_numeric: numbers a row; None takes the task's.
        category_sizes: values of each category column; None takes the task's.
        num_outputs: classes, or 1 for regression; None takes the task's.
        embedding_dim: width of a category's vector; None takes min(50, half its column's size rounded up).
        hidden: widths of the hidden layers; none makes it linear.
        activation: after each hidden layer.
        dropout: rate after each hidden activation and on the categories' vectors.
        norm: normalises each hidden layer before its activation.
    """

    num_numeric: NonNegativeInt | None = None
    category_sizes: tuple[PositiveInt, ...] | None = None
    num_outputs: PositiveInt | None = None
    embedding_dim: PositiveInt | None = None
    hidden: tuple[PositiveInt, ...] = (256, 128)
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    dropout: Probability = 0.1
    norm: Literal["layer_norm", "batch_norm", "none"] = "layer_norm"


class TabularMLP(nn.Module):
    """A perceptron on `[numeric; E_1[c_1]; ...; E_G[c_G]]`, numbers beside one learned vector a category column.

    Shape:
        numeric [B, num_numeric], categories [B, G] -> [B, num_outputs]: class logits, or the standardised target.

    Example:
        >>> net = TabularMLP(TabularMLPConfig(num_numeric=3, category_sizes=(4, 7), num_outputs=2))
        >>> net(torch.zeros(5, 3), torch.zeros(5, 2, dtype=torch.int64)).shape
        torch.Size([5, 2])
    """

    def __init__(self, config: TabularMLPConfig) -> None:
        super().__init__()
        if config.num_numeric is None or config.category_sizes is None or config.num_outputs is None:
            raise ConfigError(
                "num_numeric, category_sizes and num_outputs are needed to build a TabularMLP; they come from the "
                "data or are given."
            )
        self.config = config
        self.embeddings = CategoryEmbeddings(config.category_sizes, config.embedding_dim)
        in_features = config.num_numeric + self.embeddings.out_features
        if in_features == 0:
            raise ConfigError("num_numeric=0 and no category_sizes: a row would have no input.")
        self.embedding_dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            HiddenLayer(before, after, activation=config.activation, dropout=config.dropout, norm=config.norm)
            for before, after in pairwise((in_features, *config.hidden))
        )
        self.head = nn.Linear((in_features, *config.hidden)[-1], config.num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Vectors of categories uniform on [-0.05, 0.05], as in the paper's code; hidden layers normal by He et al.
        (2015), uniform by Glorot and Bengio (2010) for tanh and the head; biases zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.uniform_(module.weight, -0.05, 0.05)
            elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                if module is self.head or self.config.activation == "tanh":
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward_features(self, numeric: Float[Tensor, "B F"], categories: Int[Tensor, "B G"]) -> Float[Tensor, "B D"]:
        """The last hidden layer."""
        x = torch.cat([numeric, self.embedding_dropout(self.embeddings(categories)).to(numeric)], dim=1)
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, numeric: Float[Tensor, "B F"], categories: Int[Tensor, "B G"]) -> Float[Tensor, "B K"]:
        """Class logits, or the standardised target."""
        return self.head(self.forward_features(numeric, categories))


PRESETS = {
    "mlp-tabular": TabularMLPConfig(),
    "mlp-tabular-tiny": TabularMLPConfig(num_numeric=3, category_sizes=(4, 7), num_outputs=5, hidden=(8, 8)),
}


def example_batch(config: TabularMLPConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random rows."""
    columns = [torch.randint(size, (batch_size,), generator=generator) for size in config.category_sizes or ()]
    return {
        "numeric": torch.randn(batch_size, config.num_numeric or 1, generator=generator),
        "categories": torch.stack(columns, 1) if columns else torch.zeros(batch_size, 0, dtype=torch.int64),
    }
