"""The recipes for texts learn, on a rule that is known and on film reviews."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from layerwise.api.configure import configure
from layerwise.train.build import Session, build


def trained(recipe: str, overrides: dict[str, Any]) -> Session:
    session = build(configure(recipe, overrides.items()).recipe)
    trainer = session.trainer(0, 0, ())
    trainer.fit()
    if trainer.best is not None:
        session.network.load_state_dict(trainer.best["weights"])
    session.network.eval()
    return session


def test_own_texts_whose_class_is_one_word_are_told_apart(tmp_path: Path) -> None:
    """The class hangs on one word among eight that mean nothing; one label of twenty is wrong, in test too."""
    chance = random.Random(0)
    lines = ["review,stars"]
    for part in range(400):
        label = chance.choice(["good", "bad"])
        words = [chance.choice(["film", "plot", "the", "a", "of", "and", "it"]) for _ in range(8)]
        words.insert(chance.randrange(9), {"good": "superb", "bad": "dreadful"}[label])
        shown = chance.choice(["good", "bad"]) if part < 40 else label
        lines.append(f"{' '.join(words)},{shown}")
    (tmp_path / "reviews.csv").write_text("\n".join(lines))
    overrides = {
        "data": "text_table",
        "data.root": str(tmp_path / "reviews.csv"),
        "data.text": "review",
        "data.label": "stars",
        "data.test": 0.25,
    }
    session = trained("text_classification", overrides)
    with torch.no_grad():
        assert session.evaluate("test", session.network)[0]["accuracy"] >= 0.92
        rows = session.task.predict(session.network, session.task.inputs(session.task.decode(["a superb plot"])[0][1]))
    assert rows[0]["label"] == "good"


def test_reaches_its_figure_on_film_reviews(datasets_folder: Path) -> None:
    if not (datasets_folder / "text" / "sst").is_dir():
        pytest.skip("text/sst is not beside the repository")
    session = trained("fasttext_sst", {"data.root": str(datasets_folder / "text" / "sst")})
    with torch.no_grad():
        assert session.evaluate("test", session.network)[0]["accuracy"] >= 0.80
