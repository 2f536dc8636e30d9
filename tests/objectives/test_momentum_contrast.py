"""Momentum contrast against naive loops in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError
from layerwise.models.vision.convnet import PRESETS, ConvNet
from layerwise.objectives.base import Context
from layerwise.objectives.momentum_contrast import MomentumContrast, MomentumContrastConfig
from layerwise.ops.random import Draws

CONFIG = MomentumContrastConfig(queue_size=20, projection_size=6, hidden_size=5, temperature=0.3, momentum=0.9)


def make(config: MomentumContrastConfig = CONFIG) -> tuple[ConvNet, MomentumContrast]:
    torch.manual_seed(0)
    network, objective = ConvNet(PRESETS["convnet-tiny"]).double(), MomentumContrast(config)
    objective.setup(network)
    return network, objective


def make_batch(count: int = 8, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(2, count, 1, 12, 12, generator=generator, dtype=torch.float64)
    return {"images": views[0], "images_2": views[1], "sample_ids": torch.randperm(1000, generator=generator)[:count]}


def split(batch: dict[str, Tensor], sizes: list[int]) -> list[dict[str, Tensor]]:
    return [
        dict(zip(batch, values, strict=True)) for values in zip(*(v.split(sizes) for v in batch.values()), strict=True)
    ]


CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


def keys_of(objective: MomentumContrast, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        keys = objective.teacher_head(objective.teacher.forward_features(batch["images_2"]))
    return keys / keys.norm(dim=1, keepdim=True)


def test_loss_equals_naive_loop_over_equation_1() -> None:
    network, objective = make()
    with torch.no_grad():  # a teacher that differs from its student
        objective.teacher.get_buffer("blocks.0.conv.weight").mul_(1.3)
    batch = make_batch()
    term = objective(network, batch, CONTEXT)["contrast"]
    queries, keys = objective.head(network.forward_features(batch["images"])).detach(), keys_of(objective, batch)
    total = 0.0
    for i in range(8):
        q = queries[i] / math.sqrt(float(queries[i] @ queries[i]))
        own = math.exp(float(q @ keys[i]) / 0.3)
        others = sum(math.exp(float(q @ objective.queue[j]) / 0.3) for j in range(20))
        total -= math.log(own / (own + others))
    assert term.sum.item() == pytest.approx(total, rel=1e-12)
    assert term.count == 8


@pytest.mark.parametrize("sizes", [[3, 3, 2], [1, 7], [4, 4]], ids=str)
def test_gradient_and_queue_of_every_split_equal_those_of_one_batch(sizes: list[int]) -> None:
    batch, found = make_batch(), []
    for parts in ([batch], split(batch, sizes)):
        network, objective = make()
        assert objective.per_batch == ()
        total = sum(float(objective.counts(part, "main")["contrast"]) for part in parts)
        for part in parts:
            (objective(network, part, CONTEXT)["contrast"].sum / total).backward()
        objective.after_step(network, CONTEXT)
        trained = [
            *(p for n, p in network.named_parameters() if not n.startswith("classifier")),
            *objective.parameters(),
        ]
        found.append(([p.grad for p in trained], objective.queue))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-12, atol=1e-12)


def test_teacher_moves_by_equation_2_and_is_out_of_optimisers_reach() -> None:
    network, objective = make()
    before = {name: value.clone() for name, value in objective.teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    objective.after_step(network, CONTEXT)
    student = dict(network.named_parameters())
    for name, value in objective.teacher.state_dict().items():
        torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * student[name].detach(), rtol=1e-12, atol=1e-12)
    assert {name.split(".")[0] for name, _ in objective.named_parameters()} == {"head"}


def test_queue_is_a_ring_in_order_of_sample_ids() -> None:
    network, objective = make()
    wanted, position = objective.queue.clone(), 0
    for step in range(3):  # 3 x 8 keys go once around the 20 places
        batch = make_batch(seed=step)
        objective(network, batch, CONTEXT)
        keys = keys_of(objective, batch)
        for i in sorted(range(8), key=lambda i: int(batch["sample_ids"][i])):
            wanted[position % 20] = keys[i]
            position += 1
        objective.after_step(network, CONTEXT)
    torch.testing.assert_close(objective.queue, wanted, rtol=1e-12, atol=1e-12)
    assert int(objective.queue_pointer) == 4


def test_micro_batch_run_again_enters_queue_once() -> None:
    batch, queues = make_batch(), []
    for repeated in (False, True):
        network, objective = make()
        if repeated:
            objective(network, split(batch, [5, 3])[0], CONTEXT)  # memory ran out after this one; the step starts anew
        objective(network, batch, CONTEXT)
        objective.after_step(network, CONTEXT)
        queues.append((objective.queue, int(objective.queue_pointer)))
    torch.testing.assert_close(queues[0][0], queues[1][0], rtol=1e-12, atol=1e-12)
    assert queues[0][1] == queues[1][1] == 8


def test_two_processes_fill_the_queue_as_one_does() -> None:
    batch = make_batch()
    network, one = make()
    one(network, batch, CONTEXT)
    one.after_step(network, CONTEXT)
    mine, other = split(batch, [5, 3])
    network, half = make()
    theirs = [other["sample_ids"], keys_of(half, other)]  # in the order that they are gathered
    half(network, mine, CONTEXT)
    half.after_step(
        network, Context(step=1, epoch=0, phase="x", draws=Draws(0), gather=lambda x: torch.cat([x, theirs.pop(0)]))
    )
    torch.testing.assert_close(half.queue, one.queue, rtol=1e-12, atol=1e-12)


def test_state_dict_carries_teacher_and_queue() -> None:
    network, objective = make()
    batch = make_batch()
    objective(network, batch, CONTEXT)
    with torch.no_grad():
        network.get_parameter("blocks.0.conv.weight").add_(0.1)
    objective.after_step(network, CONTEXT)
    _, fresh = make()
    fresh.load_state_dict(objective.state_dict())
    assert torch.equal(
        fresh(network, batch, CONTEXT)["contrast"].sum, objective(network, batch, CONTEXT)["contrast"].sum
    )


def test_batch_norm_in_encoder_makes_terms_per_batch_and_teacher_uses_running_statistics() -> None:
    network = ConvNet(PRESETS["convnet-tiny"]).double()
    network.blocks[0].norm = nn.BatchNorm2d(8).double()  # type: ignore[union-attr]
    objective = MomentumContrast(CONFIG)
    objective.setup(network)
    objective.train()
    assert objective.per_batch == ("contrast", "accuracy")
    batch = make_batch()
    whole, alone = keys_of(objective, batch), keys_of(objective, {name: value[:1] for name, value in batch.items()})
    torch.testing.assert_close(whole[:1], alone, rtol=1e-12, atol=1e-12)


def test_one_view_is_refused_with_the_remedy() -> None:
    network, objective = make()
    batch = make_batch()
    del batch["images_2"]
    with pytest.raises(ConfigError, match="two_views"):
        objective(network, batch, CONTEXT)
