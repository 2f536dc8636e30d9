"""LoRA: train a low-rank change of weight matrices and leave the matrices alone.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen, "LoRA: Low-Rank Adaptation of Large Language Models", 2021,
https://arxiv.org/abs/2106.09685; reference code https://github.com/microsoft/LoRA.

Differs from the paper: convolutions have adapters as well, over the weight flattened to (out, in * window).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerwise.core.config import PositiveFloat, PositiveInt, Probability
from layerwise.core.errors import ConfigError, NumericsError, UnsupportedError


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adapters.

    Args:
        rank: of the change of each matrix.
        alpha: the change is scaled by `alpha / rank`.
        dropout: rate on the input of the adapters while training.
        targets: patterns of names of linear and convolution layers that get an adapter, shell style (`*.attention.*`).
        train: patterns of names of parameters that are trained in full beside them (`head.*`); layers among them get
            no adapter.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Probability = 0.0
    targets: tuple[str, ...] = ("*",)
    train: tuple[str, ...] = ()


class _Adapted(nn.Module):
    """A layer with an adapter: `weight + scale b a`. Its own parameters keep their names; `lora_a` and `lora_b` are
    added.

    Shape:
        lora_a (rank, in), lora_b (out, rank), where `in` is the product of all sizes of `weight` but the first.
    """

    weight: Tensor
    lora_a: nn.Parameter
    lora_b: nn.Parameter
    lora_scale: float
    lora_dropout: float

    def lora_change(self) -> Tensor:
        """The change of `weight`, in its shape."""
        return (self.lora_scale * (self.lora_b @ self.lora_a)).view(self.weight.shape)


class LoRALinear(_Adapted, nn.Linear):
    """`y = W x + c + scale B A dropout(x)`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        inner = F.linear(F.dropout(input, self.lora_dropout, self.training), self.lora_a)
        return F.linear(input, self.weight, self.bias) + self.lora_scale * F.linear(inner, self.lora_b)


class _LoRAConv(_Adapted, nn.modules.conv._ConvNd):
    """One convolution with the changed weight, cheaper than a second one over the input; two for dropout."""

    def forward(self, input: Tensor) -> Tensor:
        """As the convolution's."""
        convolve = cast(Any, self)._conv_forward
        if not (self.training and self.lora_dropout):
            return convolve(input, self.weight + self.lora_change(), self.bias)
        dropped = F.dropout(input, self.lora_dropout, True)
        return convolve(input, self.weight, self.bias) + convolve(dropped, self.lora_change(), None)


class LoRAConv1d(_LoRAConv, nn.Conv1d):
    """`nn.Conv1d` with an adapter."""


class LoRAConv2d(_LoRAConv, nn.Conv2d):
    """`nn.Conv2d` with an adapter."""


class LoRAConv3d(_LoRAConv, nn.Conv3d):
    """`nn.Conv3d` with an adapter."""


_ADAPTED: dict[type[nn.Module], type[_Adapted]] = {
    nn.Linear: LoRALinear,
    nn.Conv1d: LoRAConv1d,
    nn.Conv2d: LoRAConv2d,
    nn.Conv3d: LoRAConv3d,
}
_PLAIN = {adapted: plain for plain, adapted in _ADAPTED.items()}


