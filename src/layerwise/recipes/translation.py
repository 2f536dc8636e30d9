"""Translation of Multi30k by the Transformer and by a recurrent encoder-decoder, and of texts of one's own."""

from dataclasses import replace

from layerwise.core.config import component
from layerwise.train.recipe import EMA, Eval, Recipe


def transformer_multi30k() -> Recipe:
    """A small Transformer from English to German: 39 BLEU on the test part of 2016, about an hour on one busy core.

    `data.source=de data.target=fr` and the like take other directions.
    """
    return Recipe(
        task=component("translation", vocab_size=8000, max_tokens=100),
        model=component("transformer-small", dropout=0.2),
        data=component("multi30k"),
        objective=component("autoregressive", label_smoothing=0.1),
        optimizer=component("Muon", lr=0.02, adamw_lr=2e-3, weight_decay=0.05),
        schedule=component("cosine", warmup_share=0.05),
        ema=EMA(decay=0.998),
        epochs=10,
        batch_size=128,
        clip=1.0,
        eval=Eval(every_epochs=2, batch_size=256),
    )


def seq2seq_multi30k() -> Recipe:
    """A recurrent encoder-decoder with Luong's attention from English to German: 30 BLEU in half an hour."""
    return replace(
        transformer_multi30k(),
        model=component("seq2seq"),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.01),
    )


def translation_fine_tuning() -> Recipe:
    """A Marian model on a person's own pairs: `init=./opus-mt-en-de data.source=corpus.en data.target=corpus.de`.

    Three passes with AdamW at a low rate; the checkpoint's tokeniser stays.
    """
    return Recipe(
        task=component("translation"),
        model=component("marian"),
        data=component("parallel_text"),
        objective=component("autoregressive", label_smoothing=0.1),
        optimizer=component("AdamW", lr=2e-5, weight_decay=0.01),
        schedule=component("linear", warmup_share=0.1),
        epochs=3,
        batch_size=32,
        clip=1.0,
        eval=Eval(batch_size=64),
    )
