"""Multi-layer perceptron, on vectors or flattened pictures. On tables: `tabular_mlp.py`.

Paper: D. Rumelhart, G. Hinton, R. Williams, "Learning representations by back-propagating errors", Nature 323, 1986,
https://doi.org/10.1038/323533a0

Differs from the paper: rectified linear units (Glorot, Bordes, Bengio 2011) by default in place of sigmoids; dropout
(Srivastava et al. 2014) and a normalisation of hidden layers where asked for. No hidden layer makes it linear: logistic
or least-squares regression.

Shapes: B batch, D E widths, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError
from layerwise.nn.hidden_layer import Activation, HiddenLayer
from layerwise.nn.norms import Norm

CARD = Card(
    title="Multi-layer perceptron",
    authors="David Rumelhart, Geoffrey Hinton, Ronald Williams",
    paper="Learning representations by back-propagating errors",
    year=1986,
    link="https://doi.org/10.1038/323533a0",
    inputs={
        "images": "float [B, ...] with in_features values a sample",
    },
    outputs={"logits": "float [B, num_classes]"},
    differences=("Rectified linear units in place of sigmoids.",),
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
        norm: normalises each hidden layer before its activation.
        num_groups: of `norm=group_norm`; must divide each width.
        init_range: weights and biases start uniform between minus and plus this, as in 1986; None as
            `MLP.reset_parameters` says.
    """

    in_features: PositiveInt | None = None
    num_classes: PositiveInt | None = None
    hidden: tuple[PositiveInt, ...] = (128, 128)
    activation: Activation = "relu"
    dropout: Probability = 0.0
    norm: Norm = "none"
    num_groups: PositiveInt = 8
    init_range: PositiveFloat | None = None


def _hidden_layers(in_features: int, config: MLPConfig) -> nn.ModuleList:
    widths = (in_features, *config.hidden)
    return nn.ModuleList(
        HiddenLayer(
            before,
            after,
            activation=config.activation,
            dropout=config.dropout,
            norm=config.norm,
            num_groups=config.num_groups,
        )
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
        """See `_reset_linear`; the head as for a linear layer (Glorot); `init_range` takes the place of both."""
        _reset_linear(list(self.blocks.modules()), self.config.activation)
        _reset_linear([self.head], "linear")
        if self.config.init_range is not None:
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    for parameter in (module.weight, module.bias):
                        nn.init.uniform_(parameter, -self.config.init_range, self.config.init_range)

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


PRESETS = {
    "mlp": MLPConfig(),
    "mlp-tiny": MLPConfig(in_features=12, num_classes=5, hidden=(8, 8)),
}


def example_batch(config: MLPConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random vectors."""
    return {"images": torch.randn(batch_size, config.in_features or 784, generator=generator)}
