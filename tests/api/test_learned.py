"""What each layer learned, in a report: what it costs, what it leaves alone, what happens when it cannot be made."""

import json
from pathlib import Path

import pytest
import torch

from layerwise.api.configure import configure
from layerwise.api.learned import what_layers_learned
from layerwise.api.train import train
from layerwise.core.console import Console
from layerwise.data.examples import Examples
from layerwise.train.artefact import load_model
from layerwise.train.build import Session, build


def session(*changes: tuple[str, object]) -> Session:
    return build(configure("lenet5", changes).recipe)


def test_the_same_network_gives_the_same_figures_and_nothing_else_changes(tmp_path: Path) -> None:
    made = session()
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    state = torch.get_rng_state()
    one, missing = what_layers_learned(made, tmp_path / "one")
    two, _ = what_layers_learned(made, tmp_path / "two")
    assert missing == []
    assert one == two
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in made.network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in made.network.parameters())


def test_the_test_part_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = session()
    assert made.splits is not None

    class Sealed(Examples):
        def __len__(self) -> int:
            raise AssertionError("the test part is read once, by the evaluation")

        def collate(self, indices: torch.Tensor) -> dict[str, torch.Tensor]:
            raise AssertionError("the test part is read once, by the evaluation")

        def fingerprint(self) -> str:
            return ""

    monkeypatch.setattr(made.splits, "test", Sealed())
    assert what_layers_learned(made, tmp_path)[1] == []


def test_few_examples_are_seen_where_each_costs_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerwise.api.learned._WORK", 1e6)
    tree, _ = what_layers_learned(session(), tmp_path)
    assert (tree["probe"]["train"], tree["probe"]["val"]) == (100, 100)


def test_a_network_that_gives_no_numbers_is_named_and_the_rest_is_made(tmp_path: Path) -> None:
    made = session()
    with torch.no_grad():
        made.network.get_parameter("conv2.bias").fill_(float("nan"))
    tree, missing = what_layers_learned(made, tmp_path)
    assert missing == [
        "The probe by depth could not be made: features hold values that are not finite",
        "The feature maps could not be made: values that are not finite cannot be drawn",
    ]
    assert set(tree) == {"filters"}


def test_programming_errors_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a mistake")

    monkeypatch.setattr("layerwise.explain.learned.first_filters", broken)
    with pytest.raises(TypeError, match="a mistake"):
        what_layers_learned(session(), tmp_path)


def test_tasks_without_classes_have_no_such_part(tmp_path: Path) -> None:
    made = build(configure("gpt_shakespeare", [("data", "text"), ("data.root", _text(tmp_path))]).recipe)
    assert what_layers_learned(made, tmp_path / "pictures") == ({}, [])
    assert not (tmp_path / "pictures").exists()


def _text(folder: Path) -> str:
    path = folder / "text.txt"
    path.write_text("to be or not to be, that is the question. " * 400)
    return str(path)


def test_the_report_shows_the_weights_that_are_saved(tmp_path: Path) -> None:
    """With averaged weights, which training itself does not have."""
    run, changes = tmp_path / "run", [("epochs", 1), ("ema.decay", 0.99)]
    train("lenet5", changes, run=str(run), console=Console(quiet=True))
    made = session(*changes)
    network, _, _ = load_model(run / "model")
    made.network.load_state_dict(network.state_dict())
    expected, _ = what_layers_learned(made, tmp_path / "pictures")
    found = json.loads((run / "report.json").read_text())["learned"]
    assert found["probe"] == expected["probe"]
    for file in (tmp_path / "pictures").iterdir():
        assert file.read_bytes() == (run / "pictures" / file.name).read_bytes()
