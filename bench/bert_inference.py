"""BERT-base on 8 texts of 128 tokens: last states from token numbers in memory.

The same random weights on every side. Ours is `infer.freeze`, in float32 as `predict` and `eval` use it and in bf16.
The peers are transformers' BertModel as it comes (float32, torch's fused attention) and in bfloat16. The mean size of
the states tells whether all compute the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.limits import counted_flops, sides
from bench.measure import OURS, Goal, Workload
from bench.pace import Pace
from bench.peers import peer

BATCH, LENGTH, WORDS = 8, 128, 30522
CALLS = 2  # a window


def made_tokens() -> Tensor:
    """int64 [B, T]."""
    return torch.randint(1000, WORDS, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))


def theirs() -> Any:
    """transformers' network; ours takes its weights."""
    transformers = peer("transformers")
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig()).eval()


def ours() -> nn.Module:
    """The same here."""
    from layerwise.api.models import create_model
    from layerwise.interop.layouts import layouts_of
    from layerwise.interop.rules import to_ours

    network = create_model("bert-base-uncased", head="encoder").eval()
    (layout,) = layouts_of(type(network).__module__, "transformers")
    state = {f"bert.{name}": value for name, value in theirs().state_dict().items()}
    network.load_state_dict(to_ours(layout.rules(network.config), state).state)
    return network


def _run(pace: Pace, call: Callable[[Tensor], Tensor], note: str) -> None:
    tokens = made_tokens()
    with torch.inference_mode():
        states = call(tokens)
        pace.first()
        call(tokens)
        pace.ready(float(states.float().abs().mean()), note)
        while True:
            for _ in range(CALLS):
                call(tokens)
            pace.window(CALLS * BATCH)


def _ours(pace: Pace, dtype: torch.dtype, note: str) -> None:
    from layerwise.infer.freeze import freeze

    frozen = freeze(ours(), dtype)
    _run(pace, lambda tokens: frozen(tokens)[0], note)


def ours_fp32(pace: Pace) -> None:
    _ours(pace, torch.float32, "fp32")


def ours_bf16(pace: Pace) -> None:
    _ours(pace, torch.bfloat16, "bf16")


def theirs_fp32(pace: Pace) -> None:
    network = theirs()
    _run(pace, lambda tokens: network(tokens).last_hidden_state, "fp32, sdpa")


def theirs_bf16(pace: Pace) -> None:
    network = theirs().to(torch.bfloat16)
    _run(pace, lambda tokens: network(tokens).last_hidden_state, "bf16, sdpa")


def text_flops() -> float:
    """Of the products of one text's forward pass."""
    from layerwise.api.models import create_model

    return counted_flops(
        lambda: create_model("bert-base-uncased", head="embedding").eval()(torch.empty(1, LENGTH, dtype=torch.int64))
    )


_side = sides(__name__, ("texts/s", 1.0), text_flops)
_SIDES = (
    _side(f"{OURS}, bf16", "ours_bf16", "bf16"),
    _side(f"{OURS}, fp32", "ours_fp32", "fp32"),
    _side("transformers, fp32", "theirs_fp32", "fp32"),
    _side("transformers, bf16", "theirs_bf16", "bf16"),
)

WORKLOAD = Workload(
    title=f"BERT-base inference, {BATCH} texts of {LENGTH} tokens",
    unit="text",
    launches=1,
    turns=5,
    contenders=_SIDES,
    goals=(
        Goal(ours=_SIDES[0].name, peers=(_SIDES[2].name,), kind="speedup", value=2.0),
        Goal(ours=_SIDES[0].name, peers=(_SIDES[3].name,), kind="speedup", value=1.1),
        Goal(ours=_SIDES[1].name, peers=(_SIDES[2].name,), kind="speedup"),
    ),
)
