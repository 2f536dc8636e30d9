"""Packed batches of text tasks: what is learned from and measured is that of separate rows."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import layerwise as lw
from layerwise.api.configure import configure
from layerwise.core.errors import ConfigError
from layerwise.data.examples import Splits
from layerwise.data.texts import TextExamples
from layerwise.objectives.base import Context, Objective
from layerwise.objectives.cross_entropy import CrossEntropy, CrossEntropyConfig
from layerwise.objectives.token_cross_entropy import TokenCrossEntropy, TokenCrossEntropyConfig
from layerwise.ops.random import Draws
from layerwise.tasks.text_classification import TextClassification, TextClassificationConfig
from layerwise.tasks.texts import TextTask
from layerwise.tasks.token_tagging import TokenTagging, TokenTaggingConfig
from layerwise.train.build import build

pytest.importorskip("tokenizers")
WORDS = ["a", "film", "so", "very", "good", "bad", "dull", "plot", "cast", "wonderful"]
CONTEXT = Context(step=0, epoch=0, phase="main", draws=Draws(0))


def examples(kind: str, pairs: bool = False) -> TextExamples:
    draw = random.Random(0)
    texts = [" ".join(draw.choice(WORDS) for _ in range(draw.randrange(1, 9))) for _ in range(9)]
    if kind == "tagger":
        tags = torch.full((9, 8), -100)
        for row, text in enumerate(texts):
            for word in range(len(text.split())):
                tags[row, word] = draw.randrange(3)
        return TextExamples(texts, {"tags": tags})
    return TextExamples(texts, {"labels": torch.tensor([0, 1] * 4 + [1])}, texts[::-1] if pairs else None)


def task(kind: str, packed: bool, pairs: bool = False) -> TextTask:
    options: dict[str, Any] = {"tokenizer": "wordpiece", "vocab_size": 50, "max_tokens": 12, "packed": packed}
    splits = Splits(train=examples(kind, pairs), class_names=["O", "B-x", "I-x"] if kind == "tagger" else ["-", "+"])
    made: TextTask
    if kind == "tagger":
        made = TokenTagging(TokenTaggingConfig(**options))
    else:
        made = TextClassification(TextClassificationConfig(**options))
    made.bind(splits)
    return made


@pytest.mark.parametrize(("kind", "pairs"), [("classifier", False), ("classifier", True), ("tagger", False)])
def test_loss_gradient_measures_and_predictions_are_those_of_separate_rows(kind: str, pairs: bool) -> None:
    """Float64, 1e-9."""
    found: list[tuple[torch.Tensor, list[torch.Tensor], dict[str, float], Any]] = []
    for packed in (False, True):
        bound = task(kind, packed, pairs)
        torch.manual_seed(0)
        network = lw.create_model(
            "bert-tiny", vocab_size=bound.tokenizer.vocab_size, head=kind, num_classes=3 if kind == "tagger" else 2
        )
        network.double().eval()
        batch = bound.inputs(examples(kind, pairs).collate(torch.arange(9)))
        assert ("documents" in batch) == packed
        assert ("mask" in batch) != packed
        objective: Objective = (
            TokenCrossEntropy(TokenCrossEntropyConfig()) if kind == "tagger" else CrossEntropy(CrossEntropyConfig())
        )
        (term,) = objective(network, batch, CONTEXT).values()
        assert term.count == next(iter(objective.counts(batch, "main").values()))
        grads = torch.autograd.grad(term.sum / term.count, list(network.parameters()))
        accumulator = bound.accumulator()
        with torch.no_grad():
            accumulator.update(network, batch)
            predicted = bound.predict(network, batch if kind != "tagger" else {**batch, **_raw(pairs)})
        found.append((term.sum.detach(), list(grads), accumulator.compute(), predicted))
    (loss, grads, measures, predicted), (other_loss, other_grads, others, other_predicted) = found
    torch.testing.assert_close(other_loss, loss, rtol=1e-9, atol=1e-9)
    for got, wanted in zip(other_grads, grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    assert others == pytest.approx(measures, rel=1e-6)
    assert [row.get("label", row.get("tags")) for row in other_predicted] == [
        row.get("label", row.get("tags")) for row in predicted
    ]


def _raw(pairs: bool) -> dict[str, torch.Tensor]:
    return {"text": examples("tagger", pairs).collate(torch.arange(9))["text"]}


def test_a_network_that_does_not_take_packed_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\n" + "so good,+\nso dull,-\n" * 20)
    options = {"task.packed": True, "task.tokenizer": "wordpiece", "model": "fasttext"}
    options |= {"data": "text_table", "data.root": str(tmp_path / "reviews.csv")}
    recipe = configure("text_fine_tuning", options.items()).recipe
    nothing: list[nn.Module] = []
    with pytest.raises(ConfigError, match="does not take packed texts"):
        nothing.append(build(recipe).network)


def test_a_network_that_does_not_tell_two_texts_apart_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("text,other,label\n" + "so good,fine,+\nso dull,fine,-\n" * 20)
    options = {"data.root": str(tmp_path / "pairs.csv"), "data.pair": "other", "task.tokenizer": "wordpiece"}
    recipe = configure("text_classification", {"data": "text_table", **options}.items()).recipe
    with pytest.raises(ConfigError, match=r"fasttext does not tell two texts apart.*`segments`"):
        build(recipe)
