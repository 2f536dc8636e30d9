"""Distillation: its terms are those of plain loops, the teacher stays as it is, the student begins with its blocks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import layerwise as lw
from layerwise.core.errors import CheckpointError, ConfigError
from layerwise.objectives.base import Context
from layerwise.objectives.distillation import Distillation, DistillationConfig, student_state
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


def networks(head: str) -> tuple[Any, Any]:
    torch.manual_seed(0)
    teacher = lw.create_model("bert-tiny", head=head, num_layers=4).double().eval()
    student = lw.create_model("distilbert-tiny", head=head).double().eval()
    for parameter in [*teacher.parameters(), *student.parameters()]:
        nn.init.normal_(parameter, std=0.3)
    return teacher, student


def batch(head: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(6) < torch.tensor([[6], [4], [1]])
    labels = torch.tensor([2, 0, 1])
    if head != "classifier":
        labels = torch.randint(3 if head == "tagger" else 60, (3, 6), generator=generator)
        labels[torch.rand(3, 6, generator=generator) < 0.4] = -100
        labels[~mask] = -100
    tokens = torch.randint(60, (3, 6), generator=generator)
    return {"tokens": tokens, "mask": mask, "labels": labels, "sample_ids": torch.arange(3)}


def made(head: str, **options: Any) -> tuple[Distillation, Any, Any]:
    teacher, student = networks(head)
    objective = Distillation(DistillationConfig(teacher="somewhere", **options))
    objective.take_teacher(teacher)
    objective.setup(student)
    return objective, teacher, student


def plain(teacher: Any, student: Any, given: dict[str, Tensor], heat: float) -> dict[str, Tensor]:
    """Every term's mean, one vector at a time, from the paper's equations."""
    inputs = {"tokens": given["tokens"], "mask": given["mask"]}
    with torch.no_grad():
        theirs, their_states = teacher(**inputs), teacher.forward_features(**inputs)
    ours, our_states = student(**inputs), student.forward_features(**inputs)
    places = [(b, t) for b in range(3) for t in range(6) if given["mask"][b, t]]
    vectors: Any = range(3) if given["labels"].dim() == 1 else places
    soft, hard, cosine = [], [], []
    for at in vectors:
        p = (theirs[at] / heat).exp() / (theirs[at] / heat).exp().sum()
        q = (ours[at] / heat).exp() / (ours[at] / heat).exp().sum()
        soft.append(heat**2 * (p * (p.log() - q.log())).sum())
        if (label := int(given["labels"][at])) != -100:
            hard.append(ours[at].exp().sum().log() - ours[at][label])
    for at in places:
        a, b = our_states[at], their_states[at]
        cosine.append(1 - (a * b).sum() / (a.norm() * b.norm()))
    return {name: torch.stack(each).mean() for name, each in (("soft", soft), ("hard", hard), ("cosine", cosine))}


@pytest.mark.parametrize("head", ["classifier", "tagger", "masked_lm"])
def test_terms_and_gradient_are_those_of_the_equations(head: str) -> None:
    """Float64, 1e-10."""
    objective, teacher, student = made(head, temperature=3.0, soft_weight=0.7, hard_weight=0.4, cosine_weight=0.2)
    given = batch(head)
    terms = objective(student, given, CONTEXT)
    assert {name: term.count for name, term in terms.items()} == objective.counts(given, "main")
    assert {name: term.weight for name, term in terms.items()} == {"soft": 0.7, "hard": 0.4, "cosine": 0.2}
    wanted = plain(teacher, student, given, 3.0)
    for name, term in terms.items():
        torch.testing.assert_close(term.sum / term.count, wanted[name], rtol=1e-10, atol=1e-12)
    sums = [
        torch.stack([weight * each for weight, each in zip((0.7, 0.4, 0.2), values, strict=True)]).sum()
        for values in ([term.sum / term.count for term in terms.values()], list(wanted.values()))
    ]
    parameters = [p for p in student.parameters() if p.requires_grad]
    for got, value in zip(*(torch.autograd.grad(each, parameters) for each in sums), strict=True):
        torch.testing.assert_close(got, value, rtol=1e-8, atol=1e-12)


def test_a_student_that_is_the_teacher_has_nothing_to_learn_from_it() -> None:
    objective, teacher, _ = made("classifier")
    terms = objective(teacher, batch("classifier"), CONTEXT)
    assert abs(float(terms["soft"].sum)) < 1e-12
    assert abs(float(terms["cosine"].sum)) < 1e-12
    assert float(terms["hard"].sum) > 0


def test_the_teacher_is_neither_trained_nor_part_of_the_state() -> None:
    objective, teacher, student = made("classifier")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    terms = objective(student, batch("classifier"), CONTEXT)
    torch.stack([term.sum for term in terms.values()]).sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert list(objective.state_dict()) == ["digest"]
    assert not list(objective.parameters())


def test_another_teacher_on_resumption_is_noticed() -> None:
    objective, _, student = made("classifier")
    state = objective.state_dict()
    other, _, _ = made("classifier")
    with torch.no_grad():
        next(other.teacher.parameters()).add_(1)
    again = Distillation(DistillationConfig(teacher="somewhere"))
    again.take_teacher(other.teacher)
    again.load_state_dict(state)
    with pytest.raises(CheckpointError, match="not the one that this run began with"):
        again(student, batch("classifier"), CONTEXT)


def test_the_student_begins_with_every_other_block() -> None:
    teacher, student = networks("classifier")
    student.load_state_dict(student_state(teacher, student), strict=False)
    theirs = teacher.state_dict()
    for name, value in student.state_dict().items():
        if name.startswith("blocks."):
            _, number, rest = name.split(".", 2)
            assert torch.equal(value, theirs[f"blocks.{2 * int(number)}.{rest}"]), name
        if name.startswith("embeddings."):
            assert torch.equal(value, theirs[name])


def test_what_does_not_fit_is_named() -> None:
    teacher, student = networks("classifier")
    with pytest.raises(ConfigError, match=r"needs objective\.teacher"):
        Distillation(DistillationConfig())
    wide = lw.create_model("distilbert-tiny", head="classifier", d_model=64)
    objective = Distillation(DistillationConfig(teacher="x"))
    objective.take_teacher(teacher)
    with pytest.raises(ConfigError, match=r"objective\.cosine_weight=1"):
        objective.setup(wide)
    with pytest.raises(ConfigError, match="vocab_size=60 and the student vocab_size=61"):
        objective.setup(lw.create_model("distilbert-tiny", head="classifier", vocab_size=61))
    with pytest.raises(ConfigError, match="must divide the teacher's 4 blocks"):
        student_state(teacher, lw.create_model("distilbert-tiny", head="classifier", num_layers=3))
    with pytest.raises(ConfigError, match="do not fit the student"):
        student_state(teacher, wide)
    assert student is not None
