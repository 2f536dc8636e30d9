"""Recurrent language models: equal to the cells as written, cached = uncached, tied weights, published sizes."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.infer.generate import Sampling, generate
from layerwise.models.language.rnn import PRESETS, RNN, RNNConfig
from layerwise.nn.protocols import Recurrent, vocabulary_weights
from layerwise.nn.recurrent import CellName, cell_weights
from layerwise.ops.recurrent import CELLS, unroll

CELL_NAMES: list[CellName] = ["rnn", "lstm", "gru"]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def random_rnn(cell: CellName, dtype: torch.dtype = torch.float64, **options: float | bool) -> RNN:
    """Every parameter far from its initial value, so that biases count."""
    sizes = {"d_model": 6, "hidden_size": 10} | options
    torch.manual_seed(0)
    model = RNN(RNNConfig(vocab_size=31, cell=cell, dropout=0.0, **sizes)).to(dtype).eval()  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.5)
    return model


def tokens(batch: int = 2, length: int = 24) -> Tensor:
    return torch.randint(31, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("cell", "depth", "dtype"), list(product(CELL_NAMES, [1, 2, 3], TOLERANCE)), ids=str)
def test_logits_equal_the_equations(cell: CellName, depth: int, dtype: torch.dtype) -> None:
    model = random_rnn(cell, dtype, num_layers=depth)
    state = tuple(torch.zeros(depth, 2, 10, dtype=dtype) for _ in range(2 if cell == "lstm" else 1))
    with torch.no_grad():
        hidden, _ = unroll(CELLS[cell], cell_weights(model.rnn), model.encoder.weight[tokens()], state)
        wanted = hidden @ model.decoder.weight.T + model.decoder.bias
        got = model(tokens())
    assert float((got - wanted).norm() / wanted.norm()) < TOLERANCE[dtype]


@pytest.mark.parametrize("parts", [[24], [1] * 24, [10, 1, 1, 5, 7], [23, 1]], ids=str)
@pytest.mark.parametrize(("cell", "dtype"), list(product(CELL_NAMES, TOLERANCE)), ids=str)
def test_cached_logits_equal_the_whole_pass(cell: CellName, dtype: torch.dtype, parts: list[int]) -> None:
    model = random_rnn(cell, dtype)
    with torch.no_grad():
        cache = model.init_cache(2)
        cached = torch.cat([model(part, cache=cache) for part in tokens().split(parts, dim=1)], dim=1)
        whole = model(tokens())
    assert float((cached - whole).norm() / whole.norm()) < TOLERANCE[dtype]
    assert cache.position == 24


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_greedy_generation_equals_reading_the_whole_text_every_time(cell: CellName) -> None:
    model, prompt = random_rnn(cell), tokens(1, 5)[0]
    (made,) = generate(model, prompt, Sampling(max_new_tokens=40, temperature=0.0))
    text = prompt
    with torch.no_grad():
        for _ in range(40):
            text = torch.cat([text, model(text[None])[0, -1].argmax()[None]])
    assert torch.equal(made, text)


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_gradients_flow_through_a_state_that_has_them(cell: CellName) -> None:
    """Two windows with the state between them have the gradient of the whole; a detached state has not."""
    model = random_rnn(cell)
    slope = torch.randn(2, 24, 31, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    slope[:, :12] = 0

    def gradient(detach: bool) -> Tensor:
        cache = model.init_cache(2)
        first = model(tokens()[:, :12], cache=cache)
        if detach:
            cache.state = tuple(part.detach() for part in cache.state)
        second = model(tokens()[:, 12:], cache=cache)
        loss = (torch.cat([first, second], 1) * slope).sum()
        return torch.autograd.grad(loss, cell_weights(model.rnn)[0].w_hh)[0]

    whole = torch.autograd.grad((model(tokens()) * slope).sum(), cell_weights(model.rnn)[0].w_hh)[0]
    torch.testing.assert_close(gradient(detach=False), whole, rtol=1e-10, atol=1e-10)
    assert float((gradient(detach=True) - whole).norm() / whole.norm()) > 1e-3


def test_tied_weights_are_one_matrix_with_the_gradient_of_both_ends() -> None:
    model = random_rnn("lstm", tie_weights=True, hidden_size=6)
    assert sum(p.numel() for p in model.parameters()) == 31 * 6 + 31 + 2 * (2 * 24 * 6 + 2 * 24)
    loss = model(tokens()).logsumexp(-1).sum()
    (both,) = torch.autograd.grad(loss, model.encoder.weight)
    table, matrix = (model.encoder.weight.detach().clone().requires_grad_() for _ in range(2))
    hidden, _ = model.rnn(F.embedding(tokens(), table))
    ends = torch.autograd.grad(F.linear(hidden, matrix, model.decoder.bias).logsumexp(-1).sum(), [table, matrix])
    torch.testing.assert_close(both, ends[0] + ends[1], rtol=1e-10, atol=1e-10)
    weight, bias = vocabulary_weights(model) or (None, None)
    assert weight is model.encoder.weight
    assert bias is model.decoder.bias


# Zaremba, Sutskever and Vinyals 2014, section 4.1: two layers of 650 and of 1500 units on 10,000 words; the numbers of
# weights written out: V D + sum over layers of 4 H (D + H + 2) + V (H + 1). Tables of later papers have 20M and 66M.
@pytest.mark.parametrize(("name", "count"), [("lstm-word-medium", 19_780_400), ("lstm-word-large", 66_034_000)])
def test_presets_have_the_published_sizes(name: str, count: int) -> None:
    config = PRESETS[name]
    with torch.device("meta"):
        found = sum(p.numel() for p in RNN(config).parameters())
    units, words = config.hidden_size, 10_000
    assert found == count == words * units + 2 * 4 * units * (2 * units + 2) + words * (units + 1)
    assert count / 1e6 == pytest.approx({650: 20, 1500: 66}[units], rel=0.02)


def test_dropout_is_on_embeddings_between_layers_and_before_the_output_in_training_only() -> None:
    torch.manual_seed(0)
    model = RNN(RNNConfig(vocab_size=31, d_model=64, hidden_size=64, num_layers=2, dropout=0.5))
    assert model.rnn.dropout == 0.5
    zeros = (model.forward_features(tokens()) == 0).double().mean()
    assert float(zeros) == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(model(tokens()), model(tokens()))
    model.eval()
    assert torch.equal(model(tokens()), model(tokens()))


def test_a_fresh_model_scores_nearly_uniformly() -> None:
    torch.manual_seed(0)
    model = RNN(RNNConfig(vocab_size=31, d_model=32, hidden_size=32)).eval()
    with torch.no_grad():
        loss = F.cross_entropy(model(tokens())[:, :-1].flatten(0, 1), tokens()[:, 1:].flatten())
    assert float(loss) == pytest.approx(math.log(31), abs=0.05)


def test_it_is_recurrent_and_has_no_longest_text() -> None:
    model = random_rnn("gru")
    assert isinstance(model, Recurrent)
    assert model.init_cache(2, 7).max_seq_len == 7
    with torch.no_grad():
        assert model(tokens(1, 3000)).shape == (1, 3000, 31)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ConfigError, match="hidden_size=20 must be d_model=10"):
        RNNConfig(d_model=10, hidden_size=20, tie_weights=True)
    with pytest.raises(ConfigError, match="vocab_size"):
        RNN(RNNConfig())
