"""Distillation: a small text encoder learns from the labels and from what a large one says and thinks.

Paper: V. Sanh, L. Debut, J. Chaumond, T. Wolf, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and
lighter", 2019. https://arxiv.org/abs/1910.01108 (section 3). Soft targets: G. Hinton, O. Vinyals, J. Dean, "Distilling
the knowledge in a neural network", 2015. https://arxiv.org/abs/1503.02531
Reference code: huggingface/transformers, examples/research_projects/distillation (its weights and temperature are the
defaults).

Shapes: B texts, T tokens of the longest, N tokens in all, D width, K classes or words.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import NonNegativeFloat, PositiveFloat
from layerwise.core.errors import CheckpointError, ConfigError
from layerwise.nn.protocols import StatesAndOutput, require
from layerwise.objectives.base import Batch, Context, Objective, Term
from layerwise.ops.linear_cross_entropy import IGNORED

INPUTS = ("tokens", "mask", "segments", "documents")  # of a text encoder


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Options of distillation.

    Args:
        teacher: a run or a checkpoint, with the student's kind of head, tokeniser and classes.
        temperature: of both sides' soft targets.
        soft_weight: of the divergence from the teacher's soft targets.
        hard_weight: of the cross-entropy of the labels.
        cosine_weight: of the angle between both sides' last states; 0 where their widths differ.
        every_other: the student begins with every other block of the teacher, and with its embeddings and head, where
            `init` names nothing else.
    """

    teacher: str | None = None
    temperature: PositiveFloat = 2.0
    soft_weight: NonNegativeFloat = 5.0
    hard_weight: NonNegativeFloat = 2.0
    cosine_weight: NonNegativeFloat = 1.0
    every_other: bool = True


class Distillation(Objective):
    """w_s T^2 KL(softmax(z_t / T) || softmax(z_s / T)) + w_h (-log softmax(z_s)_y) + w_c (1 - cos(h_s, h_t)).

    Each is a mean: the first over texts where the head gives classes of texts, else over tokens; the second over
    labels; the last over tokens. The teacher is in evaluation mode and is not trained. Unlike cross-entropy with soft
    targets, as the paper writes it, the divergence is 0 where both agree; the gradient is the same.

    Shape:
        labels: int64 [B], or of tokens [B, T] with -100 where there is none; tokens, mask or documents [B, T]. The
        networks offer what `StatesAndOutput` names; logits are [B, K] or [B, T, K].
    """

    digest: Tensor

    def __init__(self, config: DistillationConfig) -> None:
        super().__init__()
        if config.teacher is None:
            raise ConfigError(
                "objective=distillation needs objective.teacher: a run, or the directory of a checkpoint."
            )
        self.config, self.teacher_source, self._known = config, config.teacher, False
        self._teacher: tuple[nn.Module, ...] = ()  # out of the module's sight: no part of the training state
        self.register_buffer("digest", torch.zeros((), dtype=torch.float64))

    def take_teacher(self, teacher: nn.Module) -> None:
        """The network that teaches, on its device.

        Raises:
            UnsupportedError: it does not give states and output.
        """
        require(teacher, StatesAndOutput, "objective.teacher")
        self._teacher = (teacher.eval().requires_grad_(False),)
        self.digest.copy_(_digest(teacher))

    @property
    def teacher(self) -> nn.Module:
        """The network that teaches."""
        if not self._teacher:
            raise RuntimeError("take_teacher comes before training")
        return self._teacher[0]

    def setup(self, network: nn.Module) -> None:
        require(network, StatesAndOutput, "objective=distillation")
        ours, theirs = (getattr(each, "config", None) for each in (network, self.teacher))
        for name in ("vocab_size", "num_classes"):
            have, wanted = getattr(ours, name, None), getattr(theirs, name, None)
            if have != wanted and not (name == "num_classes" and None in (have, wanted)):
                raise ConfigError(
                    f"objective.teacher={self.teacher_source} has {name}={wanted} and the student {name}={have}. "
                    f"Set task.tokenizer={self.teacher_source}, and train on the teacher's classes."
                )
        widths = [getattr(each, "d_model", None) for each in (ours, theirs)]
        if widths[0] != widths[1] and self.config.cosine_weight:
            raise ConfigError(
                f"objective.cosine_weight={self.config.cosine_weight:g}: the teacher has d_model={widths[1]} and the "
                f"student {widths[0]}. Make them equal, or set the weight to 0."
            )

    def counts(self, batch: Batch, phase: str) -> dict[str, float]:
        labels, tokens = batch["labels"], float(_there(batch).sum())
        whole = labels.dim() == 1
        found = {"soft": float(len(labels)) if whole else tokens, "hard": float((labels != IGNORED).sum())}
        return {**found, "cosine": tokens} if self.config.cosine_weight else found

    def forward(self, network: nn.Module, batch: Batch, context: Context) -> dict[str, Term]:
        if not self._known and float(self.digest) != float(_digest(self.teacher)):
            raise CheckpointError(f"objective.teacher={self.teacher_source} is not the one that this run began with.")
        self._known = True
        inputs = {name: value for name, value in batch.items() if name in INPUTS}
        config, counts = self.config, self.counts(batch, context.phase)
        student = cast(StatesAndOutput, network).states_and_output(**inputs)
        with torch.no_grad():
            teacher = cast(StatesAndOutput, self.teacher).states_and_output(**inputs)
        ours, theirs = _logits(student[1], batch), _logits(teacher[1], batch)
        labels = batch["labels"] if batch["labels"].dim() == 1 else batch["labels"][_there(batch)]
        soft = config.temperature**2 * F.kl_div(
            (ours / config.temperature).log_softmax(-1),
            (theirs / config.temperature).log_softmax(-1),
            reduction="sum",
            log_target=True,
        )
        hard = F.cross_entropy(ours, labels, ignore_index=IGNORED, reduction="sum")
        terms = {
            "soft": Term(soft, counts["soft"], weight=config.soft_weight),
            "hard": Term(hard, counts["hard"], weight=config.hard_weight),
        }
        if config.cosine_weight:
            angles = 1 - F.cosine_similarity(_wide(student[0]), _wide(teacher[0]), dim=-1)
            terms["cosine"] = Term(angles.sum(), counts["cosine"], weight=config.cosine_weight)
        return terms


