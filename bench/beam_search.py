"""64 sentences through an encoder-decoder of Marian's usual size by beams of four.

Six layers each way, 512 wide, 58,101 tokens, random weights that both sides load from one directory; sentences of 8 to
40 tokens, translations of at most 32. Ours is what `predict` does: matrices laid out once (`infer.pack_linear`). The
peer is transformers' `generate`, as it comes and under bf16 autocast. Random networks hardly ever write the stop token,
so that both sides do all steps: that ours drops sentences which are done does not count here. The number of tokens that
differ from transformers' own float32 translations is in the note.
"""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from bench.limits import sides
from bench.measure import OURS, Goal, Workload
from bench.pace import Pace
from bench.peers import peer

SENTENCES, BEAMS, NEW, LONGEST, VOCABULARY = 64, 4, 32, 40, 58_101
FILLING, STOP = VOCABULARY - 1, 0  # as in Marian's checkpoints: filling also starts a translation
WIDTH, FEED_FORWARD, LAYERS = 512, 2048, 6


def _sentences() -> tuple[Tensor, Tensor]:
    """Tokens [B, S] with filling at the end, and where there are tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, LONGEST + 1, (SENTENCES,), generator=generator)
    mask = torch.arange(LONGEST) < lengths[:, None]
    tokens = torch.randint(1, VOCABULARY - 1, (SENTENCES, LONGEST), generator=generator)
    return tokens.masked_fill(~mask, FILLING), mask


def _theirs() -> Any:
    transformers = peer("transformers")
    torch.manual_seed(0)
    config = transformers.MarianConfig(
        vocab_size=VOCABULARY,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=FEED_FORWARD,
        decoder_ffn_dim=FEED_FORWARD,
        activation_function="swish",
        scale_embedding=True,
        max_position_embeddings=512,
        pad_token_id=FILLING,
        eos_token_id=STOP,
        decoder_start_token_id=FILLING,
        forced_eos_token_id=None,
        init_std=0.05,
    )
    return transformers.MarianMTModel(config).eval()


def _loop(pace: Pace, translate: Callable[[], list[list[int]]], note: str, *, autocast: bool = False) -> None:
    torch.set_flush_denormal(True)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        found = translate()
        pace.first()
        pace.ready(float(sum(len(each) for each in found)), note)
        while True:
            translate()
            pace.window(SENTENCES)


def _transformers(pace: Pace, *, bf16: bool) -> None:
    network, (source, mask) = _theirs(), _sentences()

    def translate() -> list[list[int]]:
        found = network.generate(
            input_ids=source,
            attention_mask=mask.long(),
            num_beams=BEAMS,
            max_new_tokens=NEW,
            length_penalty=1.0,
            do_sample=False,
        )
        return [row[1:] for row in found.tolist()]

    _loop(pace, translate, "bf16" if bf16 else "fp32", autocast=bf16)


def _ours(pace: Pace, *, bf16: bool) -> None:
    from layerwise.api.models import from_pretrained
    from layerwise.infer.pack_linear import pack_linears
    from layerwise.nn.beam_search import BeamSearch, beam_search

    theirs, (source, mask) = _theirs(), _sentences()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        network = pack_linears(from_pretrained(folder).eval(), torch.bfloat16 if bf16 else torch.float32)
    expected = theirs.generate(
        input_ids=source[:4], attention_mask=mask[:4].long(), num_beams=BEAMS, max_new_tokens=NEW, do_sample=False
    )[:, 1:].tolist()
    del theirs
    search = BeamSearch(
        start_token=FILLING, stop_token=STOP, beams=BEAMS, max_new_tokens=NEW, length_penalty=1.0, never=(FILLING,)
    )

    def translate() -> list[list[int]]:
        return [each[0].tokens.tolist() for each in beam_search(network, source, mask, search)]

    with torch.inference_mode():
        found = [each[0].tokens.tolist() for each in beam_search(network, source[:4], mask[:4], search)]
    pairs = [(a, b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=False)]
    differ = sum(a != b for a, b in pairs)
    _loop(pace, translate, f"{'bf16' if bf16 else 'fp32'}; {differ} of {len(pairs)} tokens differ")


def ours(pace: Pace) -> None:
    _ours(pace, bf16=False)


def ours_bf16(pace: Pace) -> None:
    _ours(pace, bf16=True)


def transformers(pace: Pace) -> None:
    _transformers(pace, bf16=False)


def transformers_bf16(pace: Pace) -> None:
    _transformers(pace, bf16=True)


def sentence_flops() -> float:
    """Products of one sentence: the encoder once, the decoder and its output layer for every beam and step; without
    the attention's own products.
    """
    layer = 4 * WIDTH * WIDTH + 2 * WIDTH * FEED_FORWARD
    encoder = LAYERS * layer * LONGEST
    decoder = LAYERS * (layer + 2 * WIDTH * WIDTH) + WIDTH * VOCABULARY
    return 2.0 * (encoder + decoder * BEAMS * NEW)


_side = sides(__name__, ("sentences/s", 1), sentence_flops)
WORKLOAD = Workload(
    title=f"beam search, {BEAMS} beams, {SENTENCES} sentences, Transformer of {LAYERS} + {LAYERS} layers",
    unit="sentence",
    launches=1,
    turns=5,
    contenders=(
        _side(OURS, "ours", "fp32"),
        _side("transformers", "transformers", "fp32"),
        _side("layerwise bf16", "ours_bf16", "bf16"),
        _side("transformers bf16", "transformers_bf16", "bf16"),
    ),
    goals=(
        Goal(ours=OURS, peers=("transformers",), kind="speedup", value=1.5),
        Goal(ours="layerwise bf16", peers=("transformers bf16",), kind="speedup"),
    ),
)
