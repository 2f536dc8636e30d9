"""torch's optimisers under their usual names, fused where that exists.

SGD with momentum (Polyak, 1964; Nesterov, 1983), Adagrad (Duchi, Hazan, Singer, 2011,
https://jmlr.org/papers/v12/duchi11a.html), Adadelta (Zeiler, 2012, https://arxiv.org/abs/1212.5701), RMSprop
(Tieleman, Hinton, 2012, lecture 6e), Adam (Kingma, Ba, 2015,
https://arxiv.org/abs/1412.6980) and AdamW (Loshchilov, Hutter, 2019, https://arxiv.org/abs/1711.05101). Each is built
as `X(config, groups)` from the groups of `optim.groups.parameter_groups`; its attribute `implementation` says which
form of the step runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from layerwise.core.config import NonNegativeFloat, PositiveFloat, Probability
from layerwise.core.errors import ConfigError
from layerwise.optim.groups import Group, merge_matrix_groups
from layerwise.optim.machine import resolve_implementation
from layerwise.optim.state import as_stored, keep_layouts_equal


@dataclass(frozen=True, kw_only=True)
class SGDConfig:
    """Stochastic gradient descent.

    Args:
        lr: learning rate.
        momentum: share of the last update kept; 0 keeps none.
        nesterov: look ahead by the momentum.
        weight_decay: L2 penalty added to the gradient (w: + weight_decay * w).
        implementation: form of the step; "auto" is fused where that exists.
    """

    lr: PositiveFloat = 0.1
    momentum: Probability = 0.9
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0
    implementation: Literal["auto", "fused", "foreach", "loop"] = "auto"

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ConfigError("nesterov=true: needs momentum above 0.")


@dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Adam: the gradient's running mean over the root of its running square, both corrected for their start at zero.

    Args:
        lr: learning rate.
        beta1, beta2: shares of the running mean and square kept a step.
        eps: added to the root.
        weight_decay: L2 penalty added to the gradient; see AdamW for the decoupled form.
        amsgrad: divide by the largest running square so far (Reddi, Kale, Kumar, 2018).
        implementation: form of the step; "auto" is fused where that exists.
    """

    lr: PositiveFloat = 1e-3
    beta1: Probability = 0.9
    beta2: Probability = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    amsgrad: bool = False
    implementation: Literal["auto", "fused", "foreach", "loop"] = "auto"


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """Adam with decoupled weight decay: each step also shrinks weights by `lr * weight_decay`.

    Args:
        lr: learning rate.
        beta1, beta2: shares of the running mean and square kept a step.
        eps: added to the root.
        weight_decay: decay a unit of learning rate.
        amsgrad: divide by the largest running square so far.
        implementation: form of the step; "auto" is fused where that exists.
    """

    lr: PositiveFloat = 1e-3
    beta1: Probability = 0.9
    beta2: Probability = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.01
    amsgrad: bool = False
    implementation: Literal["auto", "fused", "foreach", "loop"] = "auto"


@dataclass(frozen=True, kw_only=True)
class RMSpropConfig:
    """RMSprop: the gradient over the root of its running square.

    Args:
        lr: learning rate.
        alpha: share of the running square kept a step.
        eps: added to the root.
        momentum: share of the last update kept.
        centered: divide by the running standard deviation (Graves, 2013).
        weight_decay: L2 penalty added to the gradient.
        implementation: form of the step; there is no fused one.
    """

    lr: PositiveFloat = 1e-3
    alpha: Probability = 0.99
    eps: PositiveFloat = 1e-8
    momentum: Probability = 0.0
    centered: bool = False
    weight_decay: NonNegativeFloat = 0.0
    implementation: Literal["auto", "foreach", "loop"] = "auto"


@dataclass(frozen=True, kw_only=True)
class AdagradConfig:
    """Adagrad: the gradient over the root of the sum of its squares so far.

    Args:
        lr: learning rate.
        lr_decay: the rate is divided by `1 + step * lr_decay`.
        initial_accumulator: what the sum of squares starts from.
        eps: added to the root.
        weight_decay: L2 penalty added to the gradient.
        implementation: form of the step; "auto" is fused where that exists.
    """

    lr: PositiveFloat = 1e-2
    lr_decay: NonNegativeFloat = 0.0
    initial_accumulator: NonNegativeFloat = 0.0
    eps: PositiveFloat = 1e-10
    weight_decay: NonNegativeFloat = 0.0
    implementation: Literal["auto", "fused", "foreach", "loop"] = "auto"


@dataclass(frozen=True, kw_only=True)
class AdadeltaConfig:
    """Adadelta: the gradient times the root of the running square of past updates, over that of gradients.

    Args:
        lr: factor of the update, 1 in the paper.
        rho: share of both running squares kept a step.
        eps: added under both roots.
        weight_decay: L2 penalty added to the gradient.
        implementation: form of the step; there is no fused one.
    """

    lr: PositiveFloat = 1.0
    rho: Probability = 0.9
    eps: PositiveFloat = 1e-6
    weight_decay: NonNegativeFloat = 0.0
    implementation: Literal["auto", "foreach", "loop"] = "auto"


