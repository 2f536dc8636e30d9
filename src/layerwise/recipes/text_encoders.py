"""Fine-tuning of text encoders: a checkpoint of BERT's kin on a person's texts, and on public ones."""

from dataclasses import replace

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe

MINILM = "sentence-transformers/all-MiniLM-L6-v2"  # on the Hugging Face hub; init=DIRECTORY names a copy


def text_fine_tuning() -> Recipe:
    """An encoder on labelled texts: `init=./checkpoint data.root=reviews.csv`."""
    return Recipe(
        task=component("text_classification", max_tokens=128),
        model=component("all-MiniLM-L6-v2"),
        data=component("text_table"),
        objective=component("cross_entropy"),
        optimizer=component("AdamW", lr=5e-5, weight_decay=0.01),
        schedule=component("linear", warmup_share=0.1),
        epochs=3,
        batch_size=16,
        clip=1.0,
        eval=Eval(batch_size=64),
    )


def token_tagging() -> Recipe:
    """An encoder on tagged words: `init=./checkpoint data.root=names.conll`."""
    return replace(
        text_fine_tuning(),
        task=component("token_tagging", max_tokens=128),
        data=component("conll"),
        objective=component("token_cross_entropy"),
        optimizer=component("AdamW", lr=1e-4, weight_decay=0.01),
    )


def question_answering() -> Recipe:
    """An encoder on questions and passages in SQuAD's JSON: `init=./checkpoint data.root=questions.json`."""
    return replace(
        text_fine_tuning(),
        task=component("question_answering"),
        data=component("squad"),
        objective=component("span_cross_entropy"),
    )


def bert_sst() -> Recipe:
    """MiniLM of six layers on the binary sentences of the Stanford Sentiment Treebank: 89 % of the test sentences."""
    return replace(
        text_fine_tuning(),
        task=component("text_classification", tokenizer=MINILM, max_tokens=64),
        init=MINILM,
        data=component("sst"),
        optimizer=component("AdamW", lr=1e-4, weight_decay=0.01),
        batch_size=32,
    )


def bert_wnut() -> Recipe:
    """MiniLM of six layers on WNUT-17: rare names in posts and comments, without upper case."""
    return replace(
        token_tagging(),
        task=component("token_tagging", tokenizer=MINILM, max_tokens=128),
        init=MINILM,
        data=component("wnut17"),
        optimizer=component("AdamW", lr=2e-4, weight_decay=0.01),
        epochs=6,
    )


def bert_xquad() -> Recipe:
    """MiniLM of six layers on six tenths of XQuAD's English articles, tested on three tenths."""
    return replace(
        question_answering(),
        task=component("question_answering", tokenizer=MINILM, max_tokens=256, stride=96),
        init=MINILM,
        data=component("xquad"),
        optimizer=component("AdamW", lr=2e-4, weight_decay=0.01),
        epochs=6,
    )


def sentence_embedding() -> Recipe:
    """An encoder on pairs of texts that belong together: `init=./checkpoint data.root=pairs.csv`."""
    return replace(
        text_fine_tuning(),
        task=component("sentence_embedding", max_tokens=128),
        data=component("sentence_pairs"),
        objective=component("in_batch_contrastive"),
        optimizer=component("AdamW", lr=2e-5, weight_decay=0.01),
        batch_size=64,
    )
