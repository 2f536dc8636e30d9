"""Residual network on table rows.

Paper: Y. Gorishniy, I. Rubachev, V. Khrulkov, A. Babenko, "Revisiting deep learning models for tabular data", NeurIPS
2021, https://arxiv.org/abs/2106.11959, section 3.2. Reference code: https://github.com/yandex-research/rtdl (`ResNet`)

Differs from the paper: widths and rates of dropout are one default each, where the paper tunes them for every data set;
a category's vector has half as many values as its column, rounded up, at most 50, where the paper tunes one width for
all columns; biases start at zero.

Shapes: B batch, F numbers, G category columns, D width, H hidden width of a block.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.category_embeddings import CategoryEmbeddings

CARD = Card(
    title="Residual network on tables",
    authors="Yury Gorishniy, Ivan Rubachev, Valentin Khrulkov, Artem Babenko",
    paper="Revisiting deep learning models for tabular data",
    year=2021,
    link="https://arxiv.org/abs/2106.11959",
    inputs={
        "numeric": "float [B, num_numeric]",
        "categories": "int [B, G], each below its column's category_sizes",
    },
    outputs={"logits": "float [B, num_outputs]"},
    differences=(
        "Widths and rates of dropout are one default each instead of tuned.",
        "Widths of the categories' vectors follow their column's number of values.",
    ),
    capabilities=("differentiable", "features"),
)


@dataclass(frozen=True, kw_only=True)
class TabularResNetConfig:
    """Sizes of the network.

    Args:
        num_numeric: numbers a row; None takes the task's.
        category_sizes: values of each category column; None takes the task's.
        num_outputs: classes, or 1 for regression; None takes the task's.
        embedding_dim: width of a category's vector; None takes min(50, half its column's size rounded up).
        d_model: width of the residual stream.
        d_ff: width inside a block.
        num_layers: blocks.
        dropout: rate inside a block.
        residual_dropout: rate on what a block adds.
    """

    num_numeric: NonNegativeInt | None = None
    category_sizes: tuple[PositiveInt, ...] | None = None
    num_outputs: PositiveInt | None = None
    embedding_dim: PositiveInt | None = None
    d_model: PositiveInt = 128
    d_ff: PositiveInt = 256
    num_layers: PositiveInt = 2
    dropout: Probability = 0.3
    residual_dropout: Probability = 0.0


class ResidualBlock(nn.Module):
    """`x + dropout(W_2 dropout(relu(W_1 batch_norm(x))))`."""

    def __init__(self, config: TabularResNetConfig) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(config.d_model)
        self.linear1 = nn.Linear(config.d_model, config.d_ff)
        self.linear2 = nn.Linear(config.d_ff, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.residual_dropout = nn.Dropout(config.residual_dropout)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        hidden = self.dropout(F.relu(self.linear1(self.norm(x))))
        return x + self.residual_dropout(self.linear2(hidden))


class TabularResNet(nn.Module):
    """`W relu(batch_norm(block_L(... block_1(W_0 [numeric; E_1[c_1]; ...; E_G[c_G]]))))`.

    Shape:
        numeric [B, num_numeric], categories [B, G] -> [B, num_outputs]: class logits, or the standardised target.

    Example:
        >>> net = TabularResNet(TabularResNetConfig(num_numeric=3, category_sizes=(4, 7), num_outputs=2))
        >>> net(torch.zeros(5, 3), torch.zeros(5, 2, dtype=torch.int64)).shape
        torch.Size([5, 2])
    """

    def __init__(self, config: TabularResNetConfig) -> None:
        super().__init__()
        if config.num_numeric is None or config.category_sizes is None or config.num_outputs is None:
            raise ConfigError(
                "num_numeric, category_sizes and num_outputs are needed to build a TabularResNet; they come from the "
                "data or are given."
            )
        self.config = config
        self.embeddings = CategoryEmbeddings(config.category_sizes, config.embedding_dim)
        in_features = config.num_numeric + self.embeddings.out_features
        if in_features == 0:
            raise ConfigError("num_numeric=0 and no category_sizes: a row would have no input.")
        self.stem = nn.Linear(in_features, config.d_model)
        self.blocks = nn.ModuleList(ResidualBlock(config) for _ in range(config.num_layers))
        self.norm = nn.BatchNorm1d(config.d_model)
        self.head = nn.Linear(config.d_model, config.num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as in the reference code: uniform by He et al. (2015), `a = sqrt(5)`. Biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5)
            elif isinstance(module, nn.BatchNorm1d):
                module.reset_parameters()
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward_features(self, numeric: Float[Tensor, "B F"], categories: Int[Tensor, "B G"]) -> Float[Tensor, "B D"]:
        """What the head sees."""
        x = self.stem(torch.cat([numeric, self.embeddings(categories).to(numeric)], dim=1))
        for block in self.blocks:
            x = block(x)
        return F.relu(self.norm(x))

    def forward(self, numeric: Float[Tensor, "B F"], categories: Int[Tensor, "B G"]) -> Float[Tensor, "B K"]:
        """Class logits, or the standardised target."""
        return self.head(self.forward_features(numeric, categories))


PRESETS = {
    "resnet-tabular": TabularResNetConfig(),
    "resnet-tabular-tiny": TabularResNetConfig(
        num_numeric=3, category_sizes=(4, 7), num_outputs=5, d_model=8, d_ff=16, num_layers=2
    ),
}


def example_batch(config: TabularResNetConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random rows."""
    columns = [torch.randint(size, (batch_size,), generator=generator) for size in config.category_sizes or ()]
    return {
        "numeric": torch.randn(batch_size, config.num_numeric or 1, generator=generator),
        "categories": torch.stack(columns, 1) if columns else torch.zeros(batch_size, 0, dtype=torch.int64),
    }
