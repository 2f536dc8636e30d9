"""Fine-tuning of BERT-base on sentences of many lengths: useful tokens a second.

The lengths are those of SST-2's training sentences in words (log-normal, 19 in the middle), 32 sentences a step, two
classes. Ours is `layerwise train text_fine_tuning task.packed=true`. The peer is what transformers' Trainer does with
its defaults, in a plain loop without its overhead: float32, a batch filled up to its longest sentence, gradients
clipped. A step of either is on the same number of sentences; filling is no useful token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from bench.bert_fine_tuning import RATE, WARM_UP, made_texts, parameters, recipe, tokenizer
from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import Pace
from bench.peers import peer

BATCH, MIDDLE, SPREAD, MOST, SENTENCES = 32, 19, 0.55, 64, 320


def made_lengths() -> list[int]:
    """Tokens of every sentence, special ones included."""
    drawn = MIDDLE * torch.exp(SPREAD * torch.randn(SENTENCES, generator=torch.Generator().manual_seed(0)))
    return (drawn.long().clamp(3, MOST - 2) + 2).tolist()


@dataclass(frozen=True, kw_only=True)
class MadeConfig:
    """Ten batches, again and again."""


class Made:
    """The data set that ours trains on."""

    def __init__(self, config: MadeConfig) -> None:
        self.config = config

    def splits(self) -> Any:
        from layerwise.data.examples import Splits
        from layerwise.data.texts import TextExamples

        part = TextExamples(made_texts(SENTENCES, made_lengths()), {"labels": torch.arange(SENTENCES) % 2})
        return Splits(train=part, val=part, facts={"num_classes": 2}, class_names=["no", "yes"])


def packed(pace: Pace) -> None:
    recipe(pace, f"{__name__}:Made", BATCH, 2, **{"task.packed": True})


def padded(pace: Pace) -> None:
    recipe(pace, f"{__name__}:Made", BATCH, 2)


def theirs(pace: Pace) -> None:
    transformers = peer("transformers")
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    made = tokenizer()
    rows = made.encode_batch(made_texts(SENTENCES, made_lengths()))
    labels = torch.arange(SENTENCES) % 2
    network = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=made.vocab_size)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)

    def losses() -> Iterator[float]:
        while True:
            for ids in torch.randperm(SENTENCES).split(BATCH):
                tokens = pad_sequence([rows[i] for i in ids.tolist()], batch_first=True)
                mask = pad_sequence([torch.ones_like(rows[i]) for i in ids.tolist()], batch_first=True)
                loss = network(input_ids=tokens, attention_mask=mask, labels=labels[ids]).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                yield loss.item()

    steps = losses()
    next(steps)
    pace.first()
    for _ in range(WARM_UP - 1):
        next(steps)
    pace.ready(parameters(network), "fp32")
    while True:
        for _ in range(2):
            next(steps)
        pace.window(2)


THEIRS = "transformers, filled up"
TOKENS = sum(made_lengths()) * BATCH / SENTENCES

WORKLOAD = Workload(
    title=f"fine-tuning of BERT-base on {BATCH} sentences of many lengths a step, AdamW",
    unit="step",
    launches=1,
    turns=4,
    contenders=(
        Contender(name=OURS, run=f"{__name__}:packed", rate=("useful tokens/s", TOKENS)),
        Contender(name=f"{OURS}, one a row", run=f"{__name__}:padded", rate=("useful tokens/s", TOKENS)),
        Contender(name=THEIRS, run=f"{__name__}:theirs", rate=("useful tokens/s", TOKENS)),
    ),
    goals=(Goal(peers=(THEIRS,), kind="speedup", value=3.0),),
)
