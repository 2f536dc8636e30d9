"""Questions on passages in SQuAD's JSON."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from layerwise.core.config import component, parse_component
from layerwise.core.errors import DataError
from layerwise.data.splits import prepare
from layerwise.data.squad import Squad, SquadConfig, XQuad, XQuadConfig

CONTEXT = "Ann was born in Köln. She moved to Rome."


def file(path: Path, *qas: dict[str, Any]) -> Path:
    tree = {"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": list(qas)}]}]}
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def qa(question: str, *answers: tuple[str, int]) -> dict[str, Any]:
    return {"id": question, "question": question, "answers": [{"text": t, "answer_start": s} for t, s in answers]}


def test_questions_have_passages_and_answers_by_character(tmp_path: Path) -> None:
    path = file(tmp_path / "a.json", qa("Where?", ("Köln", 16), ("in Köln", 13)), qa("Who?"))
    train = Squad(SquadConfig(root=str(path))).splits().train
    assert train is not None
    batch = train.collate(torch.tensor([0, 1]))
    assert batch["answers"].tolist() == [[[16, 20], [13, 20]], [[-1, -1], [-1, -1]]]
    assert {"text", "pair"} <= set(batch)


def test_answers_that_are_not_there_are_left_out_and_named(tmp_path: Path) -> None:
    path = file(tmp_path / "a.json", qa("Where?", ("Rome", 16)), qa("Then?", ("Rome", 35)), qa(" "))
    splits = Squad(SquadConfig(root=str(path))).splits()
    assert splits.train is not None
    assert len(splits.train) == 1
    assert "2 questions are left out" in splits.warnings[0]
    assert "'Where?'" in splits.warnings[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not readable JSON"),
        (b'"\xff"', "not UTF-8"),
        (b"[1]", "not of SQuAD's form"),
        (b'{"data": [{"paragraphs": [{"qas": []}]}]}', "'context'"),
        (b'{"data": []}', "has no question"),
    ],
)
def test_what_cannot_be_read_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Squad(SquadConfig(root=str(tmp_path / "a.json"))).splits()


def test_xquad_is_split_by_article() -> None:
    root = Path(os.environ.get("LAYERWISE_DATA", "/nonexistent"))
    if not (root / "text" / "xquad").is_dir():
        pytest.skip("LAYERWISE_DATA has no text/xquad")
    whole = XQuad(XQuadConfig()).splits()
    assert whole.train is not None
    assert len(whole.train) == 1190
    groups = whole.extras["groups"]
    assert len(groups.unique()) == 48
    splits = prepare(parse_component("data", component("xquad"), "data"), 0)
    seen = [
        set(groups[part.collate(torch.arange(len(part)))["sample_ids"]].tolist())
        for part in (splits.train, splits.val, splits.test)
        if part is not None
    ]
    assert len(seen) == 3
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