def _prepared(
    config: Any, groups: Sequence[Group], fused_devices: tuple[str, ...]
) -> tuple[list[Group], str, dict[str, bool]]:
    """Groups as torch takes them, the resolved implementation, and torch's two flags for it."""
    merged = merge_matrix_groups(groups, config.lr)
    chosen = resolve_implementation(config.implementation, (p for g in merged for p in g["params"]), fused_devices)
    return merged, chosen, {"fused": chosen == "fused", "foreach": chosen == "foreach"}


class SGD(torch.optim.SGD):
    """`m = momentum m + g; w -= lr m`; with Nesterov, `w -= lr (g + momentum m)`."""

    def __init__(self, config: SGDConfig, groups: Sequence[Group]) -> None:
        merged, self.implementation, flags = _prepared(config, groups, ("cpu", "cuda"))
        super().__init__(merged, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, **flags)
        keep_layouts_equal(self)

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Names of a parameter's state entries once it was updated."""
        return ("momentum_buffer",) if group["momentum"] else ()


class _Moments(torch.optim.Adam):
    """What `Adam` and `AdamW` add to torch's, which is a kind of Adam either way."""

    def __init__(self, config: "AdamConfig | AdamWConfig", groups: Sequence[Group]) -> None:
        merged, self.implementation, flags = _prepared(config, groups, ("cpu", "cuda"))
        betas = (config.beta1, config.beta2)
        super().__init__(merged, lr=config.lr, betas=betas, eps=config.eps, amsgrad=config.amsgrad, **flags)
        keep_layouts_equal(self)

    def _init_group(  # pyright: ignore[reportIncompatibleMethodOverride] - torch calls it so
        self, group: Group, *tensors: list[Tensor]
    ) -> bool:
        return as_stored(super()._init_group(group, *tensors), tensors)

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Names of a parameter's state entries once it was updated."""
        return ("step", "exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))


class Adam(_Moments):
    """`m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr m' / (sqrt(v') + eps)`.

    Here `m' = m / (1 - b1^t)` and `v' = v / (1 - b2^t)` at step t = 1, 2, ...
    """


class AdamW(_Moments, torch.optim.AdamW):  # pyright: ignore[reportIncompatibleMethodOverride] - as in `_Moments`
    """`w -= lr weight_decay w`, then Adam's step."""


class RMSprop(torch.optim.RMSprop):
    """`v = alpha v + (1 - alpha) g^2; w -= lr g / (sqrt(v) + eps)`."""

    def __init__(self, config: RMSpropConfig, groups: Sequence[Group]) -> None:
        merged, self.implementation, flags = _prepared(config, groups, ())
        super().__init__(
            merged, lr=config.lr, alpha=config.alpha, eps=config.eps, momentum=config.momentum,
            centered=config.centered, foreach=flags["foreach"],
        )  # fmt: skip

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Names of a parameter's state entries once it was updated."""
        momentum, centered = (
            ("momentum_buffer",) if group["momentum"] else (),
            ("grad_avg",) if group["centered"] else (),
        )
        return ("step", "square_avg", *momentum, *centered)


class Adagrad(torch.optim.Adagrad):
    """`v += g^2; w -= lr / (1 + t lr_decay) g / (sqrt(v) + eps)`."""

    def __init__(self, config: AdagradConfig, groups: Sequence[Group]) -> None:
        merged, self.implementation, flags = _prepared(config, groups, ("cpu",))
        super().__init__(
            merged,
            lr=config.lr,
            lr_decay=config.lr_decay,
            initial_accumulator_value=config.initial_accumulator,
            eps=config.eps,
            **flags,
        )
        keep_layouts_equal(self)

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Names of a parameter's state entries, there from the start."""
        return ("step", "sum")


class Adadelta(torch.optim.Adadelta):
    """`v = rho v + (1 - rho) g^2; u = g sqrt(d + eps) / sqrt(v + eps); d = rho d + (1 - rho) u^2; w -= lr u`."""

    def __init__(self, config: AdadeltaConfig, groups: Sequence[Group]) -> None:
        merged, self.implementation, flags = _prepared(config, groups, ())
        super().__init__(merged, lr=config.lr, rho=config.rho, eps=config.eps, foreach=flags["foreach"])

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Names of a parameter's state entries once it was updated."""
        return ("step", "square_avg", "acc_delta")


OPTIMIZERS = {
    "SGD": SGDConfig(),
    "Adam": AdamConfig(),
    "AdamW": AdamWConfig(),
    "RMSprop": RMSpropConfig(),
    "Adagrad": AdagradConfig(),
    "Adadelta": AdadeltaConfig(),
}
