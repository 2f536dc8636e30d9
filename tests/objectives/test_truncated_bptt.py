"""Truncated back-propagation through time: the state of the step before, its gradient cut, however a batch is split."""

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.data.feed import Feed
from layerwise.data.token_windows import TokenWindows
from layerwise.models.language.gpt import GPT, GPTConfig
from layerwise.models.language.rnn import RNN, RNNConfig
from layerwise.nn.recurrent import CellName
from layerwise.objectives.truncated_bptt import TruncatedBPTT, TruncatedBPTTConfig
from layerwise.optim.groups import parameter_groups
from layerwise.optim.torch_optimizers import SGD, SGDConfig
from layerwise.train.loop import LoopSettings, PhasePlan, Trainer

WINDOW = 5


def text(length: int = 200) -> Tensor:
    return torch.randint(11, (length,), generator=torch.Generator().manual_seed(1))


def network(cell: CellName = "lstm") -> RNN:
    torch.manual_seed(0)
    model = RNN(RNNConfig(vocab_size=11, cell=cell, d_model=6, hidden_size=7, num_layers=2, dropout=0.0)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


def trainer(
    model: nn.Module, *, steps: int, batch_size: int = 4, micro: int | None = None, lr: float = 0.3, length: int = 200
) -> Trainer:
    objective = TruncatedBPTT(TruncatedBPTTConfig())
    objective.setup(model)
    feed = Feed(TokenWindows(text(length), WINDOW), dict, batch_size=batch_size, micro_batch_size=micro, streams=True)
    named = list(model.named_parameters())
    plan = PhasePlan(
        name="main",
        parameters=named,
        optimizer=SGD(SGDConfig(lr=lr, momentum=0.0), parameter_groups(named, weight_decay=0.0)),
        schedule=lambda *_: 1.0,
    )
    return Trainer(model, objective, feed, [plan], LoopSettings(max_steps=steps))


def by_hand(model: RNN, *, steps: int, streams: int = 4, lr: float = 0.3, carry: bool = True) -> None:
    """The loop as tutorials write it: the text as rows, the state detached after every window."""
    tokens = text()
    windows = -(-(len(tokens) - 1) // WINDOW)
    assert windows % streams == 0
    rows = tokens[: windows * WINDOW].view(streams, -1)
    following = F.pad(tokens[1:], (0, 1), value=-100)[: windows * WINDOW].view(streams, -1)
    state = None
    for step in range(steps):
        at = slice(step * WINDOW, (step + 1) * WINDOW)
        hidden, state = model.rnn(model.encoder(rows[:, at]), state)
        loss = F.cross_entropy(model.decoder(hidden).flatten(0, 1), following[:, at].flatten(), ignore_index=-100)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr * gradient
        state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        state = state if carry else None


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_pass_equals_the_loop_written_by_hand(cell: CellName) -> None:
    ours, wanted = network(cell), network(cell)
    trainer(ours, steps=10).fit()
    by_hand(wanted, steps=10)
    torch.testing.assert_close(flat(ours), flat(wanted), rtol=0, atol=1e-10)
    without = network(cell)
    by_hand(without, steps=10, carry=False)
    assert not torch.allclose(flat(ours), flat(without), atol=1e-4)


@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_carry_the_same_states(micro: int) -> None:
    """Over two passes with a last batch that is not full: 41 windows in 4 streams."""
    whole, split = network(), network()
    trainer(whole, steps=22, length=41 * WINDOW).fit()
    trainer(split, steps=22, length=41 * WINDOW, micro=micro).fit()
    torch.testing.assert_close(flat(split), flat(whole), rtol=0, atol=1e-10)


def test_it_resumes_in_the_middle_of_a_pass() -> None:
    straight = network()
    trainer(straight, steps=17).fit()
    first = network()
    started = trainer(first, steps=17)
    started.settings = LoopSettings(max_steps=6)
    started.fit()
    tree: dict[str, Any] = copy.deepcopy(started.state())
    assert {"carried.positions", "carried.part_0", "carried.part_1"} == set(tree["objective"])
    assert tree["objective"]["carried.part_0"].shape == (4, 2, 7)
    assert float(tree["objective"]["carried.part_0"].abs().min()) > 0
    later = network()
    resumed = trainer(later, steps=17)
    resumed.load(tree)
    resumed.extend()
    resumed.fit()
    assert torch.equal(flat(later), flat(straight))


def test_a_fresh_pass_goes_on_from_the_neighbour_and_the_first_stream_from_zeros() -> None:
    model = network()
    made = trainer(model, steps=10, lr=0.0)
    made.fit()
    ends = made.objective.state_dict()
    with torch.no_grad():
        cache = model.init_cache(1)
        model(text()[:150][None], cache=cache)  # streams of 50 tokens: the fourth begins at 150
    place = ends["carried.positions"].tolist().index(150)
    # Streams began from zeros in this pass, so the state is that of tokens 100 to 149.
    with torch.no_grad():
        own = model.init_cache(1)
        model(text()[100:150][None], cache=own)
    torch.testing.assert_close(ends["carried.part_0"][place], own.state[0][:, 0], rtol=0, atol=1e-12)
    made.settings = LoopSettings(max_steps=20)
    made.extend()
    made.fit()
    place = made.objective.state_dict()["carried.positions"].tolist().index(150)
    with torch.no_grad():
        two = model.init_cache(1)
        model(text()[50:150][None], cache=two)  # the neighbour's state of the pass before, which began from zeros
    torch.testing.assert_close(
        made.objective.state_dict()["carried.part_0"][place], two.state[0][:, 0], rtol=0, atol=1e-12
    )


def test_the_loss_is_the_mean_over_targets() -> None:
    model = network()
    made = trainer(model, steps=1, batch_size=1, lr=0.0)
    made.fit()
    with torch.no_grad():
        expected = F.cross_entropy(model(text()[None, :WINDOW])[0], text()[1 : WINDOW + 1])
    assert made.last_loss == pytest.approx(float(expected), abs=1e-12)
    assert made.last_loss != pytest.approx(math.log(11), abs=1e-3)


def test_a_model_without_a_state_is_refused() -> None:
    objective = TruncatedBPTT(TruncatedBPTTConfig())
    with pytest.raises(UnsupportedError, match="objective=truncated_bptt needs a model with recurrent_state; GPT"):
        objective.setup(GPT(GPTConfig(vocab_size=5, max_seq_len=8, d_model=4, num_heads=1, num_layers=1)))


def test_windows_that_overlap_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"leave out task\.stride"):
        Feed(TokenWindows(text(), WINDOW, stride=2), dict, batch_size=4, streams=True)
