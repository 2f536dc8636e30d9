"""Lion: the sign of an interpolated momentum.

Chen, Liang, Huang, Real, Wang, Pham, Dong, Luong, Hsieh, Lu, Le, "Symbolic Discovery of Optimization Algorithms", 2023,
https://arxiv.org/abs/2302.06675, Program 1; reference code https://github.com/google/automl/tree/master/lion.
"""

# torch's operators on lists of tensors are public by use and private by name.
# pyright: reportPrivateImportUsage=false

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from layerwise.core.config import NonNegativeFloat, PositiveFloat, Probability
from layerwise.optim.groups import Group, merge_matrix_groups


@dataclass(frozen=True, kw_only=True)
class LionConfig:
    """Lion. Its learning rate is 3-10 times smaller than AdamW's and its decay larger by that factor (Chen et al.,
    section 5).

    Args:
        lr: learning rate; every weight moves by it each step.
        beta1: share of the running mean in the direction.
        beta2: share of the running mean kept a step.
        weight_decay: decoupled decay, a unit of learning rate.
    """

    lr: PositiveFloat = 1e-4
    beta1: Probability = 0.9
    beta2: Probability = 0.99
    weight_decay: NonNegativeFloat = 0.1


class Lion(torch.optim.Optimizer):
    """`w -= lr weight_decay w; w -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g`."""

    implementation = "foreach"

    def __init__(self, config: LionConfig, groups: Sequence[Group]) -> None:
        self.config = config
        super().__init__(merge_matrix_groups(groups, config.lr), {"lr": config.lr})

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Names of a parameter's state entries once it was updated."""
        return ("exp_avg",)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
            means = [self.state[p]["exp_avg"] for p in parameters]
            directions = torch._foreach_lerp(means, gradients, 1 - self.config.beta1)
            torch._foreach_sign_(directions)
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, directions, alpha=-group["lr"])
            torch._foreach_lerp_(means, gradients, 1 - self.config.beta2)
        return loss


OPTIMIZERS = {"Lion": LionConfig()}
