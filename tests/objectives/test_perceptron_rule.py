"""Rosenblatt's rule: the update itself, the bound of the convergence theorem, what is kept of the course."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.api.configure import configure
from layerwise.models.classic.perceptron import AssociationConfig, Perceptron, PerceptronConfig
from layerwise.objectives.base import Context
from layerwise.objectives.perceptron_rule import PerceptronRule, PerceptronRuleConfig, mistake_bound
from layerwise.ops.random import Draws
from layerwise.train.build import build

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


def separable_sets(sets: int, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random points [S, N, D], signs [S, N] by a random plane of each set, and the planes [S, D + 1], bias last.

    Points nearer to their plane than a margin, of each set its own, are moved away from it.
    """
    draw: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    points = torch.randn(sets, count, size, **draw)
    normal = torch.randn(sets, size, **draw)
    normal /= normal.norm(dim=1, keepdim=True)
    bias, margin = 0.5 * torch.randn(sets, 1, **draw), 0.1 + torch.rand(sets, 1, **draw)
    distance = torch.einsum("snd,sd->sn", points, normal) + bias
    signs = torch.where(distance >= 0, 1.0, -1.0).double()
    points += ((margin - distance.abs()).clamp(min=0) * signs)[..., None] * normal[:, None]
    return points, signs, torch.cat([normal, bias], 1)


