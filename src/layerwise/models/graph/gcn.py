"""Graph convolutional network (GCN).

Paper: T. N. Kipf, M. Welling, "Semi-Supervised Classification with Graph Convolutional Networks", ICLR 2017.
https://arxiv.org/abs/1609.02907
Reference code: https://github.com/tkipf/gcn (layers.py, models.py).

Differs from the paper: a bias in every layer (the reference code's layers have none by default; PyTorch Geometric's
have one); dropout of sparse features acts on the stored entries, which is the same distribution, since a dropped zero
is a zero.

Shapes: N nodes, E directed edges, F input features, D hidden width, K classes, B chosen nodes.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.ops.segment import SparseRows, derived, sparse_matmul, sparse_rows_of, symmetric_normalisation

CARD = Card(
    title="Graph convolutional network",
    authors="Thomas N. Kipf, Max Welling",
    paper="Semi-Supervised Classification with Graph Convolutional Networks",
    year=2017,
    link="https://arxiv.org/abs/1609.02907",
    inputs={
        "features": "float [N, in_features], one row a node",
        "edge_index": "int64 [2, E], sources and targets; an undirected edge stands in both directions",
        "nodes": "int64 [B], the nodes asked for; None asks for all",
    },
    outputs={"logits": "float [B, num_classes] or [N, num_classes]"},
    differences=("A bias in every layer.", "Dropout of sparse features acts on the stored entries."),
    capabilities=("differentiable", "features", "permutation_equivariant"),
)


@dataclass(frozen=True, kw_only=True)
class GCNConfig:
    """GCN's sizes.

    Args:
        in_features: width of a node's features; None takes the data's.
        num_classes: classes of the last layer; None takes the data's.
        hidden_channels: width of the layers between.
        num_layers: graph convolutions.
        dropout: of each layer's input.
        sparse_features: features are mostly zeros and are multiplied as sparse rows; None takes what the data says,
            else false.
    """

    in_features: PositiveInt | None = None
    num_classes: PositiveInt | None = None
    hidden_channels: PositiveInt = 16
    num_layers: PositiveInt = 2
    dropout: Probability = 0.5
    sparse_features: bool | None = None


class GCNConv(nn.Module):
    """One graph convolution, `A X W + b` with the normalised adjacency A (equation 2 without the activation).

    Args:
        in_channels, out_channels: widths.

    Shape:
        x [N, in_channels], dense or sparse rows -> [N, out_channels].
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot and Bengio (2010) uniform weights as in the paper, zero bias."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor | SparseRows, adjacency: SparseRows) -> Float[Tensor, "N D"]:
        projected = x @ self.weight if isinstance(x, Tensor) else sparse_matmul(x, self.weight)
        return sparse_matmul(adjacency, projected) + self.bias


def _normalised(edge_index: Tensor, features: Tensor) -> SparseRows:
    count, dtype = features.shape[0], features.dtype
    return derived(edge_index, f"symmetric {count} {dtype}", lambda: symmetric_normalisation(edge_index, count, dtype))


class GCN(nn.Module):
    """Graph convolutions with ReLU between; for two layers `Z = A relu(A X W0 + b0) W1 + b1` (equation 9, no softmax).

    Shape:
        features [N, in_features], edge_index [2, E] -> logits [N, num_classes]; with nodes [B] -> [B, num_classes].

    Example:
        >>> net = GCN(GCNConfig(in_features=1433, num_classes=7))
        >>> sum(p.numel() for p in net.parameters())
        23063
    """

    def __init__(self, config: GCNConfig) -> None:
        super().__init__()
        if config.in_features is None or config.num_classes is None:
            raise ConfigError(
                "in_features and num_classes are needed to build GCN; they come from the data or are given."
            )
        self.config = config
        widths = [config.in_features, *[config.hidden_channels] * (config.num_layers - 1), config.num_classes]
        self.convs = nn.ModuleList(GCNConv(a, b) for a, b in itertools.pairwise(widths))

    @property
    def blocks(self) -> nn.ModuleList:
        """The graph convolutions."""
        return self.convs

    def reset_parameters(self) -> None:
        """Draw every layer's weights anew."""
        for conv in self.convs:
            assert isinstance(conv, GCNConv)
            conv.reset_parameters()

    def _input(self, features: Tensor) -> Tensor | SparseRows:
        dropout, training = self.config.dropout, self.training
        if (
            not self.config.sparse_features or features.requires_grad
        ):  # sparse rows are constants: no gradient of the features
            return F.dropout(features, dropout, training)
        rows = derived(features, "sparse_rows", lambda: sparse_rows_of(features))
        return rows._replace(values=F.dropout(rows.values, dropout, training))

    def _last_input(self, features: Tensor, adjacency: SparseRows) -> Tensor | SparseRows:
        x = self._input(features)
        for conv in self.convs[:-1]:
            x = F.dropout(F.relu(conv(x, adjacency)), self.config.dropout, self.training)
        return x

    def forward_features(self, features: Float[Tensor, "N F"], edge_index: Int[Tensor, "2 E"]) -> Float[Tensor, "N D"]:
        """What the last layer takes, [N, hidden_channels]; the features themselves where there is one layer."""
        x = self._last_input(features, _normalised(edge_index, features))
        return x if isinstance(x, Tensor) else features

    def forward(
        self, features: Float[Tensor, "N F"], edge_index: Int[Tensor, "2 E"], nodes: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B K"]:
        """Class logits of the nodes asked for, of all without `nodes`."""
        adjacency = _normalised(edge_index, features)
        logits: Tensor = self.convs[-1](self._last_input(features, adjacency), adjacency)
        return logits if nodes is None else logits.index_select(0, nodes)


PRESETS = {
    "gcn": GCNConfig(),
    "gcn-tiny": GCNConfig(in_features=8, num_classes=3, hidden_channels=4),
}


def example_batch(config: GCNConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A random undirected graph of `batch_size` nodes, with about four edges a node."""
    features = torch.randn(batch_size, config.in_features or 8, generator=generator)
    pairs = torch.randint(0, batch_size, (2, 2 * batch_size), generator=generator)
    return {"features": features, "edge_index": torch.cat([pairs, pairs.flip(0)], dim=1)}
