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


def lstm_words_paper() -> Recipe:
    """The published medium LSTM of Zaremba, Sutskever and Vinyals (2014, arXiv:1409.2329) on Penn Treebank's words,
    `data.root=./ptb`: 650 units, rate 1 that falls by 1.2 in every pass from the seventh on, 39 passes. The paper draws
    weights from [-0.05, 0.05].
    """
    return Recipe(
        task=component("language_modelling", tokenizer="words", min_count=1, seq_len=35),
        model=component("lstm-word-medium", vocab_size=None),
        data=component("text"),
        objective=component("truncated_bptt"),
        optimizer=component("SGD", lr=1.0, momentum=0.0),
        schedule=component("step", milestones=[float(epoch) for epoch in range(6, 39)], gamma=1 / 1.2),
        epochs=39,
        batch_size=20,
        clip=5.0,
    )
