"""Contrastive divergence against the outer-product rule and against enumeration of all states, in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.models.classic.deep_belief_network import DeepBeliefNetwork, DeepBeliefNetworkConfig
from layerwise.models.classic.rbm import RBM, RBMConfig, RBMLayer
from layerwise.objectives.base import Context
from layerwise.objectives.contrastive_divergence import ContrastiveDivergence, ContrastiveDivergenceConfig
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(5, "noise"))


def spread(machine: RBMLayer, scale: float = 0.7) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def make_rbm(hidden: int = 4) -> RBM:
    rbm = RBM(RBMConfig(in_channels=1, image_size=(2, 3), hidden_size=hidden)).double()
    spread(rbm)
    return rbm


def make_batch(count: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        "images": torch.rand(count, 1, 2, 3, generator=generator, dtype=torch.float64),
        "sample_ids": torch.arange(50, 50 + count),
    }


def all_states(size: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size)), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 3])
def test_gradient_is_minus_the_outer_product_rule(steps: int) -> None:
    """Hinton 2002: dW = <h v'>_data - <h v'>_reconstruction; here accumulated unit by unit."""
    rbm, batch = make_rbm(), make_batch()
    objective = ContrastiveDivergence(ContrastiveDivergenceConfig(steps=steps))
    objective(rbm, batch, CONTEXT)["divergence"].sum.backward()
    weight, b, c = (p.detach() for p in (rbm.weight, rbm.visible_bias, rbm.hidden_bias))
    wanted = {
        "weight": torch.zeros(4, 6).double(),
        "visible_bias": torch.zeros(6).double(),
        "hidden_bias": torch.zeros(4).double(),
    }
    ids = batch["sample_ids"]
    for n in range(7):
        v0 = batch["images"][n].flatten()
        v = v0
        for step in range(steps):
            u_h = CONTEXT.draws.uniform_pairs(ids, (4,), f"hidden-{step}", torch.float64)[n]
            u_v = CONTEXT.draws.uniform_pairs(ids, (6,), f"visible-{step}", torch.float64)[n]
            h = torch.tensor([float(u_h[j] < 1 / (1 + torch.exp(-(c[j] + weight[j] @ v)))) for j in range(4)]).double()
            v = torch.tensor(
                [float(u_v[i] < 1 / (1 + torch.exp(-(b[i] + weight[:, i] @ h)))) for i in range(6)]
            ).double()
        p0 = [1 / (1 + torch.exp(-(c[j] + weight[j] @ v0))) for j in range(4)]
        pk = [1 / (1 + torch.exp(-(c[j] + weight[j] @ v))) for j in range(4)]
        for j in range(4):
            wanted["hidden_bias"][j] -= p0[j] - pk[j]
            for i in range(6):
                wanted["weight"][j, i] -= p0[j] * v0[i] - pk[j] * v[i]
        wanted["visible_bias"] -= v0 - v
    for name, value in wanted.items():
        torch.testing.assert_close(rbm.get_parameter(name).grad, value, rtol=1e-12, atol=1e-12)


def test_free_energy_sums_hidden_states_out() -> None:
    """exp(-F(v)) = sum_h exp(v.b + h.c + h W v) for every v, by enumeration."""
    rbm = make_rbm()
    for v in all_states(6):
        total = sum(torch.exp(v @ rbm.visible_bias + h @ rbm.hidden_bias + h @ rbm.weight @ v) for h in all_states(4))
        torch.testing.assert_close(torch.exp(-rbm.free_energy(v[None]))[0], total, rtol=1e-12, atol=0.0)


def test_partition_function_from_free_energies_equals_sum_over_all_joint_states() -> None:
    rbm = make_rbm()
    v, h = all_states(6), all_states(4)
    joint = torch.exp((v @ rbm.visible_bias)[:, None] + (h @ rbm.hidden_bias)[None] + v @ rbm.weight.T @ h.T).sum()
    torch.testing.assert_close(torch.exp(-rbm.free_energy(v)).sum(), joint, rtol=1e-12, atol=0.0)


def test_long_chains_reach_the_exact_distribution() -> None:
    """After 40 steps the share of each of 16 visible states is its probability, within 4.5 standard errors."""
    rbm, count = RBM(RBMConfig(in_channels=1, image_size=(2, 2), hidden_size=3)).double(), 20_000
    spread(rbm)
    objective = ContrastiveDivergence(ContrastiveDivergenceConfig(steps=40))
    with torch.no_grad():
        end, _ = objective._chain(rbm, torch.zeros(count, 4, dtype=torch.float64), torch.arange(count), CONTEXT)
        exact = torch.softmax(-rbm.free_energy(all_states(4)), dim=0)
    index = (end @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    share = torch.bincount(index, minlength=16) / count
    assert bool(((share - exact).abs() < 4.5 * (exact * (1 - exact) / count).sqrt()).all())


def test_gradient_does_not_depend_on_split() -> None:
    batch, found = make_batch(), []
    for sizes in ([7], [3, 3, 1]):
        rbm, objective = make_rbm(), ContrastiveDivergence(ContrastiveDivergenceConfig())
        for images, ids in zip(batch["images"].split(sizes), batch["sample_ids"].split(sizes), strict=True):
            part = {"images": images, "sample_ids": ids}
            assert objective.counts(part, "main")["divergence"] == len(ids)
            (objective(rbm, part, CONTEXT)["divergence"].sum / 7).backward()
        found.append([p.grad for p in rbm.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_only_the_chosen_layer_of_a_stack_gets_gradient() -> None:
    network = DeepBeliefNetwork(
        DeepBeliefNetworkConfig(num_classes=3, in_channels=1, image_size=(2, 3), hidden_sizes=(5, 4))
    ).double()
    objective = ContrastiveDivergence(ContrastiveDivergenceConfig(layer=1))
    objective.setup(network)
    objective(network, make_batch(), CONTEXT)["divergence"].sum.backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert reached == {"blocks.1.weight", "blocks.1.visible_bias", "blocks.1.hidden_bias"}


def test_mean_chain_replaces_visible_samples_by_probabilities() -> None:
    rbm, batch = make_rbm(), make_batch()
    objective = ContrastiveDivergence(ContrastiveDivergenceConfig(visible="mean"))
    data = batch["images"].flatten(1)
    with torch.no_grad():
        end, first = objective._chain(rbm, data, batch["sample_ids"], CONTEXT)
        uniform = CONTEXT.draws.uniform_pairs(batch["sample_ids"], (4,), "hidden-0", torch.float64)
        hidden = (uniform < torch.sigmoid(data @ rbm.weight.T + rbm.hidden_bias)).double()
    torch.testing.assert_close(end, torch.sigmoid(hidden @ rbm.weight + rbm.visible_bias), rtol=1e-12, atol=1e-12)
    assert torch.equal(end, first)


def test_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer=2"):
        ContrastiveDivergence(ContrastiveDivergenceConfig(layer=2)).setup(make_rbm())


def likelihood_gradient(rbm: RBM, images: Tensor) -> dict[str, Tensor]:
    """Of the mean negative log-likelihood, with the partition function summed over all 64 visible states."""
    rbm.zero_grad()
    log_z = torch.logsumexp(-rbm.free_energy(all_states(6)), 0)
    (rbm.free_energy(images.flatten(1)).mean() + log_z).backward()
    return {name: p.grad.clone() for name, p in rbm.named_parameters() if p.grad is not None}


def test_with_many_steps_the_gradient_is_the_likelihood_s() -> None:
    """CD-k tends to maximum likelihood; 100 steps and 30,000 chains leave sampling noise, and CD-1 has a bias beside
    it.
    """
    images = make_batch(3)["images"].repeat_interleave(10_000, 0)
    exact, found = likelihood_gradient(make_rbm(), images), {}
    for steps in (1, 100):
        rbm = make_rbm()
        objective = ContrastiveDivergence(ContrastiveDivergenceConfig(steps=steps))
        batch = {"images": images, "sample_ids": torch.arange(len(images))}
        (objective(rbm, batch, CONTEXT)["divergence"].sum / len(images)).backward()
        found[steps] = {name: p.grad for name, p in rbm.named_parameters() if p.grad is not None}
    errors = {steps: max(float((found[steps][name] - exact[name]).abs().max()) for name in exact) for steps in (1, 100)}
    noise = 5 * 0.5 / len(images) ** 0.5  # five standard errors: no statistic of a unit has a deviation above 1 / 2
    assert errors[100] < noise < errors[1]


def persistent(chains: int, steps: int = 1) -> ContrastiveDivergence:
    torch.manual_seed(0)
    return ContrastiveDivergence(ContrastiveDivergenceConfig(persistent=chains, steps=steps))


def test_persistent_gradient_is_data_minus_chains() -> None:
    """Tieleman 2008: <p(h|v) v'> over the data less that over the chains, each a mean of its own."""
    rbm, objective, batch = make_rbm(), persistent(5), make_batch()
    objective.setup(rbm)
    terms, counts = objective(rbm, batch, CONTEXT), objective.counts(batch, "main")
    assert terms["data"].count == counts["data"] == 7.0
    assert objective.per_batch == ("chains",)
    (terms["data"].sum / 7 + terms["chains"].sum / terms["chains"].count).backward()
    assert objective.chains is not None
    wanted = torch.zeros(4, 6, dtype=torch.float64)
    for rows, sign in ((batch["images"].flatten(1), -1 / 7), (objective.chains, 1 / 5)):
        for v in rows:
            h = torch.sigmoid(rbm.weight.detach() @ v + rbm.hidden_bias.detach())
            wanted += sign * h[:, None] * v[None]
    torch.testing.assert_close(rbm.weight.grad, wanted, rtol=1e-12, atol=1e-12)


