"""Continue token sequences with a causal model: greedy or sampled, with a cache of keys and values.

Top-k: Fan, Lewis, Dauphin 2018 (arXiv:1805.04833). Top-p (nucleus): Holtzman et al. 2020 (arXiv:1904.09751).

Draws are hashed from (seed, sample, position): sample i of a seed is the same however many are made at once.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from layerwise.core.errors import ConfigError, StorageError
from layerwise.nn.protocols import Cached, require
from layerwise.ops.random import Draws


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    Args:
        max_new_tokens: tokens to add at most.
        temperature: logits are divided by it; 0 takes the most likely token.
        top_k: only the k most likely tokens; None allows all.
        top_p: only the most likely tokens that together have this probability; None allows all.
        stop_token: a sample ends with it; None goes on to `max_new_tokens`.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    stop_token: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={self.max_new_tokens}: must be >= 1.")
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature={self.temperature:g}: must be >= 0 and finite.")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k={self.top_k}: must be >= 1.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p:g}: must be > 0 and <= 1.")


def next_token_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """The distribution that the next token is drawn from, float64 [B, V], for logits [B, V].

    Top-k and top-p are applied to the distribution at the temperature, in this order; of equally likely tokens those of
    lower
    number come first.
    """
    if sampling.temperature == 0:
        return nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
    probabilities = (logits.double() / sampling.temperature).softmax(-1)
    if sampling.top_k is None and sampling.top_p is None:
        return probabilities
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    if sampling.top_k is not None:
        ranked[:, sampling.top_k :] = 0
        ranked = ranked / ranked.sum(-1, keepdim=True)
    if sampling.top_p is not None:
        before = ranked.cumsum(-1) - ranked  # probability of all that are more likely
        ranked = torch.where(before < sampling.top_p, ranked, 0.0)
    return torch.zeros_like(ranked).scatter_(-1, order, ranked / ranked.sum(-1, keepdim=True))


def choose(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The tokens that uniform numbers on [0, 1) pick by the inverse of the cumulative distribution, int64 [B].

    Args:
        probabilities: [B, V], rows sum to one.
        uniform: [B].
    """
    cumulative = probabilities.cumsum(-1)
    chosen = torch.searchsorted(cumulative, (uniform.to(cumulative) * cumulative[:, -1])[:, None], right=True)[:, 0]
    last = (probabilities > 0).long().cumsum(-1).argmax(-1)  # rounding must not pick beyond the last possible token
    return torch.minimum(chosen, last)


@torch.inference_mode()
def generate(network: nn.Module, prompt: Tensor, sampling: Sampling, *, seed: int = 0, count: int = 1) -> list[Tensor]:
    """Continuations of a prompt.

    Where the text outgrows the model's `max_seq_len`, generation goes on from its last half window, as if the text
    began there.

    Args:
        network: a causal model with a cache (`nn.protocols.Cached`), put into eval mode meanwhile.
        prompt: int64 [T], at least one token; only the last `max_seq_len` are read.
        sampling: how tokens are chosen.
        seed: of the draws.
        count: samples to make.

    Returns:
        For each sample prompt and continuation, int64, up to and with the stop token.

    Raises:
        ConfigError: an empty prompt.
        UnsupportedError: the network has no cache.
    """
    model = require(network, Cached, "generate")
    if prompt.dim() != 1 or len(prompt) == 0:
        raise ConfigError(f"generate needs a prompt of at least one token, got shape {tuple(prompt.shape)}")
    device = next(network.parameters()).device
    draws, samples = Draws(seed, "generate"), torch.arange(count, device=device)
    text = prompt.to(device).expand(count, -1)
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    training = network.training
    network.eval()
    try:
        limit = min(model.max_seq_len, len(prompt) + sampling.max_new_tokens)
        cache = model.init_cache(count, limit)
        fresh = text[:, -model.max_seq_len :]
        for step in range(sampling.max_new_tokens):
            if cache.position + fresh.shape[1] > cache.max_seq_len:
                cache.rewind(0)
                fresh = text[:, -max(1, cache.max_seq_len // 2) :]
            logits = model(fresh, cache=cache)[:, -1]
            uniform = draws.uniform(samples, (), f"token-{step}", torch.float64)
            fresh = choose(next_token_probabilities(logits, sampling), uniform)[:, None]
            if sampling.stop_token is not None:
                fresh = fresh.masked_fill(ended[:, None], sampling.stop_token)
                ended = ended | (fresh[:, 0] == sampling.stop_token)
            text = torch.cat([text, fresh], dim=1)
            if bool(ended.all()):
                break
    finally:
        network.train(training)
    return [_until_stop(row, len(prompt), sampling.stop_token) for row in text]


def _until_stop(text: Tensor, start: int, stop_token: int | None) -> Tensor:
    """The text up to and with the first stop token after the prompt."""
    if stop_token is not None and len(hits := (text[start:] == stop_token).nonzero()):
        return text[: start + int(hits[0]) + 1]
    return text


@runtime_checkable
class TextCodec(Protocol):
    """What a task of language gives: text to tokens and back."""

    @property
    def stop_token(self) -> int | None:
        """The token that ends a text, where there is one."""
        ...

    def encode_prompt(self, prompt: str | None) -> Tensor:
        """Tokens of a prompt, int64 [T]; None means the start of a text."""
        ...

    def decode_tokens(self, tokens: Tensor) -> str:
        """The text of tokens [T]."""
        ...


def generate_text(
    network: nn.Module,
    task: TextCodec,
    *,
    prompt: str | None = None,
    count: int = 1,
    seed: int = 0,
    out: Path | None = None,
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
) -> list[dict[str, Any]]:
    """Texts that go on from a prompt: the JSON of `layerwise generate`, `{"text": ...}` each, and `"file"` where
    written.

    Args:
        network, task: the model, and the task that it was trained for.
        prompt: text to go on from, part of the result; None starts a text.
        count, seed, max_new_tokens, temperature, top_k, top_p: as in `generate` and `Sampling`.
        out: a file for one text; a folder, made if missing, for several.

    Raises:
        StorageError: `out` cannot be written.
    """
    sampling = Sampling(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, stop_token=task.stop_token
    )
    made = generate(network, task.encode_prompt(prompt), sampling, seed=seed, count=count)
    rows: list[dict[str, Any]] = [{"text": task.decode_tokens(tokens.cpu())} for tokens in made]
    if out is None:
        return rows
    folder = count > 1 or out.is_dir()
    try:
        (out if folder else out.parent).mkdir(parents=True, exist_ok=True)
        for index, row in enumerate(rows):
            path = out / f"sample-{index:03d}.txt" if folder else out
            path.write_text(row["text"], encoding="utf-8", newline="")
            row["file"] = str(path)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written: {error.strerror}.") from error
    return rows
