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


def bert_tiny_wikipedia() -> Recipe:
    """BERT-tiny pre-trained on 106 articles: the loss is 2.5 nats below the unigram entropy of the hidden word pieces.

    It stays near that entropy for some 500 steps and falls fast after that. So small a corpus wants few word pieces: of
    8,000 most are too rare to be learned.
    """
    return Recipe(
        task=component("masked_language_modelling", vocab_size=2000, max_tokens=64, next_sentence=True),
        model=component("bert-2x128", dropout=0.0, attention_dropout=0.0),
        data=component("wikipedia_sample"),
        objective=component("masked_language"),
        optimizer=component("Muon", lr=0.02, adamw_lr=3e-3, weight_decay=0.05),
        schedule=component("cosine", warmup_share=0.05),
        max_steps=4000,
        batch_size=64,
        clip=1.0,
        eval=Eval(every_epochs=None, every_steps=500, batch_size=128),
    )


def bert_tiny_wnut_scratch() -> Recipe:
    """What pre-training is measured by: WNUT-17 from random weights, with the tokeniser of
    `layerwise train bert_tiny_wikipedia --run runs/bert_tiny_wikipedia`.
    """
    task = component("token_tagging", tokenizer="runs/bert_tiny_wikipedia", max_tokens=128)
    recipe = _fine_tuning(task, "wnut17", "token_cross_entropy", lr=1e-3)
    return replace(recipe, model=component("bert-2x128"), epochs=10)


def bert_tiny_wnut() -> Recipe:
    """The same from the weights of `layerwise train bert_tiny_wikipedia --run runs/bert_tiny_wikipedia`."""
    return replace(bert_tiny_wnut_scratch(), init="runs/bert_tiny_wikipedia")


def distilbert_sst() -> Recipe:
    """A DistilBERT of three layers, taught SST-2 by `layerwise train bert_sst --run runs/bert_sst`.

    For classes of your own: `objective.teacher=RUN task.tokenizer=RUN data=text_table data.root=reviews.csv`.
    """
    task = component("text_classification", tokenizer="runs/bert_sst", max_tokens=64)
    return replace(
        _fine_tuning(task, "sst", "cross_entropy", lr=1e-4, batch_size=32),
        model=component("distilbert-base-uncased", d_model=384, num_layers=3),
        objective=component("distillation", teacher="runs/bert_sst"),
    )


# --------------------------------------------------------------------------------------------------------- as published


def _pretraining(
    model: str, task: Component, *, lr: float, beta2: float, warmup: int, batch_size: int, max_steps: int
) -> Recipe:
    return Recipe(
        task=task,
        model=component(model),
        data=component("wikipedia_dump"),
        objective=component("masked_language"),
        optimizer=component("AdamW", lr=lr, beta2=beta2, eps=1e-6, weight_decay=0.01),
        schedule=component("linear", warmup_steps=warmup),
        max_steps=max_steps,
        batch_size=batch_size,
        eval=Eval(every_epochs=None, every_steps=10_000, monitor="last"),
    )


def bert_paper() -> Recipe:
    """The published pre-training of BERT-base, `data.root=./enwiki.xml.bz2`: a million steps of 256 pairs of 512
    tokens. The paper reads books besides, and nine tenths of its steps are of 128 tokens.
    """
    task = component(
        "masked_language_modelling", vocab_size=30_522, max_tokens=512, masking="static", next_sentence=True
    )
    return _pretraining(
        "bert-base-uncased", task, lr=1e-4, beta2=0.999, warmup=10_000, batch_size=256, max_steps=1_000_000
    )


def roberta_paper() -> Recipe:
    """The published pre-training of RoBERTa-base, `data.root=./enwiki.xml.bz2`: 500,000 steps of 8,192 stretches of 512
    tokens. The paper reads 160 GB of texts, of which Wikipedia is a part.
    """
    task = component("masked_language_modelling", tokenizer="bpe", vocab_size=50_265, lowercase=False, max_tokens=512)
    return _pretraining("roberta-base", task, lr=6e-4, beta2=0.98, warmup=24_000, batch_size=8192, max_steps=500_000)


def distilbert_paper() -> Recipe:
    """The published distillation of BERT-base into six layers, `data.root=./enwiki.xml.bz2`: batches of 4,096, no next
    sentences. Rate and warm-up are those of the authors' code; of the length the paper says 90 hours on eight V100.
    """
    teacher = "google-bert/bert-base-uncased"
    recipe = _pretraining(
        "distilbert-base-uncased",
        component("masked_language_modelling", tokenizer=teacher, max_tokens=512),
        lr=5e-4,
        beta2=0.98,
        warmup=4000,
        batch_size=4096,
        max_steps=100_000,
    )
    return replace(recipe, objective=component("distillation", teacher=teacher), clip=5.0)
