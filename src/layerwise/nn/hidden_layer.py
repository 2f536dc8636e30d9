"""The hidden layer of a perceptron."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from layerwise.nn.norms import Norm, make_norm

Activation = Literal["relu", "gelu", "silu", "tanh", "sigmoid"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class HiddenLayer(nn.Module):
    """`dropout(act(norm(W x + b)))`.

    Args:
        in_features, out_features: widths before and after.
        activation: by name.
        dropout: rate after the activation.
        norm: before the activation.
        num_groups: of `norm="group_norm"`; must divide `out_features`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: Activation,
        dropout: float,
        norm: Norm,
        num_groups: int = 8,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.norm = make_norm(norm, out_features, num_groups=num_groups)
        self.activation = _ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        return self.dropout(self.activation(self.norm(self.linear(x))))
