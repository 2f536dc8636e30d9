"""Multi-layer perceptron, on vectors or flattened pictures and on tables with categories.

Papers: D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating errors", Nature 323, 1986,
https://doi.org/10.1038/323533a0. Categories by learned vectors: C. Guo, F. Berkhahn, "Entity Embeddings of Categorical
Variables", 2016, https://arxiv.org/abs/1604.06737

Differs from the paper: rectified linear units (Glorot, Bordes, Bengio 2011) by default in place of sigmoids; dropout
(Srivastava et al. 2014) and layer normalisation where asked for. No hidden layer makes it linear: logistic or
least-squares regression.

Shapes: B batch, F numbers, G category columns, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PositiveInt, Probability
from layerwise.core.errors import ConfigError

CARD = Card(
    title="Multi-layer perceptron",
    authors="David Rumelhart, Geoffrey Hinton, Ronald Williams",
    paper="Learning representations by back-propagating errors",
    year=1986,
    link="https://doi.org/10.1038/323533a0",
    inputs={
        "images": "float [B, ...] with in_features values a sample (`mlp`)",
        "numeric": "float [B, num_numeric] (`mlp-tabular`)",
        "categories": "int [B, G], each below its column's category_sizes (`mlp-tabular`)",
    },
    outputs={"logits": "float [B, num_classes] (`mlp`) or [B, num_outputs] (`mlp-tabular`)"},
    differences=(
        "Rectified linear units in place of sigmoids.",
        "Category columns enter by learned vectors (Guo and Berkhahn 2016), side by side with the numbers.",
    ),
    capabilities=("differentiable", "features"),
)


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Sizes of a perceptron on vectors or flattened pictures.

    Args:
        in_features: values a sample; None takes the data's.
        num_classes: outputs; None takes the data's.
        hidden: widths of the hidden layers; none makes it linear.
        activation: after each hidden layer.
        dropout: rate after each hidden activation.
        layer_norm: normalise each hidden layer before its activation.
    """

    in_features: PositiveInt | None = None
    num_classes: PositiveInt | None = None
    hidden: tuple[PositiveInt, ...] = (128, 128)
    activation: Literal["relu", "gelu", "silu", "tanh", "sigmoid"] = "relu"
    dropout: Probability = 0.0
    layer_norm: bool = False


@dataclass(frozen=True, kw_only=True)
class TableMLPConfig:
    """Sizes of a perceptron on table rows.

    Args:
        num_numeric: numbers a row; None takes the task's.
        category_sizes: values of each category column; None takes the task's.
        num_outputs: classes, or 1 for regression; None takes the task's.
        embedding_dim: width of a category's vector; None takes min(50, half its column's size rounded up) (Guo and
            Berkhahn).
        hidden, activation, dropout, layer_norm: as in `MLPConfig`; dropout acts on the categories' vectors too.
    """

    num_numeric: NonNegativeInt | None = None
    category_sizes: tuple[PositiveInt, ...] | None = None
    num_outputs: PositiveInt | None = None
    embedding_dim: PositiveInt | None = None
    hidden: tuple[PositiveInt, ...] = (256, 128)
    activation: Literal["relu", "gelu", "silu", "tanh", "sigmoid"] = "relu"
    dropout: Probability = 0.1
    layer_norm: bool = True


class HiddenLayer(nn.Module):
    """`dropout(act(norm(W x + b)))`."""

    def __init__(
        self, in_features: int, out_features: int, *, activation: str, dropout: float, layer_norm: bool
    ) -> None:
        super().__init__()
        kinds: dict[str, type[nn.Module]] = {
            "relu": nn.ReLU,
            "gelu": nn.GELU,
            "silu": nn.SiLU,
            "tanh": nn.Tanh,
            "sigmoid": nn.Sigmoid,
        }
        self.linear = nn.Linear(in_features, out_features)
        self.norm = nn.LayerNorm(out_features) if layer_norm else nn.Identity()
        self.activation = kinds[activation]()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        return self.dropout(self.activation(self.norm(self.linear(x))))


def _hidden_layers(in_features: int, config: MLPConfig | TableMLPConfig) -> nn.ModuleList:
    widths = (in_features, *config.hidden)
    return nn.ModuleList(
        HiddenLayer(before, after, activation=config.activation, dropout=config.dropout, layer_norm=config.layer_norm)
        for before, after in pairwise(widths)
    )


def _reset_linear(modules: Sequence[nn.Module], activation: str) -> None:
    """He et al. (2015) normal for units that pass half of their input, Glorot and Bengio (2010) uniform for tanh and
    sigmoid; biases zero.
    """
    for module in modules:
        if isinstance(module, nn.Linear):
            if activation in ("relu", "gelu", "silu"):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


