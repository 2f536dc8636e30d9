"""REINFORCE's terms and gradients against closed forms, float64 1e-10."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from layerwise.objectives.base import Batch, Context
from layerwise.objectives.policy_gradient import PolicyGradient, PolicyGradientConfig
from layerwise.ops.random import Draws

CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))
STEPS, ACTIONS = 7, 3


class Output(NamedTuple):
    logits: Tensor
    value: Tensor


class Tabular(nn.Module):
    """Logits and a value for each step of the batch: their gradients are those of the loss itself."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.logits = nn.Parameter(torch.randn(STEPS, ACTIONS, generator=generator, dtype=torch.float64))
        self.value = nn.Parameter(torch.randn(STEPS, generator=generator, dtype=torch.float64))

    def forward(self, observations: Tensor) -> Output:
        return Output(self.logits, self.value)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return {
        "observations": torch.zeros(STEPS, 1),
        "actions": torch.randint(0, ACTIONS, (STEPS,), generator=generator),
        "returns": torch.randn(STEPS, generator=generator, dtype=torch.float64) * 5,
        "sample_ids": torch.arange(2),
    }


def gradients(config: PolicyGradientConfig, term: str) -> tuple[Tensor, Tensor]:
    network = Tabular()
    found = PolicyGradient(config)(network, batch(), CONTEXT)[term]
    logits, value = torch.autograd.grad(found.sum / found.count, [network.logits, network.value], allow_unused=True)
    return torch.zeros(1) if logits is None else logits, torch.zeros(1) if value is None else value


def advantages() -> Tensor:
    return batch()["returns"] - Tabular().value.detach()


def test_policy_gradient_is_advantage_times_score() -> None:
    network, data = Tabular(), batch()
    taken = torch.zeros(STEPS, ACTIONS, dtype=torch.float64)
    taken[torch.arange(STEPS), data["actions"]] = 1
    wanted = -(taken - network.logits.detach().softmax(1)) * advantages()[:, None] / STEPS
    logits, value = gradients(PolicyGradientConfig(), "policy")
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-10)
    assert not value.any()  # the baseline is a constant of this term


def test_baseline_learns_the_return() -> None:
    logits, value = gradients(PolicyGradientConfig(), "value")
    torch.testing.assert_close(value, -2 * advantages() / STEPS, rtol=0, atol=1e-10)
    assert not logits.any()


def test_entropy_of_even_choices_is_the_logarithm_of_their_number() -> None:
    network = Tabular()
    with torch.no_grad():
        network.logits.zero_()
    term = PolicyGradient(PolicyGradientConfig(entropy_weight=0.1))(network, batch(), CONTEXT)["entropy"]
    assert term.weight == 0.1
    assert (term.sum / term.count).item() == pytest.approx(-torch.log(torch.tensor(3.0, dtype=torch.float64)).item())


def test_normalised_advantages_have_mean_zero_and_deviation_one() -> None:
    network, data = Tabular(), batch()
    advantage = advantages()
    advantage = (advantage - advantage.mean()) / advantage.std()
    taken = torch.zeros(STEPS, ACTIONS, dtype=torch.float64)
    taken[torch.arange(STEPS), data["actions"]] = 1
    wanted = -(taken - network.logits.detach().softmax(1)) * advantage[:, None] / STEPS
    logits, _ = gradients(PolicyGradientConfig(normalise_advantages=True), "policy")
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-7)  # 1e-8 guards the division


def test_terms_that_depend_on_batch_mates_are_declared() -> None:
    plain, normalised = (PolicyGradient(PolicyGradientConfig(normalise_advantages=n)) for n in (False, True))
    assert plain.per_batch == ()
    assert plain.counts(batch(), "main") == {"policy": 7.0, "value": 7.0, "entropy": 7.0}
    assert normalised.per_batch == ("policy",)
    assert normalised.counts(batch(), "main") == {"value": 7.0, "entropy": 7.0}
