"""Perceptron: a threshold unit whose weights are learned, after fixed random association units where asked for.

Papers: F. Rosenblatt, "The perceptron: a probabilistic model for information storage and organization in the brain",
Psychological Review 65(6), 1958, https://doi.org/10.1037/h0042519. The error-correction rule and its convergence:
F. Rosenblatt, "Principles of Neurodynamics", 1962; A. Novikoff, "On convergence proofs on perceptrons", 1962.

Differs from the paper: the response units learn by error correction (`objectives/perceptron_rule.py`), not by the
alpha, beta and gamma systems of 1958; they do not feed back; association units get connections from anywhere in the
input, as in the paper's model without a projection area. `perceptron` has no association units: its inputs are what
they would say.

Shapes: B batch, F inputs, A association units (F where there are none), K response units.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.core.errors import ConfigError

CARD = Card(
    title="Perceptron",
    authors="Frank Rosenblatt",
    paper="The perceptron: a probabilistic model for information storage and organization in the brain",
    year=1958,
    link="https://doi.org/10.1037/h0042519",
    inputs={"images": "float [B, ...] with in_features values a sample"},
    outputs={"scores": "float [B, num_outputs], a unit responds where its score is above zero"},
    differences=(
        "Response units learn by the error-correction rule of 1962 and do not feed back.",
        "Association units are wired to any inputs, without a projection area.",
    ),
    capabilities=("differentiable", "features"),
)


@dataclass(frozen=True, kw_only=True)
class AssociationConfig:
    """The fixed layer in front.

    Args:
        units: association units.
        excitatory, inhibitory: connections of a unit, each from an input drawn at random.
        threshold: a unit is active where its active excitatory inputs less its inhibitory ones are at least this many.
    """

    units: PositiveInt = 256
    excitatory: NonNegativeInt = 2
    inhibitory: NonNegativeInt = 2
    threshold: PositiveInt = 1


@dataclass(frozen=True, kw_only=True)
class PerceptronConfig:
    """Sizes of a perceptron.

    Args:
        in_features: values a sample; None takes the data's.
        num_outputs: response units; None takes the data's.
        association: the layer in front; None gives the inputs to the response units as they are.
    """

    in_features: PositiveInt | None = None
    num_outputs: PositiveInt | None = None
    association: AssociationConfig | None = None


class AssociationUnits(nn.Module):
    """`a_i = 1 where sum_j C_ij x_j >= theta, else 0`, with C drawn once and never changed.

    Shape:
        float [B, F] -> float [B, A] of zeros and ones.
    """

    wiring: Tensor

    def __init__(self, in_features: int, config: AssociationConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("wiring", torch.zeros(config.units, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Origins of the connections, uniform over the inputs; two of a unit may be the same."""
        units, in_features = self.wiring.shape
        ones = torch.ones(units, 1, device=self.wiring.device)
        self.wiring.zero_()
        for count, sign in ((self.config.excitatory, 1.0), (self.config.inhibitory, -1.0)):
            origins = torch.randint(in_features, (units, count), device=self.wiring.device)
            self.wiring.scatter_add_(1, origins, (sign * ones).expand(units, count))

    def forward(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B A"]:
        return (F.linear(x, self.wiring) >= self.config.threshold).to(self.wiring.dtype)


class Perceptron(nn.Module):
    """`s_k = w_k . a(x) + b_k`; unit k responds where `s_k > 0`.

    The score before the threshold is what is given out, since the rule asks for its sign and samples at zero count as
    errors.

    Shape:
        images [B, ...] with in_features values a sample -> scores [B, num_outputs].

    Example:
        >>> net = Perceptron(PerceptronConfig(in_features=2, num_outputs=1))
        >>> net(torch.ones(3, 2)).tolist()
        [[0.0], [0.0], [0.0]]
    """

    def __init__(self, config: PerceptronConfig) -> None:
        super().__init__()
        if config.in_features is None or config.num_outputs is None:
            raise ConfigError(
                "in_features and num_outputs are needed to build a perceptron; they come from the data or are given."
            )
        self.config = config
        association = config.association
        self.association = AssociationUnits(config.in_features, association) if association else nn.Identity()
        self.response = nn.Linear(association.units if association else config.in_features, config.num_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zero, where the bound of the convergence theorem starts; the wiring of association units is drawn anew."""
        if isinstance(self.association, AssociationUnits):
            self.association.reset_parameters()
        nn.init.zeros_(self.response.weight)
        nn.init.zeros_(self.response.bias)

    def forward_features(self, images: Float[Tensor, "B ..."]) -> Float[Tensor, "B A"]:
        """What the response units see.

        Raises:
            ValueError: another number of values a sample.
        """
        x = images.flatten(1)
        if x.shape[1] != self.config.in_features:
            raise ValueError(f"this perceptron takes {self.config.in_features} values a sample, got {x.shape[1]}.")
        return self.association(x)

    def forward(self, images: Float[Tensor, "B ..."]) -> Float[Tensor, "B K"]:
        """Scores."""
        return self.response(self.forward_features(images))


PRESETS = {
    "perceptron": PerceptronConfig(),
    "perceptron-1958": PerceptronConfig(association=AssociationConfig()),
    "perceptron-tiny": PerceptronConfig(in_features=6, num_outputs=2, association=AssociationConfig(units=16)),
}


def example_batch(config: PerceptronConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random zeros and ones."""
    return {"images": torch.randint(2, (batch_size, config.in_features or 2), generator=generator).float()}
