"""The first learning machines: each recipe reaches what its page says, from more than one start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from layerwise.api.configure import configure
from layerwise.train.build import build

Command = Callable[..., Any]


def trained(recipe: str, **overrides: Any) -> dict[str, float]:
    """Test metrics of the weights that validation chose."""
    session = build(configure(recipe, [(name.replace("__", "."), value) for name, value in overrides.items()]).recipe)
    trainer = session.trainer(0, 0, [])
    trainer.fit()
    if trainer.best is not None:
        session.network.load_state_dict(trainer.best["weights"])
    with torch.no_grad():
        return {**session.evaluate("test", session.network.eval())[0], "steps": trainer.step}


@pytest.mark.parametrize("function", ["and", "or", "not", "xor"])
def test_neurons_compute_their_truth_table(function: str) -> None:
    assert trained(f"mcculloch_pitts_{function}")["errors"] == 0


def test_a_preset_without_a_recipe_takes_its_familys() -> None:
    assert trained("mcculloch_pitts-tiny")["errors"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_perceptron_separates_points_also_new_ones(seed: int) -> None:
    found = trained("perceptron", seed=seed, data__seed=seed, data__margin=0.1)
    assert found["accuracy"] >= 0.98
    assert found["steps"] < 10_000


def test_the_perceptron_cannot_learn_exclusive_or() -> None:
    found = trained("perceptron_xor")
    assert found["errors"] >= 1
    assert found["steps"] == 400


def test_association_units_in_front_let_it_learn_exclusive_or() -> None:
    assert trained("perceptron_xor", model="perceptron-1958")["errors"] == 0


@pytest.mark.parametrize("recipe", ["backprop_xor", "backprop_parity", "backprop_symmetry", "backprop_encoder"])
def test_backpropagation_solves_the_problems_of_1986(recipe: str) -> None:
    solved = [trained(recipe, seed=seed) for seed in range(3)]
    assert [found["errors"] for found in solved] == [0, 0, 0]
    assert all(found["steps"] < 5000 for found in solved)


def test_the_perceptron_on_digits_reaches_its_figure() -> None:
    assert trained("mlp", epochs=20)["accuracy"] >= 0.97


@pytest.mark.slow
def test_the_perceptron_on_mnist_reaches_its_figure(datasets_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(datasets_folder))
    assert trained("mlp_mnist")["accuracy"] >= 0.985
