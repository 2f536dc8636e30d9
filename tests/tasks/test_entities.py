"""Entities in tags, against seqeval."""

import random

import pytest

from layerwise.tasks.entities import Entity, EntityCounts, entities


def test_entities_begin_go_on_and_end() -> None:
    tags = ["I-A", "I-A", "B-A", "O", "B-B", "I-A", "I-B"]
    assert entities(tags) == [
        Entity("A", 0, 2), Entity("A", 2, 3), Entity("B", 4, 5), Entity("A", 5, 6), Entity("B", 6, 7),
    ]  # fmt: skip
    assert entities([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_seqeval(seed: int) -> None:
    metrics = pytest.importorskip("seqeval.metrics")
    draw = random.Random(seed)
    tags = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-X", "I-X"]
    true = [draw.choices(tags, k=draw.randint(1, 12)) for _ in range(60)]
    predicted = [[tag if draw.random() < 0.6 else draw.choice(tags) for tag in row] for row in true]
    counts = EntityCounts(["LOC", "PER", "X"])
    for guess, wanted in zip(predicted, true, strict=True):
        counts.add(guess, wanted)
    scores = counts.scores()
    for name, function in (
        ("f1", metrics.f1_score),
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
    ):
        assert scores[name] == pytest.approx(function(true, predicted), abs=1e-12)
    assert scores["macro_f1"] == pytest.approx(metrics.f1_score(true, predicted, average="macro"), abs=1e-12)


def test_nothing_found_is_zero() -> None:
    counts = EntityCounts(["A"])
    counts.add(["O"], ["O"])
    assert counts.scores() == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "macro_f1": 0.0}