class MLP(nn.Module):
    """`h_0 = x, h_l = act(W_l h_{l-1} + b_l), logits = W h_L + b`.

    Shape:
        images [B, ...] with in_features values a sample -> logits [B, num_classes].

    Example:
        >>> net = MLP(MLPConfig(in_features=784, num_classes=10, hidden=(128, 128)))
        >>> sum(p.numel() for p in net.parameters()) == 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
        True
    """

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        if config.in_features is None or config.num_classes is None:
            raise ConfigError(
                "in_features and num_classes are needed to build an MLP; they come from the data or are given."
            )
        self.config = config
        self.blocks = _hidden_layers(config.in_features, config)
        self.head = nn.Linear((config.in_features, *config.hidden)[-1], config.num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """See `_reset_linear`; the head as for a linear layer (Glorot)."""
        _reset_linear(list(self.blocks.modules()), self.config.activation)
        _reset_linear([self.head], "linear")

    def forward_features(self, images: Float[Tensor, "B ..."]) -> Float[Tensor, "B D"]:
        """The last hidden layer.

        Raises:
            ValueError: another number of values a sample.
        """
        x = images.flatten(1)
        if x.shape[1] != self.config.in_features:
            raise ValueError(f"this MLP takes {self.config.in_features} values a sample, got {x.shape[1]}.")
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, images: Float[Tensor, "B ..."]) -> Float[Tensor, "B K"]:
        """Class logits."""
        return self.head(self.forward_features(images))


class TableMLP(nn.Module):
    """A perceptron on `[numeric; E_1[c_1]; ...; E_G[c_G]]`, numbers beside one learned vector a category column.

    Shape:
        numeric [B, num_numeric], categories [B, G] -> [B, num_outputs].

    Example:
        >>> net = TableMLP(TableMLPConfig(num_numeric=3, category_sizes=(4, 7), num_outputs=2))
        >>> net(torch.zeros(5, 3), torch.zeros(5, 2, dtype=torch.int64)).shape
        torch.Size([5, 2])
    """

    def __init__(self, config: TableMLPConfig) -> None:
        super().__init__()
        if config.num_numeric is None or config.category_sizes is None or config.num_outputs is None:
            raise ConfigError(
                "num_numeric, category_sizes and num_outputs are needed to build a table MLP; they come from the "
                "data or are given."
            )
        self.config = config
        widths = [config.embedding_dim or min(50, (size + 1) // 2) for size in config.category_sizes]
        in_features = config.num_numeric + sum(widths)
        if in_features == 0:
            raise ConfigError("num_numeric=0 and no category_sizes: a row would have no input.")
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, width) for size, width in zip(config.category_sizes, widths, strict=True)
        )
        self.embedding_dropout = nn.Dropout(config.dropout)
        self.blocks = _hidden_layers(in_features, config)
        self.head = nn.Linear((in_features, *config.hidden)[-1], config.num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Vectors of categories uniform on [-0.05, 0.05] (as in the paper's code); linear layers as in `MLP`."""
        for embedding in self.embeddings:
            assert isinstance(embedding, nn.Embedding)
            nn.init.uniform_(embedding.weight, -0.05, 0.05)
        _reset_linear(list(self.blocks.modules()), self.config.activation)
        _reset_linear([self.head], "linear")

    def forward_features(self, numeric: Float[Tensor, "B F"], categories: Int[Tensor, "B G"]) -> Float[Tensor, "B D"]:
        """The last hidden layer."""
        vectors = [embedding(column) for embedding, column in zip(self.embeddings, categories.unbind(1), strict=True)]
        x = torch.cat([numeric, self.embedding_dropout(torch.cat(vectors, dim=1))], dim=1) if vectors else numeric
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, numeric: Float[Tensor, "B F"], categories: Int[Tensor, "B G"]) -> Float[Tensor, "B K"]:
        """Class logits, or the standardised target."""
        return self.head(self.forward_features(numeric, categories))


PRESETS = {
    "mlp": MLPConfig(),
    "mlp-tiny": MLPConfig(in_features=12, num_classes=5, hidden=(8, 8)),
    "mlp-tabular": TableMLPConfig(),
    "mlp-tabular-tiny": TableMLPConfig(num_numeric=3, category_sizes=(4, 7), num_outputs=5, hidden=(8, 8)),
}


def example_batch(config: MLPConfig | TableMLPConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random vectors, or random rows."""
    if isinstance(config, MLPConfig):
        return {"images": torch.randn(batch_size, config.in_features or 784, generator=generator)}
    columns = [torch.randint(size, (batch_size,), generator=generator) for size in config.category_sizes or ()]
    return {
        "numeric": torch.randn(batch_size, config.num_numeric or 1, generator=generator),
        "categories": torch.stack(columns, 1) if columns else torch.zeros(batch_size, 0, dtype=torch.int64),
    }
