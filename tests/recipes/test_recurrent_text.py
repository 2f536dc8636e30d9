"""Recurrent language models by their recipes on texts of one's own."""

import math
from pathlib import Path

import pytest
import torch

from layerwise.api.configure import configure
from layerwise.core.errors import ConfigError
from layerwise.infer.generate import generate_text
from layerwise.tasks.language_modelling import LanguageModelling
from layerwise.train.build import Session, build

PATTERN = "abacabd"  # after "a" come b, c, b, d: only more context than one character tells which


def trained(recipe: str, overrides: dict[str, object]) -> Session:
    session = build(configure(recipe, overrides.items()).recipe)
    trainer = session.trainer(0, 0, ())
    trainer.fit()
    assert trainer.best is not None
    session.network.load_state_dict(trainer.best["weights"])
    session.network.eval()
    return session


def loss_of(session: Session) -> float:
    with torch.no_grad():
        return session.evaluate("val", session.network)[0]["loss"]


def test_learns_and_continues_what_needs_context(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text(PATTERN * 400)
    overrides = {"data": "text", "data.root": str(tmp_path), "task.seq_len": 20, "model.hidden_size": 32}
    session = trained(
        "lstm_shakespeare", {**overrides, "epochs": 8, "batch_size": 8, "model.dropout": 0.0, "optimizer.lr": 0.02}
    )
    # Of seven characters four are "a"; a table of pairs is certain after the others and at best has H(1/2, 1/4, 1/4)
    # after "a".
    assert loss_of(session) < 4 / 7 * 1.5 * math.log(2) / 3
    assert isinstance(session.task, LanguageModelling)
    (row,) = generate_text(session.network, session.task, prompt=PATTERN, max_new_tokens=70, temperature=0)
    assert row["text"] == PATTERN * 11


@pytest.mark.parametrize(
    ("change", "message"),
    [("data.limit=10", "data.limit"), ("task.stride=3", "task.stride"), ("task.packed=true", "task.packed")],
)
def test_a_text_that_does_not_go_on_is_refused(tmp_path: Path, change: str, message: str) -> None:
    (tmp_path / "own.txt").write_text(PATTERN * 100)
    name, value = change.split("=")
    overrides = {"data": "text", "data.root": str(tmp_path), "task.seq_len": 8, name: value == "true" or int(value)}
    with pytest.raises(ConfigError, match=message):
        build(configure("lstm_shakespeare", overrides.items()).recipe).trainer(0, 0, ())


@pytest.mark.slow
def test_words_of_ones_own_text_are_learned(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("the cat sat on the mat .\n" * 120)
    overrides: dict[str, object] = {"data": "text", "data.root": str(tmp_path), "data.test": 0, "task.seq_len": 8}
    overrides |= {"model.d_model": 16, "model.hidden_size": 16, "model.dropout": 0.0, "epochs": 15, "batch_size": 4}
    session = trained("lstm_wikitext2", {**overrides, "optimizer.lr": 0.02})
    assert loss_of(session) < math.log(2) / 8  # after "the" comes one of two words, twice in eight tokens
    assert isinstance(session.task, LanguageModelling)
    (row,) = generate_text(session.network, session.task, prompt="the cat", max_new_tokens=13, temperature=0)
    assert row["text"] == "the cat sat on the mat .\nthe cat sat on the mat ."


def test_unknown_words_are_noted(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("the cat sat on the mat .\n" * 120)
    overrides = {"data": "text", "data.root": str(tmp_path), "task.seq_len": 8, "batch_size": 4}
    notes = build(configure("lstm_wikitext2", overrides.items()).recipe).notes
    assert any("count as one, <unk>: 0.0 % of train" in note for note in notes)
