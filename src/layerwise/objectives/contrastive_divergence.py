"""Contrastive divergence: lower the free energy of the data, raise it where a short Gibbs chain ends.

Papers: G. E. Hinton, "Training products of experts by minimizing contrastive divergence", Neural Computation 14(8),
2002, https://www.cs.toronto.edu/~hinton/absps/nccd.pdf: chains start from the data. T. Tieleman, "Training restricted
Boltzmann machines using approximations to the likelihood gradient", ICML 2008,
https://www.cs.toronto.edu/~tijmen/pcd/pcd.pdf: chains go on through training.

Shapes: B batch, V visible units, N hidden units, M persistent chains.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from layerwise.core.config import NonNegativeInt, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import EnergyModel, require
from layerwise.objectives.base import Batch, Context, Objective, Term


@dataclass(frozen=True, kw_only=True)
class ContrastiveDivergenceConfig:
    """Options of contrastive divergence.

    Args:
        layer: which machine of a stack is trained, from the bottom; the recipe freezes the others.
        steps: Gibbs steps, the k of CD-k.
        visible: whether the chain's visible units are sampled, or set to their probabilities, which has less noise.
        persistent: chains that go on from step to step (PCD), about as many as a batch has samples; None starts one
            from every sample, each time.
    """

    layer: NonNegativeInt = 0
    steps: PositiveInt = 1
    visible: Literal["sample", "mean"] = "sample"
    persistent: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.persistent is not None and self.visible == "mean":
            raise ConfigError("visible=mean: persistent chains are samples. Set visible=sample, or persistent=null.")


class BinaryMachine(EnergyModel, Protocol):
    """One energy model of binary units, which has a bias for each."""

    @property
    def visible_bias(self) -> Tensor:
        """[V]."""
        ...

    @property
    def hidden_bias(self) -> Tensor:
        """[N]."""
        ...


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
    """`F(v_0) - F(v_k)` with v_0 the data and v_k, taken as constant, the end of k Gibbs steps.

    Its gradient in the weights is `-(p(h|v_0) v_0' - p(h|v_k) v_k')`, the update of equation 12 of the paper with
    hidden probabilities in place of samples in the statistics. Chains are hashed from the sample id, or from the
    chain's number. The value itself is not a likelihood: watch `reconstruction`, the mean squared error of p(v|h_0),
    which is shown and not trained on.

    Persistent chains start as coin flips and take their k steps after every update of the weights. The mean free
    energies of data and chains are terms of their own, since their counts differ: when the chains are like the data,
    they add up to about zero.

    Shape:
        images: float [B, C, H, W] in [0, 1]; the network is an `EnergyStack`.
    """

    chains: Tensor | None  # [M, V], the visible units of persistent chains

    def __init__(self, config: ContrastiveDivergenceConfig) -> None:
        super().__init__()
        self.config = config
        self.per_batch = () if config.persistent is None else ("chains",)
        self.register_buffer("chains", None)

    def setup(self, network: nn.Module) -> None:
        stack = require(network, EnergyStack, "objective=contrastive_divergence")
        bias = stack.energy_layer(self.config.layer).visible_bias
        if self.config.persistent is not None:
            coins = torch.rand(self.config.persistent, len(bias)) < 0.5
            self.chains = coins.to(bias.device, bias.dtype)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        names = ("divergence", "reconstruction") if self.config.persistent is None else ("data",)
        return dict.fromkeys(names, float(len(batch["sample_ids"])))

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        stack = cast(EnergyStack, network)
        machine = stack.energy_layer(self.config.layer)
        with torch.no_grad():
            data = stack.visible_units(batch["images"], self.config.layer)
        count = float(len(data))
        if self.chains is not None:
            seen, drawn = _energies(machine, data, self.chains)
            return {"data": Term(seen, count), "chains": Term(-drawn, float(len(self.chains)))}
        with torch.no_grad():
            model, reconstruction = self._chain(machine, data, batch["sample_ids"], context)
            error = (data - reconstruction).square().mean(1).sum()
        seen, drawn = _energies(machine, data, model)
        return {"divergence": Term(seen - drawn, count), "reconstruction": Term(error, count, minimised=False)}

    @torch.no_grad()
    def after_step(self, network: nn.Module, context: Context) -> None:
        """Persistent chains take their steps; every process has the same ones."""
        if self.chains is not None:
            machine = cast(EnergyStack, network).energy_layer(self.config.layer)
            numbers = torch.arange(len(self.chains), device=self.chains.device)
            self.chains.copy_(self._chain(machine, self.chains, numbers, context)[0])

    def _chain(
        self, machine: BinaryMachine, start: Tensor, sample_ids: Tensor, context: Context
    ) -> tuple[Tensor, Tensor]:
        """The visible units after k Gibbs steps, and their probabilities after the first one."""
        visible, first = start, start
        for step in range(self.config.steps):
            uniform = context.draws.uniform_pairs(sample_ids, machine.hidden_bias.shape, f"hidden-{step}", start.dtype)
            _, hidden = machine.sample_hidden(visible, uniform)
            uniform = context.draws.uniform_pairs(
                sample_ids, machine.visible_bias.shape, f"visible-{step}", start.dtype
            )
            probabilities, drawn = machine.sample_visible(hidden, uniform)
            visible = (drawn if self.config.visible == "sample" else probabilities).to(start.dtype)
            first = probabilities if step == 0 else first
        return visible, first


def _energies(machine: BinaryMachine, data: Tensor, model: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the free energies of both, from one product of matrices."""
    seen, drawn = machine.free_energy(torch.cat([data, model])).split([len(data), len(model)])
    return seen.sum(), drawn.sum()


OBJECTIVES = {"contrastive_divergence": ContrastiveDivergenceConfig()}