class LoRA:
    """Adds adapters to a built network and takes them off again.

    A layer stays the same object with the same parameter names, so that checkpoints, hooks and optimiser groups go on
    to fit; its class and two parameters are what changes.
    """

    def __init__(self, config: LoRAConfig) -> None:
        self.config = config

    def apply(self, network: nn.Module, generator: torch.Generator | None = None) -> list[str]:
        """Add adapters, freeze all else but `train`. The output is unchanged at first: `lora_b` starts at zero.

        Args:
            network: changed in place.
            generator: of `lora_a`'s start; None takes torch's own.

        Returns:
            Names of the parameters that are trained, in the network's order.

        Raises:
            ConfigError: a pattern matches nothing, a layer has an adapter already, or a chosen weight is shared with
                another module.
            UnsupportedError: a chosen layer's weight is read past its forward method by the module around it.
        """
        config = self.config
        names = [name for name, _ in network.named_parameters()]
        for pattern in config.train:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"adapter.train: no parameter is named like {pattern!r}.")
        if any(isinstance(module, _Adapted) for module in network.modules()):
            raise ConfigError("adapter=lora: the network has adapters already. Merge them first.")
        targets = self._targets(network)
        _check_sole_owner(network, targets)
        for p in network.parameters():
            p.requires_grad_(False)
        for module in targets.values():
            self._adapt(module, generator)
        for name, p in network.named_parameters():
            if any(fnmatchcase(name, pattern) for pattern in config.train):
                p.requires_grad_(True)
        return [name for name, p in network.named_parameters() if p.requires_grad]

    def _targets(self, network: nn.Module) -> dict[str, nn.Module]:
        layers = {name: module for name, module in network.named_modules() if type(module) in _ADAPTED}
        found: dict[str, nn.Module] = {}
        for pattern in self.config.targets:
            matched = {name: module for name, module in layers.items() if fnmatchcase(name, pattern)}
            if not matched:
                some = ", ".join(list(layers)[:8])
                raise ConfigError(
                    f"adapter.targets: no linear or convolution layer is named like {pattern!r}. There are {some} ..."
                )
            found |= matched
        in_full = [
            name for name in found if any(fnmatchcase(f"{name}.weight", pattern) for pattern in self.config.train)
        ]
        found = {name: module for name, module in found.items() if name not in in_full}
        if not found:
            raise ConfigError("adapter.train: covers every layer that adapter.targets names; no adapter is left.")
        return {name: module for name, module in layers.items() if name in found}

    def _adapt(self, module: nn.Module, generator: torch.Generator | None) -> None:
        config, weight = self.config, cast(nn.Parameter, module.weight)
        module.__class__ = _ADAPTED[type(module)]
        layer = cast(_Adapted, module)
        inputs = weight[0].numel()
        layer.lora_a = nn.Parameter(weight.new_empty(config.rank, inputs))
        layer.lora_b = nn.Parameter(weight.new_zeros(weight.shape[0], config.rank))
        nn.init.kaiming_uniform_(layer.lora_a, a=math.sqrt(5), generator=generator)
        layer.lora_scale, layer.lora_dropout = config.alpha / config.rank, config.dropout

    @staticmethod
    @torch.no_grad()
    def merge(network: nn.Module, check: Mapping[str, Any] | None = None, tolerance: float = 1e-4) -> float | None:
        """Add every adapter to its weight and take it off; names and classes are the original network's again.

        Args:
            network: changed in place.
            check: forward's arguments; outputs in eval mode before and after are compared.
            tolerance: largest difference allowed, relative to the largest output.

        Returns:
            The difference found; None without a check.

        Raises:
            ConfigError: there is no adapter.
            NumericsError: outputs differ by more than the tolerance; the network is then as it was.
        """
        layers = list(adapted_layers(network))
        if not layers:
            raise ConfigError("There is no adapter to merge.")
        training = network.training
        network.eval()
        before = _tensors(network(**check)) if check is not None else []
        originals = [layer.weight.detach().clone() for _, layer in layers] if check is not None else []
        for _, layer in layers:
            change = layer.lora_scale * (layer.lora_b.double() @ layer.lora_a.double())
            layer.weight.copy_(layer.weight.double() + change.view(layer.weight.shape))
            layer.__class__ = _PLAIN[type(layer)]  # pyright: ignore[reportAttributeAccessIssue]
        difference = _difference(before, _tensors(network(**check))) if check is not None else None
        if difference is not None and not difference <= tolerance:
            for (_, layer), original in zip(layers, originals, strict=True):
                layer.weight.copy_(original)
                layer.__class__ = _ADAPTED[type(layer)]
            network.train(training)
            raise NumericsError(
                f"Merging adapters changes outputs by {difference:.1e} (relative), more than {tolerance:.1e}. "
                "Nothing was merged."
            )
        for _, layer in layers:
            del layer.lora_a, layer.lora_b, layer.lora_scale, layer.lora_dropout
        for p in network.parameters():
            p.requires_grad_(True)
        network.train(training)
        return difference


def _check_sole_owner(network: nn.Module, targets: Mapping[str, nn.Module]) -> None:
    """Refuse layers for which an adapter would change more than the layer, or nothing."""
    owners: dict[int, list[str]] = {}
    for name, p in network.named_parameters(remove_duplicate=False):
        owners.setdefault(id(p), []).append(name)
    for name, module in targets.items():
        shared = owners[id(module.weight)]
        if len(shared) > 1:
            raise ConfigError(
                f"adapter.targets: {name!r} shares its weight ({' = '.join(shared)}); an adapter would part them. "
                "Leave it out of adapter.targets."
            )
        parent = network.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, nn.TransformerEncoderLayer | nn.MultiheadAttention):
            raise UnsupportedError(
                f"adapter.targets: {name!r} is inside torch's {type(parent).__name__}, which reads weights past the "
                "layer. Leave it out."
            )


def adapted_layers(network: nn.Module) -> Iterator[tuple[str, _Adapted]]:
    """(name, layer) of every layer with an adapter."""
    for name, module in network.named_modules():
        if isinstance(module, _Adapted):
            yield name, module


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, list | tuple) else []
    return [tensor for value in values for tensor in _tensors(value)]


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Largest difference relative to the largest value."""
    pairs = [
        (b.double(), a.double()) for b, a in zip(before, after, strict=True) if b.is_floating_point() and b.numel()
    ]
    largest = max((float(b.abs().max()) for b, _ in pairs), default=0.0)
    return max((float((a - b).abs().max()) for b, a in pairs), default=0.0) / max(largest, 1e-12)


ADAPTERS = {"lora": LoRAConfig()}
