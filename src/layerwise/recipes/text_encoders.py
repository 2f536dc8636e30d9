"""Fine-tuning of text encoders: a checkpoint of BERT's kin on a person's texts, and on public ones."""

from dataclasses import replace

from layerwise.core.config import Component, component
from layerwise.train.recipe import Eval, Recipe

MINILM = "sentence-transformers/all-MiniLM-L6-v2"  # on the Hugging Face hub; init=DIRECTORY names a copy


def _fine_tuning(task: Component, data: str, objective: str, *, lr: float = 5e-5, batch_size: int = 16) -> Recipe:
    """Three passes with AdamW, a tenth of them to warm up: Devlin et al. 2019, appendix A.3."""
    return Recipe(
        task=task,
        model=component("all-MiniLM-L6-v2"),
        data=component(data),
        objective=component(objective),
        optimizer=component("AdamW", lr=lr, weight_decay=0.01),
        schedule=component("linear", warmup_share=0.1),
        epochs=3,
        batch_size=batch_size,
        clip=1.0,
        eval=Eval(batch_size=64),
    )


def text_fine_tuning() -> Recipe:
    """An encoder on labelled texts: `init=./checkpoint data.root=reviews.csv`."""
    return _fine_tuning(component("text_classification", max_tokens=128), "text_table", "cross_entropy")


def token_tagging() -> Recipe:
    """An encoder on tagged words: `init=./checkpoint data.root=names.conll`."""
    return _fine_tuning(component("token_tagging", max_tokens=128), "conll", "token_cross_entropy", lr=1e-4)


def question_answering() -> Recipe:
    """An encoder on questions and passages in SQuAD's JSON: `init=./checkpoint data.root=questions.json`."""
    return _fine_tuning(component("question_answering"), "squad", "span_cross_entropy")


def sentence_embedding() -> Recipe:
    """An encoder on pairs of texts that belong together: `init=./checkpoint data.root=pairs.csv`."""
    task = component("sentence_embedding", max_tokens=128)
    return _fine_tuning(task, "sentence_pairs", "in_batch_contrastive", lr=2e-5, batch_size=64)


def bert_sst() -> Recipe:
    """MiniLM of six layers on the binary sentences of the Stanford Sentiment Treebank: 89 % of the test sentences."""
    task = component("text_classification", tokenizer=MINILM, max_tokens=64)
    return replace(_fine_tuning(task, "sst", "cross_entropy", lr=1e-4, batch_size=32), init=MINILM)


def bert_wnut() -> Recipe:
    """MiniLM of six layers on WNUT-17: rare names in posts and comments, without upper case."""
    task = component("token_tagging", tokenizer=MINILM, max_tokens=128)
    return replace(_fine_tuning(task, "wnut17", "token_cross_entropy", lr=2e-4), init=MINILM, epochs=6)


def bert_xquad() -> Recipe:
    """MiniLM of six layers on six tenths of XQuAD's English articles, tested on three tenths."""
    task = component("question_answering", tokenizer=MINILM, max_tokens=256, stride=96)
    return replace(_fine_tuning(task, "xquad", "span_cross_entropy", lr=2e-4), init=MINILM, epochs=6)
