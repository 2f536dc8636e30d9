"""Exponential moving average of a network's weights.

Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; in this form Tarvainen, Valpola,
"Mean teachers are better role models", 2017, https://arxiv.org/abs/1703.01780.
"""

# torch's operators on lists of tensors are public by use and private by name.
# pyright: reportPrivateImportUsage=false

from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from layerwise.core.errors import CheckpointError, ConfigError
from layerwise.core.suggest import did_you_mean
from layerwise.train.recipe import EMA

Tree = dict[str, Any]


class EMAWeights:
    """`average = decay average + (1 - decay) weights` after each step, starting from the weights.

    With warm-up the decay at step t is `min(decay, (1 + t) / (10 + t))`. Buffers are not averaged: a network with
    averaged weights has its buffers as they are. Averages of weights below float32 are kept in float32.

    Args:
        network: whose weights are averaged; the object stays bound to its parameters.
        config: decay, warm-up, patterns of names.

    Raises:
        ConfigError: a pattern matches no parameter.
    """

    def __init__(self, network: nn.Module, config: EMA) -> None:
        self._config = config
        named = [(name, p) for name, p in network.named_parameters() if p.is_floating_point()]
        for pattern in config.parameters:
            if not any(fnmatchcase(name, pattern) for name, _ in named):
                near = did_you_mean(pattern, [name for name, _ in named])
                raise ConfigError(f"ema.parameters={pattern}: the network has no parameter of such a name.{near}")
        chosen = [(name, p) for name, p in named if any(fnmatchcase(name, pattern) for pattern in config.parameters)]
        self._names = [name for name, _ in chosen]
        self._parameters = [p for _, p in chosen]
        self._averages = [_start(p) for p in self._parameters]
        self._same_type = all(a.dtype == p.dtype for a, p in zip(self._averages, self._parameters, strict=True))
        self._swapped = False

    def decay(self, step: int) -> float:
        """Share of the old average kept after step number `step` (the first is 1)."""
        config = self._config
        return min(config.decay, (1 + step) / (10 + step)) if config.warmup else config.decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the weights after step number `step`."""
        weights: list[Tensor] = [p.detach() for p in self._parameters]
        if not self._same_type:
            weights = [w.to(a.dtype) for w, a in zip(weights, self._averages, strict=True)]
        torch._foreach_lerp_(self._averages, weights, 1.0 - self.decay(step))

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within the context the network has the averaged weights; afterwards its own again, also after an error.

        Memory is exchanged and not copied; only weights below float32 are copied.
        """
        if self._swapped:
            raise RuntimeError("averaged weights are swapped in already")
        originals = self._exchange()
        self._swapped = True
        try:
            yield
        finally:
            for p, original in zip(self._parameters, originals, strict=True):
                p.data = original
            self._swapped = False

    def _exchange(self) -> list[Tensor]:
        originals = [p.data for p in self._parameters]
        for p, average in zip(self._parameters, self._averages, strict=True):
            p.data = average if average.dtype == p.dtype else average.to(p.dtype)
        return originals

    def state(self) -> Tree:
        """Averages by parameter name: the live tensors, not copies."""
        return dict(zip(self._names, self._averages, strict=True))

    def load(self, tree: Tree) -> None:
        """Take `state()` back.

        Raises:
            CheckpointError: other parameters or shapes; the message names the first.
        """
        if wrong := sorted(set(tree) ^ set(self._names)):
            where = "this training does not average it" if wrong[0] in tree else "the saved averages lack it"
            raise CheckpointError(f"Averaged weights do not fit: parameter {wrong[0]!r}: {where}.")
        for name, average in zip(self._names, self._averages, strict=True):
            if tree[name].shape != average.shape:
                raise CheckpointError(
                    f"Averaged weights do not fit: {name!r} has shape {tuple(tree[name].shape)}, "
                    f"expected {tuple(average.shape)}."
                )
            average.copy_(tree[name])


def _start(p: Tensor) -> Tensor:
    """A copy in the parameter's memory layout, at least in float32."""
    return torch.empty_like(p, dtype=torch.promote_types(p.dtype, torch.float32), requires_grad=False).copy_(p.detach())