def student_state(teacher: nn.Module, student: nn.Module) -> dict[str, Tensor]:
    """The teacher's tensors that a student of the same widths begins with: those of equal name and shape, and of every
    k-th block, k = teacher's blocks / student's (Sanh et al. 2019, section 3: every other).

    Raises:
        ConfigError: the student's blocks do not divide the teacher's, or nothing fits.
    """
    deep, shallow = (len(cast(Any, each).blocks) for each in (teacher, student))
    if deep % shallow:
        raise ConfigError(
            f"model.num_layers={shallow} must divide the teacher's {deep} blocks, of which the student takes every "
            "k-th; or set objective.every_other=false."
        )
    theirs, wanted = teacher.state_dict(), student.state_dict()
    found: dict[str, Tensor] = {}
    for name, value in wanted.items():
        parts = name.split(".")
        if parts[0] == "blocks":
            parts[1] = str(int(parts[1]) * (deep // shallow))
        other = theirs.get(".".join(parts))
        if other is not None and other.shape == value.shape:
            found[name] = other
    if not any(name.startswith("blocks.") for name in found):
        raise ConfigError(
            "The teacher's blocks do not fit the student: set model.d_model, model.num_heads and model.d_ff to the "
            "teacher's, or objective.every_other=false."
        )
    return found


def _there(batch: Batch) -> Tensor:
    """Where tokens are, bool [B, T]."""
    if "documents" in batch:
        return batch["documents"] >= 0
    return batch["mask"] if "mask" in batch else torch.ones_like(batch["tokens"], dtype=torch.bool)


def _logits(output: Any, batch: Batch) -> Tensor:
    """[B, K] or, of tokens, [N, K]; float32 at least on purpose."""
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    return _wide(logits if logits.dim() == 2 else logits[_there(batch)])


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _digest(network: nn.Module) -> Tensor:
    """A number that tells other weights apart, cheaply: the sum of the first numbers of every tensor."""
    firsts = [value.detach().flatten()[:64].double().sum() for value in network.parameters()]
    weights = torch.arange(1, len(firsts) + 1, dtype=torch.float64, device=firsts[0].device)
    return (torch.stack(firsts) * weights.sqrt()).sum()


OBJECTIVES = {"distillation": DistillationConfig()}
