"""A fine-tuning step of BERT-base on 8 texts of 128 tokens with two classes, dropout as published, AdamW,
gradients clipped.

Ours is what `layerwise train text_classification` makes of it: precision, optimiser and layout of texts are chosen by
it. The peers are transformers' BertForSequenceClassification in a plain loop on one batch that is ready, as it comes
(float32, the default AdamW) and tuned (bf16 autocast, fused AdamW). Weights and dropout are drawn differently, so that
the losses of a first step on eight texts differ: the number of parameters tells whether all train the same network.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bench.measure import OURS, Calibration, Contender, Goal, Workload
from bench.pace import Pace
from bench.paced_recipe import train_paced
from bench.peers import peer

BATCH, LENGTH, WORDS, RATE = 8, 128, 1000, 5e-5
WARM_UP = 2  # steps


def made_texts(count: int, lengths: list[int]) -> list[str]:
    """Texts of that many words, special tokens aside, out of a small vocabulary."""
    generator = torch.Generator().manual_seed(0)
    numbers = [
        torch.randint(WORDS, (lengths[i % len(lengths)] - 2,), generator=generator).tolist() for i in range(count)
    ]
    return [" ".join(f"w{number}" for number in one) for one in numbers]


def tokenizer() -> Any:
    """One token a word, with [CLS] and [SEP]."""
    from layerwise.data.subword import SubwordTokenizer

    every = " ".join(f"w{k}" for k in range(WORDS))
    return SubwordTokenizer.train([every] * 2, kind="wordpiece", vocab_size=4 * WORDS)


@dataclass(frozen=True, kw_only=True)
class MadeConfig:
    """One batch, again and again."""


class Made:
    """The data set that ours trains on."""

    def __init__(self, config: MadeConfig) -> None:
        self.config = config

    def splits(self) -> Any:
        from layerwise.data.examples import Splits
        from layerwise.data.texts import TextExamples

        part = TextExamples(made_texts(BATCH, [LENGTH]), {"labels": torch.arange(BATCH) % 2})
        return Splits(train=part, val=part, facts={"num_classes": 2}, class_names=["no", "yes"])


def parameters(network: nn.Module) -> float:
    """How many numbers are trained."""
    return float(sum(each.numel() for each in network.parameters()))


def recipe(pace: Pace, data: str, batch_size: int, window: int, **options: Any) -> None:
    """Train here, `window` steps a window."""
    overrides: dict[str, Any] = {"data": data, "batch_size": batch_size, "optimizer.lr": RATE}
    overrides |= {"model": "bert-base-uncased", "model.vocab_size": None, "task.tokenizer": "wordpiece"}
    overrides |= {"task.vocab_size": 4 * WORDS, "task.max_tokens": LENGTH, **options}
    train_paced(pace, "text_fine_tuning", overrides, warm_up=WARM_UP, window=window, check=parameters)


def ours(pace: Pace) -> None:
    recipe(pace, f"{__name__}:Made", BATCH, 1)


def _loop(pace: Pace, *, tuned: bool) -> None:
    transformers = peer("transformers")
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    made = tokenizer()
    config = transformers.BertConfig(vocab_size=made.vocab_size, num_labels=2)
    network = transformers.BertForSequenceClassification(config).train()
    tokens: Tensor = torch.stack(made.encode_batch(made_texts(BATCH, [LENGTH])))
    labels = torch.arange(BATCH) % 2
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01, fused=True if tuned else None)

    def losses() -> Iterator[float]:
        while True:
            with torch.autocast("cpu", torch.bfloat16) if tuned else nullcontext():
                loss = network(input_ids=tokens, labels=labels).loss
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
    pace.ready(parameters(network), "bf16 autocast, fused AdamW" if tuned else "fp32")
    for _ in steps:
        pace.window(1)


def plain(pace: Pace) -> None:
    _loop(pace, tuned=False)


def tuned(pace: Pace) -> None:
    _loop(pace, tuned=True)


@cache
def step_flops() -> float:
    """Of the products, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    from layerwise.api.models import create_model

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = create_model("bert-base-uncased", head="classifier", num_classes=2)
        network(torch.empty(BATCH, LENGTH, dtype=torch.int64)).sum().backward()
    return float(counter.get_total_flops())


def _side(name: str, run: str, precision: str) -> Contender:
    def limit(calibration: Calibration) -> float:
        return step_flops() / (1e9 * calibration[f"{precision}_gflop_per_s"])

    return Contender(name=name, run=f"{__name__}:{run}", rate=("texts/s", float(BATCH)), limit=limit)


PLAIN, TUNED = "transformers", "transformers tuned"

WORKLOAD = Workload(
    title=f"fine-tuning step of BERT-base, {BATCH} texts of {LENGTH} tokens, AdamW",
    unit="step",
    launches=1,
    turns=4,
    contenders=(_side(OURS, "ours", "bf16"), _side(PLAIN, "plain", "fp32"), _side(TUNED, "tuned", "bf16")),
    goals=(
        Goal(peers=(PLAIN,), kind="speedup", value=2.0),
        Goal(peers=(TUNED,), kind="speedup", value=1.1),
    ),
)
