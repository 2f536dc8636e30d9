"""Momentum contrast: a query must find the key of its own picture among a queue of other pictures' keys.

Papers: K. He, H. Fan, Y. Wu, S. Xie, R. Girshick, "Momentum contrast for unsupervised visual representation learning",
CVPR 2020, https://arxiv.org/abs/1911.05722; X. Chen, H. Fan, R. Girshick, K. He, "Improved baselines with momentum
contrastive learning" (MoCo v2), 2020, https://arxiv.org/abs/2003.04297 (the two-layer head and temperature 0.2).
Reference code: https://github.com/facebookresearch/moco

Differs from the paper: the teacher is in eval mode, its batch norm (if it has any) uses running statistics copied from
the student, so no shuffling of batches over processes is needed; several micro-batches and processes fill the queue in
the order of sample ids.

Shapes: B batch, D features, P projection, Q queue.
"""

# torch's operators on lists of tensors are public by use and private by name.
# pyright: reportPrivateImportUsage=false

import copy
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import Fraction, PositiveFloat, PositiveInt
from layerwise.core.errors import ConfigError
from layerwise.nn.protocols import Features, require
from layerwise.objectives.base import Batch, Context, Objective, Term, gather_rows
from layerwise.ops.random import Draws


@dataclass(frozen=True, kw_only=True)
class MomentumContrastConfig:
    """Options of momentum contrast.

    Args:
        momentum: share of the teacher's weights kept a step.
        queue_size: keys of earlier steps that serve as negatives; at least the batch size.
        temperature: logits are cosine similarities divided by it.
        projection_size: width of queries and keys.
        hidden_size: width of the head's hidden layer; None takes the encoder's features.
    """

    momentum: Fraction = 0.99
    queue_size: PositiveInt = 4096
    temperature: PositiveFloat = 0.2
    projection_size: PositiveInt = 128
    hidden_size: PositiveInt | None = None


def _as_buffers(module: nn.Module) -> nn.Module:
    """A copy whose weights are buffers: saved and moved like any state, out of every optimiser's reach."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach().clone())
    return copied


@runtime_checkable
class SizedFeatures(Features, Protocol):
    """An encoder that says how many features it has."""

    feature_size: int


class MomentumContrast(Objective):
    """`-log exp(q k+ / t) / (exp(q k+ / t) + sum_j exp(q k_j / t))`, equation 1 of the paper.

    q is the student's projection of one view, k+ the teacher's of the other view, k_j the queue; all have length one.
    After each step the teacher moves, `teacher <- m teacher + (1 - m) student` (equation 2), and the step's keys
    replace the oldest in the queue. The queue is fixed within a step, so a sample's loss does not depend on its batch
    mates unless the encoder has batch norm: then both terms are `per_batch`.

    Shape:
        images, images_2: float [B, C, H, W], two views; the network offers `forward_features` (pictures -> [B, D])
        and `feature_size` D.

    Note:
        `accuracy` is shown, not trained on: how often the own key is nearer than the whole queue. The classifier of the
        network gets no gradient: freeze it in the recipe.
    """

    queue: Tensor
    queue_pointer: Tensor

    def __init__(self, config: MomentumContrastConfig) -> None:
        super().__init__()
        self.config = config
        self._fresh: list[
            tuple[Tensor, Tensor]
        ] = []  # (sample ids, keys) of this step's micro-batches, until after_step

    def setup(self, network: nn.Module) -> None:
        width = require(network, SizedFeatures, "objective=momentum_contrast").feature_size
        config = self.config
        hidden = config.hidden_size or width
        like = next(network.parameters())
        self.head = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, config.projection_size)).to(
            like.device, like.dtype
        )
        self.teacher, self.teacher_head = _as_buffers(network), _as_buffers(self.head)
        keys = Draws(0, "queue").normal(torch.arange(config.queue_size), (config.projection_size,), "keys", like.dtype)
        self.register_buffer("queue", F.normalize(keys, dim=1).to(like.device))
        self.register_buffer("queue_pointer", torch.zeros((), dtype=torch.int64, device=like.device))
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
            self.per_batch = ("contrast", "accuracy")
        self.train(self.training)

    def train(self, mode: bool = True) -> "MomentumContrast":
        """As usual, but the teacher stays in eval mode."""
        super().train(mode)
        if "teacher" in self._modules:
            self.teacher.eval()
        return self

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        return {
            name: float(len(batch["sample_ids"])) for name in ("contrast", "accuracy") if name not in self.per_batch
        }

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        if "images_2" not in batch:
            raise ConfigError(
                "objective=momentum_contrast needs two views of each picture: set data.augment=[two_views]."
            )
        features = cast(SizedFeatures, network).forward_features(batch["images"])
        with torch.no_grad():
            teacher_features = cast(SizedFeatures, self.teacher).forward_features(batch["images_2"])
        # Heads and likeness are float32 on purpose: bfloat16 cannot tell keys apart while all are still close together.
        with torch.autocast(features.device.type, enabled=False):
            queries = F.normalize(self.head(features.to(self.queue.dtype)), dim=1)
            with torch.no_grad():
                keys = F.normalize(self.teacher_head(teacher_features.to(self.queue.dtype)), dim=1)
            own = (queries * keys).sum(1, keepdim=True)
            logits = torch.cat([own, queries @ self.queue.T], dim=1) / self.config.temperature
        target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        loss = F.cross_entropy(logits, target, reduction="sum")
        if context.training:
            self._fresh.append((batch["sample_ids"], keys))
        right = (logits.detach().argmax(1) == 0).sum()
        count = float(len(logits))
        return {"contrast": Term(loss, count), "accuracy": Term(right, count, minimised=False)}

    @torch.no_grad()
    def after_step(self, network: nn.Module, context: Context) -> None:
        student = [
            *network.state_dict(keep_vars=True).items(),
            *((f"head.{n}", t) for n, t in self.head.state_dict(keep_vars=True).items()),
        ]
        teacher = {**self.teacher.state_dict(), **{f"head.{n}": t for n, t in self.teacher_head.state_dict().items()}}
        moving = [(teacher[n], t) for n, t in student if isinstance(t, nn.Parameter)]
        torch._foreach_lerp_([old for old, _ in moving], [new for _, new in moving], 1.0 - self.config.momentum)
        for name, value in student:
            if not isinstance(value, nn.Parameter):
                teacher[name].copy_(value)
        self._enqueue(context)

    def _enqueue(self, context: Context) -> None:
        """Put the step's keys over the oldest ones, in the order of sample ids, one a sample."""
        fresh, self._fresh = self._fresh, []
        if not fresh:
            return
        keys = gather_rows(context, fresh)[0][: len(self.queue)]
        slots = (self.queue_pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue.index_copy_(0, slots, keys)
        self.queue_pointer.copy_((self.queue_pointer + len(keys)) % len(self.queue))


OBJECTIVES = {"momentum_contrast": MomentumContrastConfig()}
