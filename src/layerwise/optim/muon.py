"""Muon: momentum, orthogonalised by Newton-Schulz iterations, for the matrices of repeated blocks; AdamW for
everything else.

Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein, "Muon: An optimizer for hidden layers in neural networks", 2024,
https://kellerjordan.github.io/posts/muon; reference code https://github.com/KellerJordan/Muon. Scale "match_rms": Liu
et al., "Muon is Scalable for LLM Training", 2025, https://arxiv.org/abs/2502.16982.

Differs from the reference code: matrices of one shape (or its transpose) are stacked and orthogonalised by batched
products, with the same result up to rounding; convolution weights are flattened over input channels and window.
"""

# torch's operators on lists of tensors are public by use and private by name.
# pyright: reportPrivateImportUsage=false

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from layerwise.core.config import NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.optim.groups import Group, with_rate
from layerwise.optim.machine import has_bf16, resolve_implementation
from layerwise.optim.state import keep_layouts_equal

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic; steepest at zero (Jordan et al.)
_NORM_FLOOR = 1e-7
_CHUNK_ELEMENTS = 2**24  # a stack of matrices is orthogonalised in parts of at most this size, which bounds memory


@dataclass(frozen=True, kw_only=True)
class MuonConfig:
    """Muon for matrices inside the network's blocks, AdamW for the rest.

    Args:
        lr: learning rate of the matrices.
        momentum: share of the running mean of gradients kept a step.
        nesterov: orthogonalise the mean one step ahead.
        iterations: Newton-Schulz iterations.
        scale: factor of a matrix's update: "original" is sqrt(max(1, rows / columns)); "match_rms" is 0.2
            sqrt(max(rows, columns)), which gives updates the size of AdamW's, so that its learning rate and decay fit.
        weight_decay: decoupled decay, a unit of learning rate.
        adamw_lr: learning rate of the rest; None takes `lr`.
        adamw_beta1, adamw_beta2, adamw_eps: of the rest.
        precision: of the iterations: "bf16", "fp32" (float64 weights keep theirs), or "auto": bf16 where the machine
            has it, for weights below float64.
        implementation: form of AdamW's step; "auto" is fused where that exists.
    """

    lr: PositiveFloat = 0.02
    momentum: Probability = 0.95
    nesterov: bool = True
    iterations: PositiveInt = 5
    scale: Literal["original", "match_rms"] = "original"
    weight_decay: NonNegativeFloat = 0.0
    adamw_lr: PositiveFloat | None = 3e-4
    adamw_beta1: Probability = 0.9
    adamw_beta2: Probability = 0.95
    adamw_eps: PositiveFloat = 1e-10
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    implementation: Literal["auto", "fused", "foreach", "loop"] = "auto"


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Nearly the orthogonal factor of each matrix: `U S' V^T` with singular values S' around 1 for `U S V^T`.

    Each iteration is `X <- a X + (b A + c A A) X` with `A = X X^T`, in the precision of the input.

    Args:
        matrices: (N, rows, columns) with rows <= columns.

    Returns:
        (N, rows, columns).
    """
    a, b, c = COEFFICIENTS
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=_NORM_FLOOR)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """`m = momentum m + (1 - momentum) g; w -= lr weight_decay w; w -= lr scale orthogonalise(m)`; with Nesterov, of
    `(1 - momentum) g + momentum m`.

    Raises:
        ConfigError: no group is of matrices: the network names no repeated blocks.
        UnsupportedError: bf16 was asked for on a machine without it.
    """

    def __init__(self, config: MuonConfig, groups: Sequence[Group]) -> None:
        matrices = [p for group in groups if group["matrix"] for p in group["params"]]
        if not matrices:
            raise ConfigError("optimizer=Muon: the network has no matrices inside repeated blocks to train. Use AdamW.")
        native = all(has_bf16(p.device.type) for p in matrices)
        if config.precision == "bf16" and not native:
            raise UnsupportedError("optimizer.precision=bf16: this machine has no bf16 products. Use fp32.")
        low = config.precision == "bf16" or (config.precision == "auto" and native)
        self._low = low
        rest = [p for group in groups if not group["matrix"] for p in group["params"]]
        self._adamw = resolve_implementation(config.implementation, rest, ("cpu", "cuda"))
        self.implementation = f"{'bf16' if low else 'fp32'}+{self._adamw}"
        self.config = config
        other = config.lr if config.adamw_lr is None else config.adamw_lr
        rated = [with_rate(group, config.lr if group["matrix"] else other) for group in groups]
        super().__init__(rated, {"lr": config.lr})
        keep_layouts_equal(self)

    def state_keys(self, group: Group) -> tuple[str, ...]:
        """Names of a parameter's state entries once it was updated."""
        return ("momentum_buffer",) if group["matrix"] else ("step", "exp_avg", "exp_avg_sq")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updates: dict[tuple[int, int, torch.dtype, torch.device], list[tuple[Tensor, Tensor, Group]]] = {}
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            if not group["matrix"]:
                self._step_adamw(parameters, group)
                continue
            for parameter, update in zip(parameters, self._momentum(parameters), strict=True):
                flat = update.flatten(1)
                key = (min(flat.shape), max(flat.shape), flat.dtype, flat.device)
                updates.setdefault(key, []).append((parameter, flat, group))
        for (rows, columns, _, _), entries in updates.items():
            size = max(1, _CHUNK_ELEMENTS // (rows * columns))
            for start in range(0, len(entries), size):
                self._step_matrices(entries[start : start + size])
        return loss

    def _momentum(self, parameters: list[Tensor]) -> Sequence[Tensor]:
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        means = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(means, gradients, 1 - self.config.momentum)
        return torch._foreach_lerp(gradients, means, self.config.momentum) if self.config.nesterov else means

    def _step_matrices(self, entries: list[tuple[Tensor, Tensor, Group]]) -> None:
        """Update parameters whose flattened updates have one shape, up to transposition."""
        own = entries[0][1].dtype
        low = self._low and (own != torch.float64 or self.config.precision == "bf16")
        dtype = torch.bfloat16 if low else torch.promote_types(own, torch.float32)
        tall = [flat.shape[0] > flat.shape[1] for _, flat, _ in entries]
        stack = torch.stack([(flat.mT if t else flat).to(dtype) for (_, flat, _), t in zip(entries, tall, strict=True)])
        stack = orthogonalise(stack, self.config.iterations)
        for (parameter, flat, group), update, turned in zip(entries, stack.unbind(), tall, strict=True):
            update = (update.mT if turned else update).reshape(parameter.shape)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-group["lr"] * self._scale(*flat.shape))

    def _scale(self, rows: int, columns: int) -> float:
        if self.config.scale == "original":
            return math.sqrt(max(1.0, rows / columns))
        return 0.2 * math.sqrt(max(rows, columns))

    def _step_adamw(self, parameters: list[Tensor], group: Group) -> None:
        for p in parameters:
            if not self.state[p]:
                device = p.device if self._adamw == "fused" else torch.device("cpu")
                step = torch.zeros((), dtype=torch.float32, device=device)
                self.state[p].update(step=step, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        columns = [[self.state[p][key] for p in parameters] for key in ("exp_avg", "exp_avg_sq", "step")]
        adamw(
            parameters, [p.grad for p in parameters if p.grad is not None], columns[0], columns[1], [], columns[2],
            foreach=self._adamw == "foreach", fused=self._adamw == "fused", amsgrad=False,
            beta1=self.config.adamw_beta1, beta2=self.config.adamw_beta2, lr=group["lr"],
            weight_decay=group["weight_decay"], eps=self.config.adamw_eps, maximize=False,
        )  # fmt: skip


OPTIMIZERS = {"Muon": MuonConfig()}
