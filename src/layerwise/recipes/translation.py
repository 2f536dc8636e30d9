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


# --------------------------------------------------------------------------------------------------------- as published


def transformer_paper() -> Recipe:
    """The published base model on WMT 2014, `data.source=train.en data.target=train.de`: 100,000 steps of about 25,000
    tokens a side, which 900 pairs have. The paper averages the last five checkpoints.
    """
    warmup = 4000
    return Recipe(
        task=component("translation", vocab_size=37_000, max_tokens=256, beams=4, length_penalty=0.6),
        model=component("transformer-base"),
        data=component("parallel_text"),
        objective=component("autoregressive", label_smoothing=0.1),
        optimizer=component("Adam", lr=(512 * warmup) ** -0.5, beta2=0.98, eps=1e-9),
        schedule=component("inverse_sqrt", warmup_steps=warmup),
        max_steps=100_000,
        batch_size=900,
        eval=Eval(every_epochs=None, every_steps=10_000, monitor="last"),
    )


def seq2seq_paper() -> Recipe:
    """The published RNNsearch-50 on WMT 2014, `data.source=train.en data.target=train.fr`: Adadelta, 288,000 steps of
    80 pairs. The paper has the 30,000 most frequent words of each side, here it is as many subwords of both.
    """
    return Recipe(
        task=component("translation", vocab_size=30_000, max_tokens=50),
        model=component("seq2seq-bahdanau", d_model=620, hidden_size=1000, dropout=0.0),
        data=component("parallel_text"),
        objective=component("autoregressive"),
        optimizer=component("Adadelta", rho=0.95, eps=1e-6),
        max_steps=288_000,
        batch_size=80,
        clip=1.0,
        eval=Eval(every_epochs=None, every_steps=10_000),
    )
