"""Contrastive divergence: lower the free energy of the data, raise it where a short Gibbs chain from the data ends.

Paper: G. E. Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14(8),
2002, https://www.cs.toronto.edu/~hinton/absps/nccd.pdf

Shapes: B batch, V visible units, N hidden units.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.nn.protocols import EnergyModel, require
from layerwise.objectives.base import Batch, Context, Objective, Term


@dataclass(frozen=True, kw_only=True)
class ContrastiveDivergenceConfig:
    """Options of contrastive divergence.

    Args:
        layer: which machine of a stack is trained, from the bottom; the recipe freezes the others.
        steps: Gibbs steps from the data, the k of CD-k.
        visible: whether the chain's visible units are sampled, or set to their probabilities, which has less noise.
    """

    layer: NonNegativeInt = 0
    steps: PositiveInt = 1
    visible: Literal["sample", "mean"] = "sample"


class BinaryMachine(EnergyModel, Protocol):
    """One energy model of binary units, which has a bias for each."""

    visible_bias: Tensor
    hidden_bias: Tensor


@runtime_checkable
class EnergyStack(Protocol):
    """Energy models on top of one another, or a single one."""

    def energy_layer(self, index: int, /) -> BinaryMachine:
        """The machine `index`, counted from the bottom."""
        ...

    def visible_units(self, images: Tensor, index: int, /) -> Tensor:
        """What machine `index` sees of the pictures [B, V]."""
        ...


class ContrastiveDivergence(Objective):
    """`F(v_0) - F(v_k)` with v_0 the data and v_k, taken as constant, the end of k Gibbs steps from it.

    Its gradient in the weights is `-(p(h|v_0) v_0' - p(h|v_k) v_k')`, the update of equation 12 of the paper with
    hidden probabilities in place of samples in the statistics. Chains are hashed from the sample id. The value itself
    is not a likelihood: watch `reconstruction`, the mean squared error of p(v|h_0), which is shown and not trained on.

    Shape:
        images: float [B, C, H, W] in [0, 1]; the network is an `EnergyStack`.
    """

    def __init__(self, config: ContrastiveDivergenceConfig) -> None:
        super().__init__()
        self.config = config

    def setup(self, network: nn.Module) -> None:
        require(network, EnergyStack, "objective=contrastive_divergence").energy_layer(self.config.layer)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return dict.fromkeys(("divergence", "reconstruction"), float(len(batch["sample_ids"])))

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        stack = cast(EnergyStack, network)
        machine = stack.energy_layer(self.config.layer)
        with torch.no_grad():
            data = stack.visible_units(batch["images"], self.config.layer)
            model, reconstruction = self._chain(machine, data, batch["sample_ids"], context)
        count = float(len(data))
        gap = machine.free_energy(data) - machine.free_energy(model)
        error = (data - reconstruction).square().mean(1)
        return {"divergence": Term(gap.sum(), count), "reconstruction": Term(error.sum(), count, minimised=False)}

    def _chain(
        self, machine: BinaryMachine, data: Tensor, sample_ids: Tensor, context: Context
    ) -> tuple[Tensor, Tensor]:
        """The visible units after k Gibbs steps, and their probabilities after the first one."""
        visible, first = data, data
        for step in range(self.config.steps):
            uniform = context.draws.uniform(sample_ids, machine.hidden_bias.shape, f"hidden-{step}", data.dtype)
            _, hidden = machine.sample_hidden(visible, uniform)
            uniform = context.draws.uniform(sample_ids, machine.visible_bias.shape, f"visible-{step}", data.dtype)
            probabilities, drawn = machine.sample_visible(hidden, uniform)
            visible = (drawn if self.config.visible == "sample" else probabilities).to(data.dtype)
            first = probabilities if step == 0 else first
        return visible, first


OBJECTIVES = {"contrastive_divergence": ContrastiveDivergenceConfig()}
