"""Recurrent language models of characters and words, by truncated back-propagation through time."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def lstm_shakespeare() -> Recipe:
    """An LSTM of 512 units on the characters of Tiny Shakespeare."""
    return Recipe(
        task=component("language_modelling", seq_len=64),
        model=component("lstm-char"),
        data=component("tiny_shakespeare"),
        objective=component("truncated_bptt"),
        optimizer=component("AdamW", lr=4e-3, weight_decay=0.01),
        schedule=component("cosine", warmup_share=0.05),
        epochs=10,
        batch_size=32,
        clip=1.0,
        eval=Eval(every_epochs=1),
    )


def lstm_wikitext2() -> Recipe:
    """Two LSTM layers of 256 units on the words of WikiText-2's validation part, tested on its test part."""
    return Recipe(
        task=component("language_modelling", tokenizer="words", min_count=1, seq_len=35),
        model=component("lstm-word", d_model=256, hidden_size=256, tie_weights=True, dropout=0.5),
        data=component("wikitext2"),
        objective=component("truncated_bptt"),
        optimizer=component("AdamW", lr=4e-3, weight_decay=0.01),
        schedule=component("cosine", warmup_share=0.05),
        epochs=10,
        batch_size=20,
        clip=1.0,
        eval=Eval(every_epochs=1),
    )
