"""Actor and critic are two networks, and the first policy is no policy."""

import torch

from layerwise.models.control.policy_mlp import PolicyMLP, PolicyMLPConfig
from layerwise.nn.protocols import ActorCritic

CONFIG = PolicyMLPConfig(in_features=4, num_actions=3)


def test_it_is_an_actor_critic() -> None:
    assert isinstance(PolicyMLP(CONFIG), ActorCritic)


def test_the_value_error_does_not_reach_the_actor() -> None:
    net = PolicyMLP(CONFIG)
    net(torch.randn(5, 4)).value.sum().backward()
    assert all(parameter.grad is None for parameter in net.actor.parameters())
    assert all(parameter.grad is not None for parameter in net.critic.parameters())


def test_it_starts_with_nearly_even_choices() -> None:
    torch.manual_seed(0)
    policy = PolicyMLP(CONFIG)(torch.randn(100, 4)).logits.detach().softmax(1)
    assert float((policy - 1 / 3).abs().max()) < 0.02


def test_hidden_weights_are_orthogonal_with_gain_root_two() -> None:
    weight = PolicyMLP(CONFIG).actor[0].weight.detach().double()  # [64, 4]: columns are orthogonal
    assert isinstance(weight, torch.Tensor)
    torch.testing.assert_close(weight.T @ weight, 2 * torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-5)
