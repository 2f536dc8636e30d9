"""Fine-tuning of BERT-base on sentences of many lengths: useful tokens a second.

The lengths are those of SST-2's training sentences in words (log-normal, 19 in the middle), 32 sentences a step, two
classes. Ours is `layerwise train text_fine_tuning task.packed=true`. The peer is what transformers' Trainer does with
its defaults, in a plain loop without its overhead: float32, a batch filled up to its longest sentence, gradients
clipped. A step of either is on the same number of sentences; filling is no useful token.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.bert_fine_tuning import CLIP, RATE, WARM_UP, parameters, recipe, their_network
from bench.made import made_labels, made_texts, word_tokenizer
from bench.measure import OURS, Contender, Goal, Workload
from bench.pace import Pace
from bench.plain_loop import train_plainly

BATCH, MIDDLE, SPREAD, MOST, SENTENCES = 32, 19, 0.55, 64, 320
WINDOW = 2  # steps


def made_lengths() -> list[int]:
    """Tokens of every sentence, special ones included."""
    drawn = MIDDLE * torch.exp(SPREAD * torch.randn(SENTENCES, generator=torch.Generator().manual_seed(0)))
    return (drawn.long().clamp(3, MOST - 2) + 2).tolist()


def packed(pace: Pace) -> None:
    recipe(pace, made_lengths(), BATCH, WINDOW, **{"task.packed": True})


def padded(pace: Pace) -> None:
    recipe(pace, made_lengths(), BATCH, WINDOW)


def theirs(pace: Pace) -> None:
    made = word_tokenizer()
    rows, labels = made.encode_batch(made_texts(made_lengths())), made_labels(SENTENCES)
    network = their_network(made.vocab_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    drawn: list[list[int]] = []

    def loss() -> Tensor:
        if not drawn:
            drawn.extend(ids.tolist() for ids in torch.randperm(SENTENCES).split(BATCH))
        ids = drawn.pop()
        tokens = pad_sequence([rows[i] for i in ids], batch_first=True)
        mask = pad_sequence([torch.ones_like(rows[i]) for i in ids], batch_first=True)
        return network(input_ids=tokens, attention_mask=mask, labels=labels[ids]).loss

    check = parameters(network)
    train_plainly(
        pace, network, optimizer, loss, "fp32", tuned=False, warm_up=WARM_UP, window=WINDOW, clip=CLIP, check=check
    )


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
