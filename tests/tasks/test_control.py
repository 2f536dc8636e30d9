"""CartPole against gymnasium's, returns in closed form, and a source that resumes exactly."""

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import CheckpointError, ConfigError, MissingExtraError, UnsupportedError
from layerwise.models.control.policy_mlp import PolicyMLP, PolicyMLPConfig
from layerwise.nn.protocols import PolicyOutput
from layerwise.tasks import control
from layerwise.tasks.control import (
    CartPoles,
    Control,
    ControlConfig,
    EpisodeSource,
    discounted_returns,
    make_environments,
    play,
)

BACKENDS = ["own", "gymnasium"]


def policy(seed: int = 0) -> PolicyMLP:
    torch.manual_seed(seed)
    return PolicyMLP(PolicyMLPConfig(in_features=4, num_actions=2))


def source(backend: Any = "own", batch_size: int = 4, seed: int = 0) -> EpisodeSource:
    if backend == "gymnasium":
        pytest.importorskip("gymnasium")
    return EpisodeSource(make_environments(ControlConfig(backend=backend)), batch_size, seed, 0.99)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


class Constant(nn.Module):
    """Takes action 1 with a fixed probability, whatever it sees."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([1 - probability, probability]).log())

    def forward(self, observations: Tensor) -> PolicyOutput:
        return PolicyOutput(self.logits.expand(len(observations), 2), torch.zeros(len(observations)))


def test_cartpole_is_gymnasiums_step_by_step() -> None:
    """Float64, 1e-12; observations, rewards and ends of episodes that fall, and of those still up at the time limit."""
    gymnasium = pytest.importorskip("gymnasium")
    ours, theirs = CartPoles(), [gymnasium.make("CartPole-v1") for _ in range(6)]
    ours.reset(torch.arange(6), seed=0)
    for copy, state in zip(theirs, ours.state, strict=True):
        copy.reset(seed=0)
        copy.unwrapped.state = state.copy()
    rng = np.random.default_rng(0)
    active, ends = np.arange(6), []
    for time in range(1, 600):
        # The first two are kept up by a simple law, the others act at random.
        lawful = (ours.state[active, 2] + 0.5 * ours.state[active, 3] + 0.1 * ours.state[active, 1] > 0).astype(int)
        actions = np.where(active < 2, lawful, rng.integers(0, 2, len(active)))
        observations, rewards, ended = ours.step(active, actions)
        for row, i in enumerate(active):
            seen, reward, terminated, truncated, _ = theirs[i].step(int(actions[row]))
            np.testing.assert_allclose(ours.state[i], theirs[i].unwrapped.state, rtol=0, atol=1e-12)
            np.testing.assert_allclose(observations[row], seen, rtol=1e-6, atol=1e-6)
            assert rewards[row] == reward
            assert ended[row] == (terminated or truncated)
        ends += [time] * int(ended.sum())
        active = active[~ended]
        if not len(active):
            break
    assert len(ends) == 6
    assert min(ends) < 100
    assert max(ends) == 500


def test_starts_are_even_within_a_twentieth() -> None:
    first = CartPoles().reset(torch.arange(4000), seed=0)
    assert np.abs(first).max() <= 0.05
    np.testing.assert_allclose(first.mean(0), 0, atol=4 * 0.05 / 3**0.5 / 4000**0.5)
    np.testing.assert_allclose(first.std(0), 0.05 / 3**0.5, rtol=0.05)


def test_returns_are_the_discounted_sums() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert discounted_returns(rewards, 0.5).tolist() == [[3.0, 4.0, 4.0], [1.0, 0.0, 0.0]]


def test_a_batch_is_flat_over_the_steps_of_its_episodes() -> None:
    (batch,) = source(batch_size=5).next_step(policy())
    lengths = batch["episode"].bincount(minlength=5)
    total = int(lengths.sum())
    assert batch["sample_ids"].tolist() == [0, 1, 2, 3, 4]
    assert batch["observations"].shape == (total, 4)
    assert batch["actions"].shape == batch["returns"].shape == (total,)
    assert batch["episode"].tolist() == sorted(batch["episode"].tolist())
    begin = 0
    for length in lengths.tolist():  # every step of CartPole is worth one
        wanted = torch.tensor([(1 - 0.99 ** (length - t)) / (1 - 0.99) for t in range(length)])
        torch.testing.assert_close(batch["returns"][begin : begin + length], wanted)
        begin += length


def test_observations_follow_from_the_actions() -> None:
    (batch,) = source(batch_size=1).next_step(policy())
    environments = CartPoles()
    observation = environments.reset(torch.tensor([0]), 0)
    for t, action in enumerate(batch["actions"].tolist()):
        torch.testing.assert_close(batch["observations"][t], torch.from_numpy(observation[0]).float(), rtol=0, atol=0)
        observation, _, ended = environments.step(np.array([0]), np.array([action]))
    assert ended[0]


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_actions_are_drawn_by_the_policys_probabilities(probability: float) -> None:
    (batch,) = source(batch_size=200).next_step(Constant(probability))
    count = len(batch["actions"])
    assert count > 1500
    assert (
        abs(float(batch["actions"].double().mean()) - probability)
        < 4 * (probability * (1 - probability) / count) ** 0.5
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_restored_source_gives_the_same_batches(backend: str) -> None:
    first, network = source(backend), policy()
    first.next_step(network)
    first.next_step(network)
    saved = json.dumps(first.state())  # all of it is JSON
    wanted = [first.next_step(network)[0] for _ in range(2)]
    torch.manual_seed(99)
    np.random.seed(99)
    second = source(backend)
    second.load(json.loads(saved))
    got = [second.next_step(network)[0] for _ in range(2)]
    assert all(same(a, b) for a, b in zip(wanted, got, strict=True))
    assert not same(wanted[0], wanted[1])


def test_playing_leaves_the_training_mode_and_the_global_generator_alone() -> None:
    network = policy().train()
    before = torch.get_rng_state()
    source().next_step(network)
    assert network.training
    assert torch.equal(before, torch.get_rng_state())


def test_a_state_of_another_batch_size_or_seed_is_refused() -> None:
    saved = source(batch_size=4).state()
    for other in (source(batch_size=8), source(seed=1)):
        with pytest.raises(CheckpointError, match="batch_size=4 and seed=0"):
            other.load(saved)


def test_processes_play_the_episodes_of_one_batch_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network = policy()
    (whole,) = source(batch_size=5).next_step(network)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(control, "_share", lambda rank=rank: (rank, 2))
        parts.append(source(batch_size=5).next_step(network)[0])
    assert [part["sample_ids"].tolist() for part in parts] == [[0, 2, 4], [1, 3]]
    for part in parts:
        for row, number in enumerate(part["sample_ids"].tolist()):
            mine, all_of_it = part["episode"] == row, whole["episode"] == number
            assert torch.equal(part["actions"][mine], whole["actions"][all_of_it])
            torch.testing.assert_close(part["observations"][mine], whole["observations"][all_of_it])


def test_evaluation_is_greedy_and_the_same_every_time() -> None:
    task, network = Control(ControlConfig(eval_episodes=20)), policy()
    first, table = task.evaluate(network, [{"sample_ids": task.own_samples("val")}])
    torch.manual_seed(5)
    assert task.evaluate(network, [{"sample_ids": task.own_samples("val")}])[0] == first
    assert table["count"] == 20
    played = play(network, CartPoles(), torch.tensor([3]), 0, greedy=True)
    with torch.no_grad():
        assert torch.equal(played.actions[0], network(played.observations[0]).logits.argmax(1))


def test_evaluation_of_a_law_that_balances_is_500() -> None:
    class Law(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([0.0, 0.1, 1.0, 0.5]))

        def forward(self, observations: Tensor) -> PolicyOutput:
            push = observations @ self.weight
            return PolicyOutput(torch.stack([-push, push], 1), push)

    metrics, table = Control(ControlConfig(eval_episodes=20)).evaluate(Law(), [{"sample_ids": torch.arange(20)}])
    assert metrics == {"return": 500.0, "return_min": 500.0, "return_max": 500.0, "episode_length": 500.0}
    assert table["intervals"]["return"] == (500.0, 500.0)


def test_metrics_of_two_processes_are_those_of_one() -> None:
    task, network = Control(ControlConfig(eval_episodes=7)), policy()
    whole, table = task.evaluate(network, [{"sample_ids": task.own_samples("val")}])
    states = []
    for rank in (1, 0):
        accumulator = task.accumulator()
        accumulator.update(network, {"sample_ids": torch.arange(7)[rank::2]})
        states.append(accumulator.state())
    merged = task.accumulator()
    merged.merge(states)
    assert merged.compute() == pytest.approx(whole)
    assert merged.table()["returns"] == table["returns"]


def test_without_gymnasium_cartpole_works_and_others_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    assert Control(ControlConfig()).facts() == {"in_features": 4, "num_actions": 2}
    with pytest.raises(MissingExtraError, match=r"layerwise\[rl\]"):
        Control(ControlConfig(environment="Acrobot-v1"))


def test_environments_that_do_not_fit_are_named() -> None:
    pytest.importorskip("gymnasium")
    with pytest.raises(ConfigError, match="NoSuchThing"):
        Control(ControlConfig(environment="NoSuchThing-v0"))
    with pytest.raises(UnsupportedError, match="Box"):
        Control(ControlConfig(environment="Pendulum-v1"))
    with pytest.raises(ConfigError, match="only CartPole-v1"):
        Control(ControlConfig(environment="Acrobot-v1", backend="own"))


def test_another_environment_of_gymnasium_is_played() -> None:
    pytest.importorskip("gymnasium")
    task = Control(ControlConfig(environment="Acrobot-v1"))
    assert task.facts() == {"in_features": 6, "num_actions": 3}
    network = PolicyMLP(PolicyMLPConfig(in_features=6, num_actions=3))
    (batch,) = task.make_source(network, 2, 0).next_step(network)
    assert batch["observations"].shape[1] == 6
    assert set(batch["actions"].tolist()) <= {0, 1, 2}
    assert float(batch["returns"].min()) < -5  # Acrobot gives minus one a step


def test_weights_of_another_environment_are_refused() -> None:
    with pytest.raises(CheckpointError, match="Acrobot-v1"):
        Control(ControlConfig()).load({"environment": "Acrobot-v1", "in_features": 6, "num_actions": 3})
