"""Choosing tokens against distributions written out; cached generation against generation without a cache."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.infer.generate import Sampling, choose, generate, generate_text, next_token_probabilities
from layerwise.models.language.gpt import GPT, GPTConfig

LOGITS = torch.tensor([[0.0, 2.0, 1.0, 2.0, -1.0]])


def gpt(max_seq_len: int = 32) -> GPT:
    torch.manual_seed(0)
    network = GPT(GPTConfig(vocab_size=11, max_seq_len=max_seq_len, d_model=16, num_layers=2, num_heads=2)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.5)
    return network


def softmax(*values: float) -> list[float]:
    exps = [2.718281828459045**v for v in values]
    return [e / sum(exps) for e in exps]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), softmax(0, 2, 1, 2, -1)),
        (Sampling(temperature=0.5), softmax(0, 4, 2, 4, -2)),
        (Sampling(temperature=0), [0, 1, 0, 0, 0]),
        (Sampling(top_k=1), [0, 1, 0, 0, 0]),
        (Sampling(top_k=3), [0, *softmax(2, 1, 2), 0]),
        (Sampling(top_k=99), softmax(0, 2, 1, 2, -1)),
        # In order of likelihood the shares are 0.388, 0.388, 0.143, 0.052, 0.019.
        (Sampling(top_p=0.3), [0, 1, 0, 0, 0]),
        (Sampling(top_p=0.5), [0, 0.5, 0, 0.5, 0]),
        (Sampling(top_p=0.8), [0, *softmax(2, 1, 2), 0]),
        (Sampling(top_p=1.0), softmax(0, 2, 1, 2, -1)),
        (Sampling(top_k=3, top_p=0.8), [0, 0.5, 0, 0.5, 0]),
    ],
    ids=str,
)
def test_distributions(sampling: Sampling, expected: list[float]) -> None:
    found = next_token_probabilities(LOGITS, sampling)[0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_uniform_numbers_pick_by_cumulative_probability() -> None:
    probabilities = torch.tensor([[0.2, 0.0, 0.5, 0.3, 0.0]], dtype=torch.float64)
    uniform = torch.tensor([0.0, 0.19, 0.2, 0.69, 0.71, 0.9999999999999999], dtype=torch.float64)
    assert choose(probabilities.expand(6, -1), uniform).tolist() == [0, 0, 2, 2, 3, 3]


def test_tokens_come_up_as_often_as_they_should() -> None:
    class Fixed(nn.Module):
        max_seq_len = 8

        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(LOGITS[0])

        def init_cache(self, batch_size: int, max_seq_len: int | None = None) -> object:
            return type("Empty", (), {"position": 0, "max_seq_len": 8, "rewind": lambda self, position: None})()

        def forward(self, tokens: Tensor, cache: object = None) -> Tensor:
            return self.logits.expand(*tokens.shape, 5)

    count = 20_000
    made = generate(Fixed(), torch.tensor([0]), Sampling(max_new_tokens=1), count=count)
    shares = torch.bincount(torch.stack(made)[:, 1], minlength=5) / count
    # The standard error of a share is at most 0.0035.
    torch.testing.assert_close(shares, torch.tensor(softmax(0, 2, 1, 2, -1)), atol=0.014, rtol=0)


def test_greedy_generation_equals_recomputing_everything() -> None:
    network, text = gpt(), torch.tensor([3, 1, 4])
    expected = text
    with torch.no_grad():
        for _ in range(20):
            expected = torch.cat([expected, network.eval()(expected[None])[0, -1].argmax()[None]])
    made = generate(network, text, Sampling(max_new_tokens=20, temperature=0))
    assert made[0].tolist() == expected.tolist()


def test_samples_depend_on_seed_and_index_alone() -> None:
    network, text, sampling = gpt(), torch.tensor([1, 2]), Sampling(max_new_tokens=12)
    three = [row.tolist() for row in generate(network, text, sampling, seed=5, count=3)]
    torch.manual_seed(99)
    assert [row.tolist() for row in generate(network, text, sampling, seed=5, count=1)] == three[:1]
    assert len({tuple(row) for row in three}) == 3
    assert [row.tolist() for row in generate(network, text, sampling, seed=6, count=1)] != three[:1]


def test_the_global_generator_and_training_mode_are_left_alone() -> None:
    network = gpt()
    before = torch.get_rng_state()
    generate(network, torch.tensor([1]), Sampling(max_new_tokens=3))
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training


def test_text_longer_than_the_window_goes_on_from_its_last_half() -> None:
    network, prompt = gpt(max_seq_len=8), torch.tensor([1, 2, 3])
    expected, begin = prompt, 0
    with torch.no_grad():
        for _ in range(30):
            if len(expected) - begin > 8:
                begin = len(expected) - 4
            expected = torch.cat([expected, network.eval()(expected[None, begin:])[0, -1].argmax()[None]])
    made = generate(network, prompt, Sampling(max_new_tokens=30, temperature=0))
    assert made[0].tolist() == expected.tolist()


def test_of_a_long_prompt_the_end_is_read() -> None:
    network, prompt = gpt(max_seq_len=8), torch.arange(20) % 11
    sampling = Sampling(max_new_tokens=1, temperature=0)
    assert generate(network, prompt, sampling)[0][-1] == generate(network, prompt[-8:], sampling)[0][-1]
    assert generate(network, prompt, sampling)[0][:20].tolist() == prompt.tolist()


def test_samples_end_with_the_stop_token() -> None:
    network, prompt = gpt(), torch.tensor([1, 2])
    free = generate(network, prompt, Sampling(max_new_tokens=25), seed=1, count=6)
    stop = int(free[0][6])
    stopped = generate(network, prompt, Sampling(max_new_tokens=25, stop_token=stop), seed=1, count=6)
    for long, short in zip(free, stopped, strict=True):
        new = long[2:].tolist()
        assert short[2:].tolist() == (new[: new.index(stop) + 1] if stop in new else new)


@pytest.mark.parametrize(
    "options", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}], ids=str
)
def test_wrong_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Sampling(**options)


def test_wrong_networks_and_prompts_are_named() -> None:
    with pytest.raises(UnsupportedError, match="init_cache"):
        generate(nn.Linear(2, 2), torch.tensor([1]), Sampling())
    with pytest.raises(ConfigError, match="at least one token"):
        generate(gpt(), torch.tensor([], dtype=torch.int64), Sampling())


class Letters:
    """Tokens are the letters from "a" on."""

    stop_token = None

    def encode_prompt(self, prompt: str | None) -> Tensor:
        return torch.tensor([ord(c) - 97 for c in prompt or "a"])

    def decode_tokens(self, tokens: Tensor) -> str:
        return "".join(chr(97 + t) for t in tokens.tolist())


def test_texts_begin_with_the_prompt_and_are_written(tmp_path: Path) -> None:
    rows = generate_text(gpt(), Letters(), prompt="bad", count=2, out=tmp_path / "made", max_new_tokens=5)
    assert [len(row["text"]) for row in rows] == [8, 8]
    assert all(row["text"].startswith("bad") for row in rows)
    assert [Path(row["file"]).read_text() for row in rows] == [row["text"] for row in rows]
    (one,) = generate_text(gpt(), Letters(), prompt="bad", out=tmp_path / "deep" / "one.txt", max_new_tokens=5)
    assert (tmp_path / "deep" / "one.txt").read_text() == one["text"] == rows[0]["text"]
    assert "file" not in generate_text(gpt(), Letters(), max_new_tokens=5)[0]
