"""The recipe of the small GPT, on a text whose entropy is known, and on the plays."""

import math
from pathlib import Path

import pytest
import torch

from layerwise.api.configure import configure
from layerwise.infer.generate import generate_text
from layerwise.tasks.language_modelling import LanguageModelling
from layerwise.train.build import Session, build

PATTERN = "abacabd"  # after "a" come b, c, b, d: only more context than one character tells which


def trained(overrides: dict[str, object]) -> Session:
    session = build(configure("gpt_shakespeare", overrides.items()).recipe)
    trainer = session.trainer(0, 0, ())
    trainer.fit()
    assert trainer.best is not None
    session.network.load_state_dict(trainer.best["weights"])
    session.network.eval()
    return session


def test_learns_and_continues_what_needs_context(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text(PATTERN * 200)
    overrides = {"data.root": str(tmp_path), "task.seq_len": 32, "model.d_model": 32, "max_steps": 60}
    session = trained({**overrides, "batch_size": 8, "eval.every_steps": 30})
    with torch.no_grad():
        loss = session.evaluate("val", session.network)[0]["loss"]
    # Of seven characters four are "a"; a table of pairs is certain after the others and at best has H(1/2, 1/4, 1/4)
    # after "a".
    pairs = 4 / 7 * 1.5 * math.log(2)
    assert loss < pairs / 3
    task = session.task
    assert isinstance(task, LanguageModelling)
    (row,) = generate_text(session.network, task, prompt=PATTERN, max_new_tokens=70, temperature=0)
    assert row["text"] == PATTERN * 11  # more than twice the model's window


@pytest.mark.slow
def test_reaches_its_figure_on_the_plays(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    session = trained({})
    with torch.no_grad():
        assert session.evaluate("val", session.network)[0]["loss"] < 1.65
