"""Control: a policy acts in an environment, and what it meets is its training data.

A step's data are whole episodes that the present policy plays, `batch_size` of them side by side. Everything random in
an episode (its start, its actions) is a hash of (seed, episode number), so the source's whole state between two steps
is the number of episodes played: a resumed run meets the same starts and draws the same actions, in any environment
whose `reset(seed=...)` decides its future.

CartPole is our own, batched in arrays; other environments come from gymnasium. Its dynamics are those of gymnasium's
CartPole-v1, after A. G. Barto, R. S. Sutton, C. W. Anderson, "Neuronlike adaptive elements that can solve difficult
learning control problems", IEEE Trans. SMC 13, 1983.

Shapes: N episodes, T steps of the longest, M steps of all, F observation width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from layerwise.core.config import Fraction, PositiveInt
from layerwise.core.errors import CheckpointError, ConfigError, MissingExtraError, UnsupportedError
from layerwise.core.seeding import derive_seed
from layerwise.data.examples import Splits
from layerwise.ops.random import Draws
from layerwise.tasks.base import Accumulator, Batch, Task

_TEST_EPISODES = (
    1_000_000  # episodes of the test are numbered from here: none of them is played when weights are selected
)


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """Options of control.

    Args:
        environment: a name that gymnasium knows; actions must be a finite choice and observations a vector.
        backend: "own" is the batched CartPole-v1, "gymnasium" that package; "auto" takes our own where there is one.
        discount: factor of the reward a step later.
        eval_episodes: episodes of an evaluation, played without chance in the actions.
    """

    environment: str = "CartPole-v1"
    backend: Literal["auto", "own", "gymnasium"] = "auto"
    discount: Fraction = 0.99
    eval_episodes: PositiveInt = 32


class Environments(Protocol):
    """Several copies of one environment, stepped together."""

    in_features: int
    num_actions: int
    max_steps: int  # of an episode

    def reset(self, episodes: Tensor, seed: int) -> np.ndarray:
        """Start the episodes of these numbers, int64 [N]; first observations [N, F]."""
        ...

    def step(self, active: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Act in the copies `active` [K]; their observations [K, F], rewards [K], and whether they ended [K]."""
        ...


