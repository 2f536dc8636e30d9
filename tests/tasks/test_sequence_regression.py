"""Regression on sequences: metrics in the target's unit, what a person may type, gradients through time."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from layerwise.core.errors import DataError
from layerwise.data.adding_problem import AddingProblem, AddingProblemConfig
from layerwise.data.examples import Splits, TensorExamples
from layerwise.models.classic.rnn_regressor import RNNRegressor, RNNRegressorConfig
from layerwise.nn.recurrent import CellName
from layerwise.objectives.base import Objective
from layerwise.tasks.gradient_drawings import gradient_norms
from layerwise.tasks.sequence_regression import SequenceRegression, SequenceRegressionConfig


def splits() -> Splits:
    return AddingProblem(AddingProblemConfig(seq_len=12, train_size=200, val_size=20, test_size=20)).splits()


def bound() -> SequenceRegression:
    task = SequenceRegression(SequenceRegressionConfig())
    task.bind(splits())
    return task


def network(cell: CellName = "lstm") -> RNNRegressor:
    torch.manual_seed(0)
    return RNNRegressor(RNNRegressorConfig(in_features=2, num_outputs=1, cell=cell, hidden_size=5)).double()


class Mean(torch.nn.Module):
    """Always the mean of the training targets."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(features), 1)


def test_the_squared_error_is_in_the_targets_own_unit() -> None:
    task, parts = bound(), splits()
    assert parts.train is not None
    assert parts.test is not None
    batch, train = parts.test.collate(torch.arange(20)), parts.train.collate(torch.arange(200))
    metrics = task.accumulator()
    metrics.update(Mean(), task.inputs(batch))
    wanted = float((batch["target"].double() - train["target"].double().mean()).square().mean())
    found = metrics.compute()
    assert found["mse"] == pytest.approx(wanted, rel=1e-6)
    assert found["rmse"] == pytest.approx(math.sqrt(wanted), rel=1e-6)
    assert task.monitor == ("mse", "min")


def test_several_targets_are_watched_by_the_standardised_error() -> None:
    task = SequenceRegression(SequenceRegressionConfig())
    columns = {"features": torch.randn(9, 4, 3), "target": torch.randn(9, 2)}
    task.bind(Splits(train=TensorExamples(columns)))
    assert task.monitor == ("loss", "min")
    assert task.facts() == {"in_features": 3, "num_outputs": 2}


def test_state_travels_as_json() -> None:
    task, other = bound(), SequenceRegression(SequenceRegressionConfig())
    other.load(json.loads(json.dumps(task.state())))
    assert (other.facts(), other.scale) == (task.facts(), task.scale)


def test_a_typed_sequence_is_predicted_on() -> None:
    task, model = bound(), network().float()
    ((name, batch),) = task.decode(["0.5 1; 0.25, 0; 0.125 1"])
    assert name == "0.5 1; 0.25, 0; 0.125 1"
    assert batch["features"].tolist() == [[[0.5, 1.0], [0.25, 0.0], [0.125, 1.0]]]
    (row,) = task.predict(model, task.inputs(batch))
    wanted = float(task.scale.restore(model(batch["features"]).detach()))
    assert row["label"] == row["values"]["sum"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5 one", "not numbers"),
        ("0.5 1; 0.3", "a step has 1 numbers; the model takes 2"),
        ("0.5 1;", "step is empty"),
    ],
)
def test_wrong_sequences_are_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        bound().decode([text])


def test_data_without_sequences_is_refused() -> None:
    task = SequenceRegression(SequenceRegressionConfig())
    with pytest.raises(DataError, match="data=adding_problem has them"):
        task.bind(Splits(train=TensorExamples({"features": torch.zeros(3, 2), "target": torch.zeros(3)})))


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_gradient_norms_are_those_of_a_small_push(cell: CellName) -> None:
    """Central differences: the hidden state after step t is pushed, the rest of the sequence read on by torch's layer.

    Tolerance 1e-6: the push is 1e-5 and its square's error is below.
    """
    model = network(cell)
    x = torch.randn(3, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.randn(3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    _, norms = gradient_norms(model, model.rnn, {"features": x, "labels": labels})
    for t in range(1, 7):
        slopes = torch.zeros(3, 5, dtype=torch.float64)
        with torch.no_grad():
            state = model.rnn(x[:, :t])[1]
            for unit in range(5):
                values: list[torch.Tensor] = []
                for push in (1e-5, -1e-5):
                    pushed = state.clone()
                    pushed[0, :, unit] += push
                    last = pushed[0] if t == 6 else model.rnn(x[:, t:], pushed)[0][:, -1]
                    values.append(F.mse_loss(model.head(last), labels, reduction="none")[:, 0])
                slopes[:, unit] = (values[0] - values[1]) / 2e-5
        assert norms["hidden state"][t - 1] == pytest.approx(float(slopes.norm(dim=1).mean()), rel=1e-6)


def test_an_lstm_has_the_gradient_of_its_cells_too_and_the_network_stays_as_it_is(tmp_path: Path) -> None:
    model = network().float()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    with torch.no_grad():
        remarks, pictures = bound().course(model, splits(), Objective(), tmp_path)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert "hidden state" in remarks[0]
    assert "cell" in remarks[0]
    assert pictures[0][1].read_bytes()[:4] == b"\x89PNG"


def test_other_networks_have_no_such_picture(tmp_path: Path) -> None:
    assert bound().course(Mean(), splits(), Objective(), tmp_path) == ([], [])
