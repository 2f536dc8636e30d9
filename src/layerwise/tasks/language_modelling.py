"""Language modelling: tokens in, scores of the next token out; text in and out through the data's tokeniser."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layerwise.core.config import PositiveInt
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.data.tokenizers import Tokenizer, tokenizer_from
from layerwise.nn.protocols import Recurrent, VocabularyHead, require, vocabulary_weights
from layerwise.nn.recurrent import CarriedStates
from layerwise.objectives.truncated_bptt import TruncatedBPTTConfig
from layerwise.ops.linear_cross_entropy import IGNORED, chunk_size, linear_token_losses
from layerwise.tasks.base import Accumulator, Batch, Task

_HARDEST = 8  # windows kept for the report


@dataclass(frozen=True, kw_only=True)
class LanguageModellingConfig:
    """Options of language modelling.

    Args:
        shown_tokens: most likely next tokens that `predict` tells with their probabilities.
    """

    shown_tokens: PositiveInt = 10


class LanguageMetrics(Accumulator):
    """Mean negative log-likelihood of the targets in nats, its exponential, and bits a character or byte.

    Args:
        tokenizer: names the unit and turns the hardest windows back into text.
        streams: windows come in order, streams side by side: a recurrent network goes on from where it was.
    """

    def __init__(self, tokenizer: Tokenizer, *, streams: bool = False) -> None:
        self.tokenizer, self.streams = tokenizer, streams
        self._carried: CarriedStates | None = None
        self.sums = {"nll": torch.zeros((), dtype=torch.float64), "count": torch.zeros((), dtype=torch.int64)}
        self.windows: dict[str, Tensor] = {}  # mean loss [n], ids [n], input tokens and targets [n, T + 1]

    def update(self, network: nn.Module, batch: Batch) -> None:
        losses = self._read_on(network, batch) if self.streams else _losses(network, batch)
        targets = batch["labels"] != IGNORED
        self.sums["nll"] += losses.double().sum().cpu()
        self.sums["count"] += targets.sum().cpu()
        labels = batch["labels"].where(targets, batch["tokens"].roll(-1, dims=1))
        fresh = {
            "loss": losses.double().sum(1) / targets.sum(1).clamp(min=1),
            "ids": batch["sample_ids"],
            "tokens": torch.cat([batch["tokens"][:, :1], labels], dim=1),
            "length": 1 + targets.sum(1),
        }
        self._keep_hardest([self.windows, {name: value.cpu() for name, value in fresh.items()}])

    def _read_on(self, network: nn.Module, batch: Batch) -> Tensor:
        """The losses of windows whose past is what was read before."""
        starts = batch["sample_ids"]
        cache = require(network, Recurrent, "evaluation of a text as a whole").init_cache(len(starts))
        if self._carried is None:
            self._carried = CarriedStates()
            self._carried.setup(cache.state)
        self._carried.resume(starts, cache)
        losses = _losses(network, batch, cache=cache)
        left = (part.transpose(0, 1) for part in cache.state)
        self._carried.keep(starts, starts + batch["tokens"].shape[1], *left)
        return losses

    def _keep_hardest(self, parts: Sequence[dict[str, Tensor]]) -> None:
        parts = [part for part in parts if part]
        if parts:
            rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            order = rows["ids"].argsort()  # so that equal losses are ordered alike however the split was shared out
            order = order[rows["loss"][order].argsort(descending=True, stable=True)][:_HARDEST]
            self.windows = {name: value[order] for name, value in rows.items()}

    def state(self) -> dict[str, Tensor]:
        return {**self.sums, **self.windows}

    def merge(self, states: Sequence[dict[str, Tensor]]) -> None:
        self.sums = {name: torch.stack([state[name] for state in states]).sum(0) for name in self.sums}
        windows = [{k: v for k, v in state.items() if k not in self.sums} for state in states]
        self.windows = {}
        self._keep_hardest(windows)

    def compute(self) -> dict[str, float]:
        count = int(self.sums["count"])
        if count == 0:
            return {}
        loss = float(self.sums["nll"]) / count
        return {"loss": loss, "perplexity": _perplexity(loss), f"bits_per_{self.tokenizer.unit}": loss / math.log(2)}

    def table(self) -> dict[str, Any]:
        names = ("ids", "loss", "tokens", "length")
        rows = zip(*(self.windows[name].tolist() for name in names), strict=True) if self.windows else ()
        hardest = [
            {"sample_id": i, "loss": loss, "text": self.tokenizer.decode(tokens[:length])}
            for i, loss, tokens, length in rows
        ]
        return {"hardest_texts": hardest, "count": int(self.sums["count"])}


class LanguageModelling(Task):
    """Raw and model input `tokens` int64 [B, T] with `labels` [B, T]; the network gives logits [B, T, V]."""

    monitor = ("loss", "min")
    predicts = "text"

    def __init__(self, config: LanguageModellingConfig) -> None:
        self.config = config
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The data's tokeniser."""
        if self._tokenizer is None:
            raise RuntimeError("the task is bound to data or loaded before it is used")
        return self._tokenizer

    def bind(self, splits: Splits) -> None:
        if "tokenizer" not in splits.extras:
            raise DataError("task=language_modelling needs text; this data has no tokeniser. Take data=text.")
        self._tokenizer = splits.extras["tokenizer"]

    def bind_objective(self, objective: Any) -> None:
        self.streams = isinstance(objective, TruncatedBPTTConfig)

    def state(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.state(), "streams": self.streams}

    def load(self, state: dict[str, Any]) -> None:
        self._tokenizer, self.streams = tokenizer_from(state["tokenizer"]), state.get("streams", False)

    def facts(self) -> dict[str, Any]:
        return {"vocab_size": self.tokenizer.vocab_size}

    def accumulator(self) -> LanguageMetrics:
        return LanguageMetrics(self.tokenizer, streams=self.streams)

    def decode(self, inputs: Sequence[str]) -> list[tuple[str, Batch]]:
        found: list[tuple[str, Batch]] = []
        for text in inputs:
            tokens = self.encode_prompt(text)[None]
            labels = F.pad(tokens[:, 1:], (0, 1), value=IGNORED)
            found.append((text, {"tokens": tokens, "labels": labels}))
        return found

    @torch.no_grad()
    def predict(self, network: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """For each text the most likely next tokens, and its own loss in nats a token after the first.

        A text longer than the network's `max_seq_len` is read in windows of that length.
        """
        tokens, labels = batch["tokens"], batch["labels"]
        window = min(getattr(network, "max_seq_len", tokens.shape[1]), tokens.shape[1])
        parts = zip(tokens.split(window, dim=1), labels.split(window, dim=1), strict=True)
        nll = torch.stack([token_losses(network(x), y).double().sum(1) for x, y in parts]).sum(0)
        counts = (labels != IGNORED).sum(1)
        scores = network(tokens[:, -window:])[:, -1].float().softmax(-1)
        best = scores.topk(min(self.config.shown_tokens, scores.shape[-1]))
        rows: list[dict[str, Any]] = []
        for i, (values, indices) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            names = [self._name(token) for token in indices]
            loss = float(nll[i] / counts[i]) if counts[i] else None
            perplexity = None if loss is None else _perplexity(loss)
            ranked = dict(zip(names, values, strict=True))
            rows.append({"label": names[0], "loss": loss, "perplexity": perplexity, "scores": ranked})
        return rows

    def encode_prompt(self, prompt: str | None) -> Tensor:
        """Tokens of a prompt, int64 [T]; None stands for a line's end, after which a text begins.

        Raises:
            DataError: it is empty, or has characters that the tokeniser lacks.
        """
        if prompt is None:
            try:
                return self.tokenizer.encode("\n")
            except DataError:
                return torch.zeros(1, dtype=torch.int64)  # an alphabet without line ends: its first character
        if not prompt:
            raise DataError("The text is empty: at least one character is needed.")
        return self.tokenizer.encode(prompt)

    def decode_tokens(self, tokens: Tensor) -> str:
        """The text of tokens [T]."""
        return self.tokenizer.decode(tokens)

    def _name(self, token: int) -> str:
        """A token as a key of JSON: its text, bytes that are no text of their own as 0x.."""
        if self.tokenizer.unit == "byte" and token > 126:
            return f"0x{token:02x}"
        return self.tokenizer.decode([token])


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of each target [B, T] in float32 at least; zero where there is none.

    Args:
        logits: [B, T, V].
        labels: int64 [B, T], -100 where there is no target.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none").view_as(labels)


def _losses(network: nn.Module, batch: Batch, **more: Any) -> Tensor:
    """`token_losses` of a network; those of a large vocabulary are taken a part of the logits at a time."""
    inputs: dict[str, Any] = {name: value for name, value in batch.items() if name not in ("labels", "sample_ids")}
    inputs |= more
    labels = batch["labels"]
    weights = vocabulary_weights(network)
    if weights is not None and labels.numel() * len(weights[0]) > chunk_size(weights[0]):
        assert isinstance(network, VocabularyHead)
        features = network.forward_features(**inputs).flatten(0, 1)
        return linear_token_losses(features, weights[0], labels.flatten(), weights[1]).view_as(labels)
    logits = network(**inputs)
    return token_losses(logits[0] if isinstance(logits, tuple) else logits, labels)


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


TASKS = {"language_modelling": LanguageModellingConfig()}