class ManyPerceptrons(nn.Module):
    """One perceptron a set, each of which sees a sample of its own: row i of the batch is for perceptron i."""

    def __init__(self, sets: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(sets, size, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(sets, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return ((self.weight * images).sum(1) + self.bias)[:, None]


def test_the_bound_holds_on_a_thousand_random_separable_sets() -> None:
    """Every set's perceptron learns by the objective's own gradient at rate 1, one sample of its set a step."""
    sets, count, size = 1000, 20, 3
    points, signs, planes = separable_sets(sets, count, size, torch.Generator().manual_seed(0))
    with_one = torch.cat([points, torch.ones(sets, count, 1, dtype=torch.float64)], 2)
    radius_2 = with_one.square().sum(2).amax(1)
    distance = signs * torch.einsum("snd,sd->sn", with_one, planes)
    bounds = radius_2 * planes.square().sum(1) / distance.amin(1).square()
    network, objective = ManyPerceptrons(sets, size), PerceptronRule(PerceptronRuleConfig())
    updates, wrong_in_pass = torch.zeros(sets), torch.ones(sets)
    while bool(wrong_in_pass.any()):
        wrong_in_pass = torch.zeros(sets)
        for sample in range(count):
            images, y = points[:, sample], signs[:, sample]
            wrong = y * network(images)[:, 0].detach() <= 0
            batch = {"images": images, "labels": (y[:, None] + 1) / 2, "sample_ids": torch.arange(sets)}
            objective(network, batch, CONTEXT)["perceptron"].sum.backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    assert parameter.grad is not None
                    parameter -= parameter.grad
                    parameter.grad = None
            updates, wrong_in_pass = updates + wrong, wrong_in_pass + wrong
        assert bool((updates <= bounds).all())
    assert float(updates.mean()) > 3
    assert float((updates / bounds).max()) > 0.05  # the sets are not so easy that the bound says nothing


def test_the_loop_with_the_recipe_is_the_rule_written_as_a_loop() -> None:
    overrides = [("data.num_features", 3), ("data.train_size", 30), ("data.margin", 0.05), ("epochs", 4)]
    session = build(configure("perceptron", [*overrides, ("eval.stop_at", None)]).recipe)
    network = session.network.double()
    trainer = session.trainer(0, 0, [])
    trainer.source.inputs = lambda raw: {  # pyright: ignore[reportAttributeAccessIssue]
        "images": raw["features"].double(), "labels": raw["target"].double(), "sample_ids": raw["sample_ids"],
    }  # fmt: skip
    order = [trainer.source.make(step)[0] for step in range(120)]  # pyright: ignore[reportAttributeAccessIssue]
    trainer.evaluate = None
    trainer.fit()
    weights, bias, updates = [0.0, 0.0, 0.0], 0.0, 0
    for batch in order:
        (x,), y = batch["images"].tolist(), 2 * float(batch["labels"]) - 1
        if y * (sum(w * v for w, v in zip(weights, x, strict=True)) + bias) <= 0:
            weights, bias, updates = [w + y * v for w, v in zip(weights, x, strict=True)], bias + y, updates + 1
    assert updates > 3
    assert network.get_parameter("response.weight")[0].tolist() == pytest.approx(weights, abs=1e-12)
    assert network.get_parameter("response.bias").tolist() == pytest.approx([bias], abs=1e-12)
    assert isinstance(trainer.objective, PerceptronRule)
    assert int(trainer.objective.updates) == updates
    assert int(trainer.objective.seen) == 120


def test_a_score_of_zero_counts_as_an_error() -> None:
    network = Perceptron(PerceptronConfig(in_features=2, num_outputs=1))
    batch = {"images": torch.tensor([[3.0, -2.0]]), "labels": torch.tensor([[0.0]]), "sample_ids": torch.arange(1)}
    terms = PerceptronRule(PerceptronRuleConfig())(network, batch, CONTEXT)
    assert terms["perceptron"].sum.item() == 0
    assert terms["mistakes"].sum.item() == 1
    terms["perceptron"].sum.backward()
    assert network.response.weight.grad is not None
    assert network.response.weight.grad.tolist() == [[3.0, -2.0]]  # the step is minus this: y x


def test_right_samples_give_no_gradient() -> None:
    network = Perceptron(PerceptronConfig(in_features=2, num_outputs=2))
    with torch.no_grad():
        network.response.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    batch = {"images": torch.tensor([[2.0, 5.0]]), "labels": torch.tensor([[1.0, 0.0]]), "sample_ids": torch.arange(1)}
    term = PerceptronRule(PerceptronRuleConfig())(network, batch, CONTEXT)["perceptron"]
    term.sum.backward()
    assert term.sum.item() == 5.0
    assert network.response.weight.grad is not None
    assert network.response.weight.grad.tolist() == [[0.0, 0.0], [2.0, 5.0]]


def test_states_are_kept_after_updates_1_2_4_8() -> None:
    session = build(configure("perceptron_xor", [("epochs", 10)]).recipe)
    trainer = session.trainer(0, 0, [])
    moved: list[Tensor] = []
    objective = trainer.objective
    assert isinstance(objective, PerceptronRule)
    while trainer.step < 40:
        trainer.settings = replace(trainer.settings, max_steps=trainer.step + 1)
        trainer.extend()
        trainer.fit()
        if int(objective.updates) > len(moved):
            moved.append(torch.cat([p.detach().flatten() for p in session.network.parameters()]))
    kept = objective.states()
    assert [updates for updates, _ in kept] == [0, 1, 2, 4, 8, 16, 32]
    assert not bool(kept[0][1].any())
    assert all(torch.equal(parameters, moved[updates - 1]) for updates, parameters in kept[1:])


def test_the_theorem_is_claimed_for_single_samples_from_zero_alone() -> None:
    network = Perceptron(PerceptronConfig(in_features=2, num_outputs=1))
    batch = {"images": torch.ones(2, 2), "labels": torch.ones(2, 1), "sample_ids": torch.arange(2)}
    claims: list[bool] = []
    for start, rows in ((0.0, 1), (0.0, 2), (0.5, 1)):
        nn.init.constant_(network.response.bias, start)
        objective = PerceptronRule(PerceptronRuleConfig())
        objective.setup(network)
        objective(network, {name: value[:rows] for name, value in batch.items()}, CONTEXT)
        objective.after_step(network, CONTEXT)
        claims.append(objective.is_rule_as_proved())
    assert claims == [True, False, False]


def test_large_networks_keep_no_states() -> None:
    network = Perceptron(PerceptronConfig(in_features=4, num_outputs=1, association=AssociationConfig(units=500)))
    objective = PerceptronRule(PerceptronRuleConfig())
    objective.setup(network)
    assert objective.states() == []
    assert sum(buffer.numel() for buffer in objective.buffers()) < 100


def test_bound_is_the_formula() -> None:
    features = torch.tensor([[3.0, 4.0], [0.0, 1.0]])  # with the constant: squared lengths 26 and 2
    agreement = torch.tensor([[10.0], [0.5]])
    assert mistake_bound(features, agreement, length=3.0) == pytest.approx(26 * 9 / 0.25)
    assert mistake_bound(features, torch.tensor([[1.0], [0.0]]), length=3.0) == float("inf")


def test_labels_of_another_shape_are_refused() -> None:
    network = Perceptron(PerceptronConfig(in_features=2, num_outputs=1))
    batch = {"images": torch.ones(2, 2), "labels": torch.ones(2), "sample_ids": torch.arange(2)}
    with pytest.raises(ValueError, match=r"gives \[2, 1\], labels are \[2\]"):
        PerceptronRule(PerceptronRuleConfig())(network, batch, CONTEXT)
