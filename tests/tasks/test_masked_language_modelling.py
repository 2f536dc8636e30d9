"""Masked language modelling as a task: samples from documents, measures, masks filled in."""

import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import layerwise as lw
from layerwise.api.open import open_model
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits
from layerwise.data.masked_texts import MaskedTexts
from layerwise.data.subword import SubwordTokenizer
from layerwise.data.texts import TextExamples
from layerwise.ops.linear_cross_entropy import IGNORED
from layerwise.tasks.masked_language_modelling import (
    MaskedLanguageModelling,
    MaskedLanguageModellingConfig,
    split_sentences,
)

pytest.importorskip("tokenizers")
WORDS = ["river", "sand", "bird", "stone", "cloud", "tree", "light", "rain", "hill", "wind"]


def texts(count: int = 6) -> list[str]:
    draw = random.Random(0)
    line = lambda: " ".join(draw.choice(WORDS) for _ in range(draw.randrange(4, 9))).capitalize() + "."  # noqa: E731
    return [" ".join(line() for _ in range(8)) for _ in range(count)]


def bound(**options: Any) -> tuple[MaskedLanguageModelling, Splits]:
    task = MaskedLanguageModelling(MaskedLanguageModellingConfig(**{"vocab_size": 80, "max_tokens": 24, **options}))
    splits = Splits(train=TextExamples(texts(), {}), val=TextExamples(texts(3), {}))
    task.bind(splits)
    return task, splits


def test_sentences_end_at_their_signs_and_at_line_ends() -> None:
    assert split_sentences("It rains.  Who knew? (Ann did.)\n\nHeading\nPi is 3.14 e.g. here.") == [
        "It rains.",
        "Who knew?",
        "(Ann did.)",
        "Heading",
        "Pi is 3.14 e.g. here.",
    ]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_words_can_be_hidden_from_every_tokeniser_that_is_learned(kind: str) -> None:
    task, splits = bound(tokenizer=kind, vocab_size=300 if kind == "bpe" else 80)
    assert splits.train is not None
    batch, subwords = task.inputs(splits.train.collate(torch.arange(len(splits.train)))), task.subwords
    assert (batch["tokens"][:, 0] == subwords.cls_id).all()
    assert (batch["tokens"] == subwords.mask_id).any()
    assert ((batch["tokens"] == subwords.pad_id) == ~batch["mask"]).all()


@pytest.mark.parametrize("pairs", [False, True])
def test_documents_become_samples_for_the_head(pairs: bool) -> None:
    task, splits = bound(next_sentence=pairs)
    assert task.facts() == {
        "vocab_size": task.tokenizer.vocab_size,
        "max_seq_len": 24,
        "head": "pretraining" if pairs else "masked_lm",
    }
    assert isinstance(splits.train, MaskedTexts)
    batch = task.inputs(splits.train.collate(torch.arange(4)))
    assert ("next_sentence" in batch) == pairs
    whole = torch.where(batch["labels"] == IGNORED, batch["tokens"], batch["labels"])[0]
    shown = task.subwords.decode(whole[batch["mask"][0]]).replace("[CLS]", "").replace("[SEP]", "")
    assert set(shown.replace(".", "").split()) <= set(WORDS)
    lengths = task.lengths(splits.train)
    assert lengths is not None
    assert len(lengths) == len(splits.train)


@torch.no_grad()
def test_measures_are_those_of_all_hidden_words_and_the_entropy_of_all_words() -> None:
    """Float32 networks: 1e-5."""
    task, splits = bound(next_sentence=True)
    assert splits.val is not None
    torch.manual_seed(0)
    vocab = task.tokenizer.vocab_size
    network = lw.create_model("bert-tiny", vocab_size=vocab, head="pretraining").eval()
    ids = torch.arange(len(splits.val))
    metrics = [task.accumulator() for _ in range(2)]
    for accumulator, part in zip(metrics, ids.split(len(ids) // 2 + 1), strict=True):
        accumulator.update(network, splits.val.collate(part))
    metrics[0].merge([each.state() for each in metrics])
    found = metrics[0].compute()
    batch = splits.val.collate(ids)
    logits, said = network(batch["tokens"], batch["mask"], batch["segments"])
    hidden = batch["labels"] != IGNORED
    log_p = logits[hidden].log_softmax(-1).gather(1, batch["labels"][hidden][:, None])
    assert found["loss"] == pytest.approx(float(-log_p.mean()), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]), rel=1e-9)
    right = (logits[hidden].argmax(-1) == batch["labels"][hidden]).float().mean()
    assert found["accuracy"] == pytest.approx(float(right))
    judged = (said.argmax(1) == batch["next_sentence"]).float().mean()
    assert found["next_sentence_accuracy"] == pytest.approx(float(judged))
    whole = torch.where(hidden, batch["labels"], batch["tokens"])[batch["mask"]].tolist()
    counts = Counter(token for token in whole if token not in task.subwords.special_ids)
    total = sum(counts.values())
    entropy = -sum(n / total * math.log(n / total) for n in counts.values())
    assert found["unigram_entropy"] == pytest.approx(entropy, rel=1e-9)


@torch.no_grad()
def test_masks_are_filled_with_the_likeliest_words() -> None:
    task, _ = bound()
    torch.manual_seed(0)
    network = lw.create_model("bert-tiny", vocab_size=task.tokenizer.vocab_size, head="masked_lm").eval()
    ((_, raw),) = task.decode(["river [MASK] bird [MASK]."])
    batch = task.inputs(raw)
    (row,) = task.predict(network, batch)
    logits = network(batch["tokens"], batch["mask"])[0]
    places = torch.nonzero(batch["tokens"][0] == task.subwords.mask_id).flatten().tolist()
    assert len(row["masks"]) == len(places) == 2
    for place, guesses in zip(places, row["masks"], strict=True):
        scores = logits[place].softmax(-1)
        best = scores.topk(5)
        assert list(guesses) == [task.subwords.token(int(i)) for i in best.indices]
        assert list(guesses.values()) == pytest.approx(best.values.tolist(), rel=1e-5)
    assert row["label"].startswith("river ")
    with pytest.raises(DataError, match=r"no \[MASK\]"):
        task.predict(network, task.inputs(task.decode(["river bird"])[0][1]))


@torch.no_grad()
def test_a_directory_of_transformers_fills_masks(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    tokenizer = SubwordTokenizer.train(texts(), kind="wordpiece", vocab_size=80, lowercase=True)
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=40, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.BertForMaskedLM(config).eval()
    theirs.save_pretrained(tmp_path)
    for name, tree in tokenizer.files().items():
        (tmp_path / name).write_text(json.dumps(tree))
    network, task, _ = open_model(tmp_path)
    ((_, raw),) = task.decode(["river [MASK] bird."])
    (row,) = task.predict(network, task.inputs(raw))
    encoded = transformers.AutoTokenizer.from_pretrained(tmp_path)("river [MASK] bird.", return_tensors="pt")
    logits = theirs(**encoded).logits[0]
    place = encoded["input_ids"][0].tolist().index(tokenizer.mask_id)
    assert next(iter(row["masks"][0])) == tokenizer.token(int(logits[place].argmax()))
