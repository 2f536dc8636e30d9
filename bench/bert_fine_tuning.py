"""A fine-tuning step of BERT-base on 8 texts of 128 tokens with two classes, dropout as published, AdamW,
gradients clipped.

Ours is what `layerwise train text_classification` makes of it: precision, optimiser and layout of texts are chosen by
it. The peers are transformers' BertForSequenceClassification in a plain loop on one batch that is ready, as it comes
(float32, the default AdamW) and tuned (bf16 autocast, fused AdamW). Weights and dropout are drawn differently, so that
the losses of a first step on eight texts differ: the number of parameters tells whether all train the same network.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bench.limits import counted_flops, sides
from bench.made import WORDS, made_labels, made_texts, word_tokenizer
from bench.measure import OURS, Goal, Workload
from bench.pace import Pace
from bench.paced_recipe import train_paced
from bench.peers import peer
from bench.plain_loop import train_plainly

BATCH, LENGTH, RATE, CLIP = 8, 128, 5e-5, 1.0
WARM_UP = 2  # steps


def parameters(network: nn.Module) -> float:
    """How many numbers are trained."""
    return float(sum(each.numel() for each in network.parameters()))


def recipe(pace: Pace, lengths: list[int], batch_size: int, window: int, **options: Any) -> None:
    """Train here on texts of these lengths, `window` steps a window."""
    data = {"name": "bench.made:Texts", "lengths": tuple(lengths)}
    overrides: dict[str, Any] = {"data": data, "batch_size": batch_size, "optimizer.lr": RATE}
    overrides |= {"model": "bert-base-uncased", "model.vocab_size": None, "task.tokenizer": "wordpiece"}
    overrides |= {"task.vocab_size": 4 * WORDS, "task.max_tokens": LENGTH, **options}
    train_paced(pace, "text_fine_tuning", overrides, warm_up=WARM_UP, window=window, check=parameters)


def their_network(vocab_size: int) -> nn.Module:
    """transformers' BERT-base with a head for two classes."""
    transformers = peer("transformers")
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=vocab_size, num_labels=2))


def ours(pace: Pace) -> None:
    recipe(pace, [LENGTH] * BATCH, BATCH, 1)


def _loop(pace: Pace, *, tuned: bool) -> None:
    made = word_tokenizer()
    network = their_network(made.vocab_size)
    tokens: Tensor = torch.stack(made.encode_batch(made_texts([LENGTH] * BATCH)))
    labels = made_labels(BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01, fused=True if tuned else None)

    def loss() -> Tensor:
        return network(input_ids=tokens, labels=labels).loss

    note, check = "bf16 autocast, fused AdamW" if tuned else "fp32", parameters(network)
    train_plainly(pace, network, optimizer, loss, note, tuned=tuned, warm_up=WARM_UP, clip=CLIP, check=check)


def plain(pace: Pace) -> None:
    _loop(pace, tuned=False)


def tuned(pace: Pace) -> None:
    _loop(pace, tuned=True)


def step_flops() -> float:
    """Forward and backward."""
    from layerwise.api.models import create_model

    def work() -> Tensor:
        network = create_model("bert-base-uncased", head="classifier", num_classes=2)
        return network(torch.empty(BATCH, LENGTH, dtype=torch.int64))

    return counted_flops(work, backward=True)


_side = sides(__name__, ("texts/s", float(BATCH)), step_flops)
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
