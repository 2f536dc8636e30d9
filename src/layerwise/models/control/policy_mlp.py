"""Actor and critic as two small multilayer perceptrons.

Paper: R. J. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
Machine Learning 8, 1992. https://doi.org/10.1007/BF00992696

Differs from the paper: the reinforcement baseline is a learned value of the observation (Sutton and Barto 2018, section
13.4) in a network of its own, so that the scale of its error does not disturb the policy; orthogonal initial weights
with a small last policy layer, as is usual today.

Shapes: B observations, F observation width, A actions.
"""

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerwise.core.cards import Card
from layerwise.core.config import PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import PolicyOutput

CARD = Card(
    title="Policy and value perceptrons",
    authors="Ronald J. Williams",
    paper="Simple statistical gradient-following algorithms for connectionist reinforcement learning",
    year=1992,
    link="https://doi.org/10.1007/BF00992696",
    inputs={"observations": "float [B, in_features]"},
    outputs={
        "logits": "float [B, num_actions], of a categorical policy",
        "value": "float [B], expected discounted return",
    },
    differences=("A learned baseline in a network of its own.", "Orthogonal initial weights."),
)


@dataclass(frozen=True, kw_only=True)
class PolicyMLPConfig:
    """Sizes of actor and critic.

    Args:
        in_features: width of an observation; None takes the environment's.
        num_actions: choices of the policy; None takes the environment's.
        hidden_channels: width of the hidden layers of each network.
        num_layers: hidden layers of each network.
    """

    in_features: PositiveInt | None = None
    num_actions: PositiveInt | None = None
    hidden_channels: PositiveInt = 64
    num_layers: PositiveInt = 1


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class PolicyMLP(nn.Module):
    """`logits = actor(s)`, `value = critic(s)`, tanh between linear layers.

    Shape:
        observations [B, in_features] -> logits [B, num_actions], value [B].

    Example:
        >>> net = PolicyMLP(PolicyMLPConfig(in_features=4, num_actions=2))
        >>> net(torch.zeros(3, 4)).logits.shape
        torch.Size([3, 2])
    """

    def __init__(self, config: PolicyMLPConfig) -> None:
        super().__init__()
        if config.in_features is None or config.num_actions is None:
            raise ConfigError(
                "in_features and num_actions are needed to build the policy; the environment gives them, or you."
            )
        self.config = config
        hidden = [config.in_features, *[config.hidden_channels] * config.num_layers]
        self.actor = _mlp([*hidden, config.num_actions])
        self.critic = _mlp([*hidden, 1])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal weights (Saxe et al. 2014) of gain sqrt(2), in the last layers 0.01 (policy) and 1 (value).

        Biases are zero.
        """
        for network, last_gain in ((self.actor, 0.01), (self.critic, 1.0)):
            linears = [module for module in network if isinstance(module, nn.Linear)]
            for linear in linears:
                nn.init.orthogonal_(linear.weight, last_gain if linear is linears[-1] else 2**0.5)
                nn.init.zeros_(linear.bias)

    def forward(self, observations: Float[Tensor, "B F"]) -> PolicyOutput:
        """Action logits and values."""
        return PolicyOutput(self.actor(observations), self.critic(observations).squeeze(-1))


PRESETS = {
    "policy-mlp": PolicyMLPConfig(),
    "policy-mlp-tiny": PolicyMLPConfig(in_features=4, num_actions=2, hidden_channels=8),
}


def example_batch(config: PolicyMLPConfig, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random observations."""
    return {"observations": torch.randn(batch_size, config.in_features or 4, generator=generator)}
