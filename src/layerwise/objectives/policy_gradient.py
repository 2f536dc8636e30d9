"""REINFORCE with a learned baseline.

Paper: R. J. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning",
Machine Learning 8, 1992; R. S. Sutton, A. G. Barto, "Reinforcement Learning: An Introduction", 2nd edition 2018,
section 13.4.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from layerwise.core.config import NonNegativeFloat
from layerwise.objectives.base import Batch, Context, Objective, Term


@dataclass(frozen=True, kw_only=True)
class PolicyGradientConfig:
    """Options of the policy gradient.

    Args:
        value_weight: factor of the baseline's squared error.
        entropy_weight: factor of the policy's entropy, which is rewarded.
        normalise_advantages: subtract the mean and divide by the deviation over the batch; the policy term is then
            `per_batch`.
    """

    value_weight: NonNegativeFloat = 0.5
    entropy_weight: NonNegativeFloat = 0.0
    normalise_advantages: bool = False


class PolicyGradient(Objective):
    """`mean_t -log pi(a_t|s_t) (G_t - V(s_t)) + value_weight (G_t - V(s_t))^2 - entropy_weight H(pi(.|s_t))`, M steps.

    The advantage `G_t - V(s_t)` is a constant of the first term. As usual, the factor `discount^t` of the discounted
    objective's gradient is left out (Sutton and Barto's boxed algorithm has it).

    Shape:
        observations [M, F], actions int64 [M], returns [M]; the network gives `logits` [M, A] and `value` [M].
    """

    def __init__(self, config: PolicyGradientConfig) -> None:
        super().__init__()
        self.config = config
        self.per_batch = ("policy",) if config.normalise_advantages else ()

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        steps = float(len(batch["actions"]))
        return {name: steps for name in ("policy", "value", "entropy") if name not in self.per_batch}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        output = network(observations=batch["observations"])
        value = output.value.double() if output.value.dtype == torch.float64 else output.value.float()
        log_policy = F.log_softmax(output.logits.to(value.dtype), dim=1)
        error = batch["returns"].to(value.dtype) - value
        advantage = error.detach()
        if self.config.normalise_advantages and len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        log_taken = log_policy.gather(1, batch["actions"][:, None]).squeeze(1)
        entropy = -(log_policy.exp() * log_policy).sum(1)
        steps = float(len(advantage))
        return {
            "policy": Term(-(log_taken * advantage).sum(), steps),
            "value": Term(error.square().sum(), steps, self.config.value_weight),
            "entropy": Term(-entropy.sum(), steps, self.config.entropy_weight),
        }


OBJECTIVES = {"policy_gradient": PolicyGradientConfig()}