def test_persistent_chains_move_after_a_step_and_reach_the_exact_distribution() -> None:
    rbm, count = RBM(RBMConfig(in_channels=1, image_size=(2, 2), hidden_size=3)).double(), 20_000
    spread(rbm)
    objective = persistent(count, steps=2)
    objective.setup(rbm)
    for step in range(20):
        context = Context(step=step, epoch=0, phase="after_step", draws=Draws(5, "noise", step))
        objective.after_step(rbm, context)
    assert objective.chains is not None
    exact = torch.softmax(-rbm.free_energy(all_states(4)), dim=0).detach()
    index = (objective.chains @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    share = torch.bincount(index, minlength=16) / count
    assert bool(((share - exact).abs() < 4.5 * (exact * (1 - exact) / count).sqrt()).all())


def test_chains_are_part_of_the_training_state() -> None:
    objective, other = persistent(5), persistent(5)
    for each in (objective, other):
        each.setup(make_rbm())
    objective.after_step(make_rbm(), CONTEXT)
    assert objective.chains is not None
    assert other.chains is not None
    assert not torch.equal(objective.chains, other.chains)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(objective.chains, other.chains)


def test_persistent_chains_of_probabilities_are_refused() -> None:
    with pytest.raises(ConfigError, match="visible=mean"):
        ContrastiveDivergenceConfig(persistent=5, visible="mean")
