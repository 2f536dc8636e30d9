"""Adapters, freezing and layer-wise rates through whole runs: what is saved is the plain network, and works."""

import json
from pathlib import Path

import pytest
import torch

import layerwise as lw
from layerwise.api.infer import evaluate
from layerwise.api.train import train
from layerwise.core.console import Console

SHORT = {"max_steps": 30, "eval.every_epochs": None, "batch_size": 64}


def run(path: Path, **overrides: object) -> Path:
    options = {**SHORT, **{name.replace("__", "."): value for name, value in overrides.items()}}
    return train("lenet5", options.items(), run=str(path), console=Console(quiet=True)).path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that others start from."""
    return run(tmp_path_factory.mktemp("source") / "run")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return lw.from_pretrained(path).state_dict()


@pytest.mark.parametrize("model", ["lenet5", "convnet", "mlp"])
def test_adapters_are_merged_into_the_saved_weights(model: str, tmp_path: Path) -> None:
    path = run(tmp_path / "run", model=model, adapter="lora", adapter__rank=2)
    saved = weights(path)  # loads strictly: no adapter's name is left
    assert not any("lora" in name for name in saved)
    reported = json.loads((path / "report.json").read_text())["metrics"]
    again = evaluate(str(path))["metrics"]
    assert again["test/accuracy"] == pytest.approx(reported["test/accuracy"], abs=1e-9)
    assert again["test/loss"] == pytest.approx(reported["test/loss"], rel=1e-4)


def test_adapters_change_the_weights_they_are_merged_into_by_their_rank(source: Path, tmp_path: Path) -> None:
    path = run(tmp_path / "run", init=str(source), adapter="lora", adapter__rank=2, adapter__targets=["conv*"])
    before, after = weights(source), weights(path)
    for name, value in after.items():
        change = (value - before[name]).flatten(1).double() if value.dim() > 1 else value - before[name]
        if name.startswith("conv") and name.endswith("weight"):
            singular = torch.linalg.svdvals(change)
            assert singular[0] > 1e-4
            # Rank two but for the float32 rounding of the sum.
            assert float(singular[2:].sum()) < 1e-3 * float(singular[0])
        else:
            assert not change.any(), name


def test_frozen_layers_stay_and_the_others_move(source: Path, tmp_path: Path) -> None:
    path = run(tmp_path / "run", init=str(source), freeze=["conv*", "fc1.*"])
    before, after = weights(source), weights(path)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"fc2.weight", "fc2.bias"}


def test_lower_layers_move_less_with_layer_decay(source: Path, tmp_path: Path) -> None:
    even = run(tmp_path / "even", init=str(source), optimizer="SGD", optimizer__lr=0.01, ema=None)
    decayed = run(tmp_path / "decayed", init=str(source), optimizer="SGD", optimizer__lr=0.01, layer_decay=0.1)
    before, a, b = weights(source), weights(even), weights(decayed)

    def moved(after: dict[str, torch.Tensor], name: str) -> float:
        return float((after[name] - before[name]).norm())

    # conv1 learns at a thousandth or less of the head's rate.
    assert moved(b, "conv1.weight") < 0.05 * moved(a, "conv1.weight")
    assert moved(b, "fc2.weight") > 0.3 * moved(a, "fc2.weight")


def test_an_adapted_run_goes_on_with_more_steps(tmp_path: Path) -> None:
    overrides = {"adapter": "lora", "schedule": "constant", "keep__every_steps": 10}
    whole = run(tmp_path / "whole", **overrides, max_steps=40)
    run(tmp_path / "parts", **overrides, max_steps=30)
    parts = run(tmp_path / "parts", **overrides, max_steps=40)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(parts)[name]), name
