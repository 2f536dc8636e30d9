"""Answers found in passages: windows, labels, decoding, SQuAD's measures."""

import json

import pytest
import torch
from torch import Tensor, nn

from layerwise.data.examples import Splits
from layerwise.data.texts import TextExamples
from layerwise.nn.encoder_block import SpanLogits
from layerwise.tasks.question_answering import (
    QuestionAnswering,
    QuestionAnsweringConfig,
    answer_scores,
    nearest_sentence,
    normalise_answer,
)

pytest.importorskip("tokenizers")
CONTEXT = "the river runs by the old town and then it meets the wide green sea near the harbour"
QUESTION = "what does it meet"
ANSWER = (CONTEXT.index("the wide"), CONTEXT.index(" near"))


def bound(max_tokens: int = 16) -> tuple[QuestionAnswering, TextExamples]:
    train = TextExamples([QUESTION], {"answers": torch.tensor([[ANSWER]])}, [CONTEXT])
    task = QuestionAnswering(QuestionAnsweringConfig(vocab_size=400, max_tokens=max_tokens, stride=4))
    task.bind(Splits(train=train))
    return task, train


def test_labels_point_at_the_answer_where_a_window_has_it() -> None:
    for size, several in ((16, True), (100, False)):
        task, train = bound(size)
        batch = task.inputs(train.collate(torch.tensor([0])))
        assert (len(batch["tokens"]) > 1) == several
        found = 0
        for row, (first, last) in enumerate(batch["labels"].tolist()):
            spans = batch["offsets"][row]
            if (first, last) == (0, 0):
                continue
            found += 1
            assert (int(spans[first, 0]), int(spans[last, 1])) == ANSWER
        assert found >= 1
        assert batch["window_of"].tolist() == [0] * len(batch["tokens"])


def test_state_travels_as_json() -> None:
    task, train = bound()
    other = QuestionAnswering(QuestionAnsweringConfig(max_tokens=16, stride=4))
    other.load(json.loads(json.dumps(task.state())))
    first, second = (t.inputs(train.collate(torch.tensor([0]))) for t in (task, other))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


class Pointing(nn.Module):
    """Logits that are high where it is told."""

    def __init__(self, labels: Tensor, window: int) -> None:
        super().__init__()
        self.labels, self.window = labels, window

    def forward(self, tokens: Tensor, mask: Tensor, segments: Tensor) -> SpanLogits:
        start, end = torch.zeros(tokens.shape), torch.zeros(tokens.shape)
        start[self.window, self.labels[0]] = 5
        end[self.window, self.labels[1]] = 5
        end[:, 1] = 9  # of the question, which may not answer itself
        return SpanLogits(start, end)


def test_the_best_span_over_all_windows_is_the_answer() -> None:
    task, train = bound()
    batch = task.inputs(train.collate(torch.tensor([0])))
    window = next(row for row, label in enumerate(batch["labels"].tolist()) if label != [0, 0])
    network = Pointing(batch["labels"][window], window)
    (found,) = task.answers(network, batch)
    assert found["answer"] == CONTEXT[slice(*ANSWER)]
    assert found["start"] == ANSWER[0]
    metrics = task.accumulator()
    metrics.update(network, batch)
    assert metrics.compute()["f1"] == metrics.compute()["exact_match"] == 1.0


def test_an_end_before_the_beginning_is_no_answer() -> None:
    task, train = bound(100)
    batch = task.inputs(train.collate(torch.tensor([0])))
    first, last = batch["labels"][0].tolist()
    (found,) = task.answers(Pointing(torch.tensor([last, first]), 0), batch)
    assert found["answer"] != CONTEXT[slice(*ANSWER)]
    assert found["answer"]


def test_measures_are_squads() -> None:
    """Values from the definition in Rajpurkar et al. 2016, section 6.1, by hand."""
    assert normalise_answer("An  Apple, the 'Great'!") == "apple great"
    assert answer_scores("the Nile", ["Nile", "Nile River"]) == (1.0, 1.0)
    exact, f1 = answer_scores("blue Nile river", ["Nile River valley"])
    assert (exact, f1) == (0.0, pytest.approx(2 / 3))
    assert answer_scores("Rome", ["Paris"]) == (0.0, 0.0)
    assert answer_scores("", []) == (1.0, 1.0)
    assert answer_scores("x", []) == (0.0, 0.0)
    exact, f1 = answer_scores("a b b c", ["b b d"])  # "a" is an article; two words shared of three and three
    assert f1 == pytest.approx(2 / 3)


def test_the_nearest_sentence_shares_most_words() -> None:
    context = "Ann was born in Rome. Bob lives in Oslo! Who else?"
    assert nearest_sentence("Where was Ann born?", context) == "Ann was born in Rome."
