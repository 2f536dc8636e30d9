"""Rosenblatt's error-correction rule: a sample on the wrong side is added to the weights, with its sign.

Papers: F. Rosenblatt, "Principles of Neurodynamics", 1962. A. Novikoff, "On convergence proofs on perceptrons",
Symposium on the Mathematical Theory of Automata, 1962.

Shapes: B batch, K response units, P trained parameters, S kept states, N samples, D inputs of a response unit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from layerwise.objectives.base import Batch, Context, Objective, Term

_NOT_INPUTS = ("labels", "sample_ids")
_KEPT = 40  # states after updates 1, 2, 4, 8 ...: enough for 2^39 updates
_MOST_KEPT_PARAMETERS = 64  # lines and planes that can be drawn; larger networks keep no states


@dataclass(frozen=True, kw_only=True)
class PerceptronRuleConfig:
    """The rule has no options: its step is the optimiser's (SGD, lr=1, momentum=0, one sample a step)."""


class PerceptronRule(Objective):
    """`sum_k max(0, -y_k s_k)` with y = 1 or -1, mean over samples; a score of zero counts as an error.

    Its gradient in the weights is `-y x` for an error and 0 else. With SGD at lr=1, no momentum and one sample a step
    that is the rule, `w <- w + y x` after an error.

    `updates` counts errors made while learning, of all units. `course` [S, P] holds the parameters, flat and in the
    network's order, at the start and after updates 1, 2, 4, 8 ... (`course_updates` [S] says which; -1: not yet).

    Shape:
        labels float [B, K] of zeros and ones; the network's output has the same shape.
    """

    updates: Tensor
    seen: Tensor
    largest_batch: Tensor
    course: Tensor
    course_updates: Tensor
    _fresh: Tensor

    def __init__(self, config: PerceptronRuleConfig) -> None:
        super().__init__()
        self.config = config
        for name in ("updates", "seen", "largest_batch"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_buffer("_fresh", torch.zeros(2, dtype=torch.int64))  # errors and samples of the running step

    def setup(self, network: nn.Module) -> None:
        start = _flat(network)
        kept = len(start) if len(start) <= _MOST_KEPT_PARAMETERS else 0
        self.register_buffer("course", torch.zeros(_KEPT, kept))
        self.register_buffer("course_updates", torch.full((_KEPT,), -1, dtype=torch.int64))
        self._keep(network, 0, 0)

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {"perceptron": float(len(batch["labels"]))}

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        labels = batch["labels"]
        scores = network(**{name: value for name, value in batch.items() if name not in _NOT_INPUTS})
        if scores.shape != labels.shape:
            raise ValueError(f"the network gives {list(scores.shape)}, labels are {list(labels.shape)}")
        agreement = (2 * labels.to(scores.dtype) - 1) * scores
        wrong = agreement <= 0
        errors = wrong.sum()
        if context.training:
            self._fresh += torch.stack([errors, errors.new_tensor(len(labels))])
        return {
            "perceptron": Term(torch.where(wrong, -agreement, 0.0).sum(), float(len(labels))),
            "mistakes": Term(errors.float(), float(len(labels)), minimised=False),
        }

    def after_step(self, network: nn.Module, context: Context) -> None:
        made, seen = context.gather(self._fresh[None]).sum(0).tolist()
        self._fresh.zero_()
        self.seen += seen
        self.largest_batch.clamp_(min=seen)
        if not made:
            return
        before = int(self.updates)
        self.updates += made
        slot = int(self.updates).bit_length()
        if slot > before.bit_length():
            self._keep(network, slot, int(self.updates))

    def _keep(self, network: nn.Module, slot: int, updates: int) -> None:
        if self.course.shape[1]:
            self.course[slot] = _flat(network)
        self.course_updates[slot] = updates

    def states(self) -> list[tuple[int, Tensor]]:
        """(updates made by then, parameters [P]) of the kept states, from the start on; empty for large networks."""
        if not self.course.shape[1]:
            return []
        kept = zip(self.course_updates.tolist(), self.course, strict=True)
        return [(updates, parameters) for updates, parameters in kept if updates >= 0]

    def is_rule_as_proved(self) -> bool:
        """Whether the start was zero and samples came one at a time, as the theorem wants (SGD is not seen from here).

        Large networks keep no start; theirs is taken to be the perceptron's own, zero.
        """
        return int(self.largest_batch) <= 1 and not bool(self.course[0].any())


def _flat(network: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def mistake_bound(features: Tensor, agreement: Tensor, length: float) -> float:
    """Novikoff's bound `(R / margin)^2` on the updates of the rule from zero weights, from any separating weights.

    R is the largest length of an input with its constant 1 for the bias, and the margin is the smallest of
    `y_k s_k / |w|`, the separating weights taken at length one. With several units w is all of theirs together: their
    updates are those of one perceptron on N K samples, each in the block of its unit.

    Args:
        features: inputs of the response units [N, D].
        agreement: `y s` of the separating weights [N, K].
        length: of the separating weights, biases included.

    Returns:
        The bound; infinity where the weights do not separate the samples.
    """
    smallest = float(agreement.double().min())
    if smallest <= 0:
        return float("inf")
    radius_2 = float(features.double().square().sum(1).max()) + 1
    return radius_2 * (length / smallest) ** 2


OBJECTIVES = {"perceptron_rule": PerceptronRuleConfig()}