class CartPoles:
    """CartPole-v1 batched in float64; the state is position, velocity, angle and angular velocity (SI)."""

    in_features, num_actions, max_steps = 4, 2, 500

    def __init__(self) -> None:
        self.state = np.zeros((0, 4))
        self.time = 0

    def reset(self, episodes: Tensor, seed: int) -> np.ndarray:
        self.state = Draws(seed, "start").uniform(episodes, (4,), "state", torch.float64).numpy() * 0.1 - 0.05
        self.time = 0
        return self.state

    def step(self, active: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position, velocity, angle, spin = self.state[active].T
        gravity, pole_mass, total_mass, half_length, tau = 9.8, 0.1, 1.1, 0.5, 0.02
        cosine, sine = np.cos(angle), np.sin(angle)
        push = (np.where(actions == 1, 10.0, -10.0) + pole_mass * half_length * spin**2 * sine) / total_mass
        spin_rate = (gravity * sine - cosine * push) / (half_length * (4.0 / 3.0 - pole_mass * cosine**2 / total_mass))
        acceleration = push - pole_mass * half_length * spin_rate * cosine / total_mass
        moved = np.stack(
            (position + tau * velocity, velocity + tau * acceleration, angle + tau * spin, spin + tau * spin_rate),
            axis=1,
        )
        self.state[active] = moved
        self.time += 1
        fallen = (np.abs(moved[:, 0]) > 2.4) | (np.abs(moved[:, 2]) > 12 * 2 * np.pi / 360)
        return moved, np.ones(len(active)), fallen | (self.time >= self.max_steps)


class GymnasiumEnvironments:
    """Copies of a gymnasium environment, stepped one by one.

    Args:
        name: registered name.

    Raises:
        MissingExtraError: gymnasium is not installed.
        ConfigError: there is no such environment.
        UnsupportedError: actions or observations of another kind.
    """

    def __init__(self, name: str) -> None:
        try:
            import gymnasium
        except ImportError:
            raise MissingExtraError("gymnasium", "rl", f"task.environment={name}") from None
        self._make = lambda: gymnasium.make(name)
        try:
            first = self._make()
        except gymnasium.error.DependencyNotInstalled as error:
            raise UnsupportedError(f"task.environment={name}: {error}") from error
        except gymnasium.error.Error as error:
            raise ConfigError(f"task.environment={name}: {error}") from error
        actions, observations = first.action_space, first.observation_space
        if not isinstance(actions, gymnasium.spaces.Discrete) or not isinstance(observations, gymnasium.spaces.Box):
            raise UnsupportedError(
                f"task.environment={name}: actions {actions}, observations {observations}; needed: Discrete, Box."
            )
        self._copies: list[Any] = [first]
        self._first_action = int(actions.start)
        self.num_actions, self.in_features = int(actions.n), int(np.prod(observations.shape))
        self.max_steps = (first.spec.max_episode_steps if first.spec else None) or 10_000

    def reset(self, episodes: Tensor, seed: int) -> np.ndarray:
        while len(self._copies) < len(episodes):
            self._copies.append(self._make())
        seeds = [derive_seed(seed, "start", number) % 2**31 for number in episodes.tolist()]
        return np.stack([copy.reset(seed=s)[0].reshape(-1) for copy, s in zip(self._copies, seeds, strict=False)])

    def step(self, active: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        results = [self._copies[i].step(self._first_action + int(a)) for i, a in zip(active, actions, strict=True)]
        observations, rewards, ended, cut, _ = zip(*results, strict=True)
        return (
            np.stack([o.reshape(-1) for o in observations]),
            np.array(rewards, np.float64),
            np.array(ended) | np.array(cut),
        )


def make_environments(config: ControlConfig) -> Environments:
    """The environment that the options name."""
    own = config.environment == "CartPole-v1"
    if config.backend == "own" and not own:
        raise ConfigError(
            f"task.backend=own: only CartPole-v1 is our own, not {config.environment!r}; set task.backend=auto."
        )
    return CartPoles() if own and config.backend != "gymnasium" else GymnasiumEnvironments(config.environment)


class Episodes(NamedTuple):
    """Played episodes, padded: observations [N, T, F], actions [N, T], rewards float64 [N, T]; lengths [N]."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    lengths: Tensor


@torch.no_grad()
def play(network: nn.Module, environments: Environments, episodes: Tensor, seed: int, *, greedy: bool) -> Episodes:
    """Whole episodes of the numbers given, int64 [N], by the network's policy.

    Args:
        network: gives `logits` for observations.
        environments: where it acts.
        episodes: their numbers; each decides its start and its draws together with the seed.
        seed: of starts and draws.
        greedy: take the likeliest action instead of a drawn one.
    """
    count, device = len(episodes), next(network.parameters()).device
    drawn = Draws(seed, "act").uniform(episodes, (environments.max_steps,), "action")
    seen = torch.zeros(environments.max_steps, count, environments.in_features)
    taken = torch.zeros(environments.max_steps, count, dtype=torch.int64)
    rewards, lengths = np.zeros((environments.max_steps, count)), np.zeros(count, np.int64)
    active = np.arange(count)
    observations = torch.from_numpy(environments.reset(episodes, seed)).float()
    for time in range(environments.max_steps):
        logits = network(observations=observations.to(device)).logits.float().cpu()
        index = torch.from_numpy(active)
        if greedy:
            actions = logits.argmax(1)
        else:  # by inversion: the first action whose cumulated probability exceeds the draw
            actions = (logits.softmax(1).cumsum(1)[:, :-1] <= drawn[index, time, None]).sum(1)
        seen[time, index], taken[time, index] = observations, actions
        following, rewards[time, active], ended = environments.step(active, actions.numpy())
        lengths[active] += 1
        active = active[~ended]
        if not len(active):
            break
        observations = torch.from_numpy(following[~ended]).float()
    longest = int(lengths.max())
    return Episodes(
        seen[:longest].transpose(0, 1),
        taken[:longest].T,
        torch.from_numpy(rewards[:longest].T.copy()),
        torch.from_numpy(lengths),
    )


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """`G_t = r_t + discount * G_{t+1}` along the last dimension, float64 [N, T]."""
    returns = torch.zeros_like(rewards)
    later = torch.zeros_like(rewards[:, 0])
    for time in range(rewards.shape[1] - 1, -1, -1):
        later = rewards[:, time] + discount * later
        returns[:, time] = later
    return returns


def _share() -> tuple[int, int]:
    """Rank and number of processes."""
    from torch import distributed

    return (
        (distributed.get_rank(), distributed.get_world_size())
        if distributed.is_available() and distributed.is_initialized()
        else (0, 1)
    )


class EpisodeSource:
    """The batch source that acts: every step is `batch_size` new episodes of the network as it is then.

    Args:
        environments: where it acts.
        batch_size: episodes a step, over all processes; each plays its share.
        seed: of starts and actions.
        discount: factor of the reward a step later.

    A batch is flat over the steps of its episodes: `observations` [M, F], `actions` [M], `returns` [M], `episode` [M]
    (index into `sample_ids`), and `sample_ids` [N], the episodes' numbers.
    """

    steps_per_epoch: int | None = None
    epoch: int = 0

    def __init__(self, environments: Environments, batch_size: int, seed: int, discount: float) -> None:
        self.environments, self.batch_size, self.seed, self.discount = environments, batch_size, seed, discount
        self.episodes = 0  # played so far, over all processes

    def next_step(self, network: nn.Module) -> list[Batch]:
        rank, world_size = _share()
        numbers = torch.arange(self.episodes, self.episodes + self.batch_size)[rank::world_size]
        self.episodes += self.batch_size
        if not len(numbers):
            raise ConfigError(
                f"batch_size={self.batch_size}: each of {world_size} processes must have an episode to play."
            )
        training = network.training
        played = play(network.eval(), self.environments, numbers, self.seed, greedy=False)
        network.train(training)
        valid = torch.arange(played.rewards.shape[1]) < played.lengths[:, None]
        device = next(network.parameters()).device
        batch = {
            "observations": played.observations[valid],
            "actions": played.actions[valid],
            "returns": discounted_returns(played.rewards, self.discount)[valid].float(),
            "episode": valid.nonzero()[:, 0],
            "sample_ids": numbers,
        }
        return [{name: value.to(device) for name, value in batch.items()}]

    def state(self) -> dict[str, Any]:
        return {"episodes": self.episodes, "batch_size": self.batch_size, "seed": self.seed}

    def load(self, tree: dict[str, Any]) -> None:
        if (tree["batch_size"], tree["seed"]) != (self.batch_size, self.seed):
            raise CheckpointError(
                f"The state was saved with batch_size={tree['batch_size']} and seed={tree['seed']}, "
                f"now they are {self.batch_size} and {self.seed}."
            )
        self.episodes = tree["episodes"]


class ReturnMetrics(Accumulator):
    """Undiscounted return (mean, lowest, highest) and mean length of greedy episodes, numbered by the sample ids."""

    def __init__(self, environments: Environments, seed: int) -> None:
        self.environments, self.seed = environments, seed
        self.rows = {
            "episode": torch.zeros(0, dtype=torch.int64),
            "return": torch.zeros(0, dtype=torch.float64),
            "length": torch.zeros(0),
        }

    def update(self, network: nn.Module, batch: Batch) -> None:
        numbers = batch["sample_ids"].cpu()
        if not len(numbers):
            return
        played = play(network, self.environments, numbers, self.seed, greedy=True)
        fresh = {"episode": numbers, "return": played.rewards.sum(1), "length": played.lengths.float()}
        self.merge([self.rows, fresh])

    def state(self) -> dict[str, Tensor]:
        return self.rows

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        rows = {name: torch.cat([s[name] for s in states]) for name in self.rows}
        order = torch.argsort(rows["episode"], stable=True)
        self.rows = {name: value[order] for name, value in rows.items()}

    def compute(self) -> dict[str, float]:
        returns = self.rows["return"]
        if not len(returns):
            return {}
        lengths = self.rows["length"].double()
        return {
            "return": float(returns.mean()), "return_min": float(returns.min()), "return_max": float(returns.max()),
            "episode_length": float(lengths.mean()),
        }  # fmt: skip

    def table(self) -> dict[str, Any]:
        returns = self.rows["return"]
        error = float(returns.std() / len(returns) ** 0.5) if len(returns) > 1 else 0.0
        mean = float(returns.mean()) if len(returns) else 0.0
        return {
            "returns": returns.tolist(),
            "count": len(returns),
            "intervals": {"return": (mean - 1.96 * error, mean + 1.96 * error)},
        }


class Control(Task):
    """Batches come from the policy's own episodes; see `EpisodeSource` for their columns."""

    monitor = ("return", "max")
    needs_data = False

    def __init__(self, config: ControlConfig) -> None:
        self.config = config
        self.environments = make_environments(config)

    def bind(self, splits: Splits) -> None:
        """Nothing to learn: the environment says what there is."""

    def state(self) -> dict[str, Any]:
        return {"environment": self.config.environment, **self.facts()}

    def load(self, state: dict[str, Any]) -> None:
        if {key: state[key] for key in ("in_features", "num_actions")} != self.facts():
            raise CheckpointError(
                f"The weights act in {state['environment']}, task.environment is {self.config.environment}."
            )

    def facts(self) -> dict[str, Any]:
        return {"in_features": self.environments.in_features, "num_actions": self.environments.num_actions}

    def accumulator(self) -> ReturnMetrics:
        return ReturnMetrics(make_environments(self.config), derive_seed(0, "evaluation"))

    def own_samples(self, part: str) -> Tensor:
        return torch.arange(self.config.eval_episodes) + (_TEST_EPISODES if part == "test" else 0)

    def make_source(self, network: nn.Module, batch_size: int, seed: int) -> EpisodeSource:
        return EpisodeSource(
            make_environments(self.config), batch_size, derive_seed(seed, "episodes"), self.config.discount
        )


TASKS = {"control": ControlConfig()}
