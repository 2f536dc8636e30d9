"""Steps of an LSTM language model on words: two layers of 650 units, tied weights, 33,278 words, 20 streams of 35
tokens, truncated back-propagation with the state carried on (Zaremba et al. 2014, medium, with WikiText-2's
vocabulary).

Ours is the recipe `lstm_wikitext2` at that size, precision as chosen. The peers are a plain loop as pytorch/examples'
word_language_model has it (nn.LSTM, a linear layer, cross-entropy over all logits, clipping, SGD), as it comes in
float32 and tuned (bf16 autocast, fused SGD). The loss of the first step tells whether all have the same task.
"""

import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.limits import sides
from bench.measure import OURS, Goal, Workload
from bench.pace import NotRunError, Pace
from bench.paced_recipe import train_paced
from bench.plain_loop import train_plainly

STREAMS, LENGTH, WORDS, UNITS, LAYERS = 20, 35, 33_278, 650, 2
RATE, CLIP, DROPOUT = 1.0, 0.25, 0.5
WARM_UP, WINDOW = 3, 2  # steps


def _text() -> str:
    data = Path(os.environ.get("LAYERWISE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    source = data / "text" / "wikitext-2" / "valid.txt"
    if not source.is_file():
        raise NotRunError(f"{source} is not here")
    return source.read_text(encoding="utf-8")


def ours(pace: Pace) -> None:
    _text()  # or not run
    overrides: dict[str, Any] = {
        "model.vocab_size": WORDS,
        "model.d_model": UNITS,
        "model.hidden_size": UNITS,
        "model.dropout": DROPOUT,
        "task.seq_len": LENGTH,
        "batch_size": STREAMS,
        "optimizer": "SGD",
        "optimizer.lr": RATE,
        "optimizer.momentum": 0.0,
        "clip": CLIP,
    }
    train_paced(pace, "lstm_wikitext2", overrides, warm_up=WARM_UP, window=WINDOW)


class Plain(nn.Module):
    """word_language_model's network."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(DROPOUT)
        self.encoder = nn.Embedding(WORDS, UNITS)
        self.rnn = nn.LSTM(UNITS, UNITS, LAYERS, dropout=DROPOUT)
        self.decoder = nn.Linear(UNITS, WORDS)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.rnn(self.drop(self.encoder(tokens)), state)
        return self.decoder(self.drop(hidden)), state


def _streams() -> Tensor:
    """[T, B], each column a stretch of the text."""
    words = _text().replace("\n", " <eos> ").split()
    numbers = {word: k for k, word in enumerate(dict.fromkeys(words))}
    tokens = torch.tensor([numbers[word] for word in words])
    return tokens[: len(tokens) // STREAMS * STREAMS].view(STREAMS, -1).T.contiguous()


def _loop(pace: Pace, *, tuned: bool) -> None:
    torch.manual_seed(0)
    network, text = Plain(), _streams()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, fused=True if tuned else None)
    state: Any = None
    place = 0

    def loss() -> Tensor:
        nonlocal state, place
        if place + LENGTH >= len(text):
            place = 0
        tokens, labels = text[place : place + LENGTH], text[place + 1 : place + 1 + LENGTH]
        place += LENGTH
        logits, state = network(tokens, None if state is None else tuple(part.detach() for part in state))
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())

    note = "bf16, fused SGD" if tuned else "fp32"
    train_plainly(pace, network, optimizer, loss, note, tuned=tuned, warm_up=WARM_UP, window=WINDOW, clip=CLIP)


def plain(pace: Pace) -> None:
    _loop(pace, tuned=False)


def tuned(pace: Pace) -> None:
    _loop(pace, tuned=True)


def step_flops() -> float:
    """Of the products, forward and backward (three times forward): cells, and the layer over all words."""
    cells = LAYERS * 4 * UNITS * 2 * UNITS
    return 3 * 2 * STREAMS * LENGTH * (cells + WORDS * UNITS)


_side = sides(__name__, ("tokens/s", STREAMS * LENGTH), step_flops)
PLAIN, TUNED = "plain torch loop", "torch loop tuned"
WORKLOAD = Workload(
    title=f"training step of an LSTM word model, 2 x {UNITS} units, {WORDS:,} words, {STREAMS} x {LENGTH} tokens",
    unit="step",
    launches=1,
    turns=5,
    contenders=(_side(OURS, "ours", "bf16"), _side(PLAIN, "plain", "fp32"), _side(TUNED, "tuned", "bf16")),
    goals=(
        Goal(peers=(PLAIN,), kind="speedup", value=1.2),
        Goal(peers=(TUNED,), kind="speedup", value=1.2),
    ),
)
