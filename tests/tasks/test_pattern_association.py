"""Patterns right or wrong by each kind of output unit, predictions from text, what the report says and draws."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from layerwise.api.configure import configure
from layerwise.core.config import parse_component
from layerwise.core.errors import DataError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.data.splits import prepare
from layerwise.objectives.base import Objective
from layerwise.tasks.pattern_association import (
    PatternAssociation,
    PatternAssociationConfig,
    PatternMetrics,
    activations,
)
from layerwise.train.build import build


def test_outputs_are_read_by_the_kind_of_unit() -> None:
    outputs = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    assert activations(outputs, "threshold").tolist() == [0.0, 0.5, 1.0]
    assert activations(outputs, "binary").tolist() == [-2.0, 0.0, 3.0]
    logistic = [1 / (1 + 2.718281828459045**-x) for x in (-2.0, 0.0, 3.0)]
    assert activations(outputs, "logistic").tolist() == pytest.approx(logistic, abs=1e-12)


def metrics(config: PatternAssociationConfig, *parts: tuple[list[list[float]], list[list[float]]]) -> PatternMetrics:
    found = PatternMetrics(config)
    for outputs, targets in parts:
        found.update_from(torch.tensor(outputs), torch.tensor(targets))
    return found


def test_a_pattern_is_right_when_all_of_its_units_are() -> None:
    config = PatternAssociationConfig(output_units="binary", tolerance=0.4)
    found = metrics(config, ([[0.9, 0.1], [0.9, 0.41], [0.2, 0.0]], [[1, 0], [1, 0], [1, 0]])).compute()
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["errors"] == 2
    assert found["solved"] == 0
    squares = 0.1**2 + 0.1**2 + 0.1**2 + 0.41**2 + 0.8**2
    assert found["squared_error"] == pytest.approx(squares / 6, rel=1e-6)


def test_a_problem_is_solved_when_no_pattern_is_wrong() -> None:
    config = PatternAssociationConfig(output_units="binary")
    assert metrics(config, ([[0.9], [0.2]], [[1], [0]])).compute()["solved"] == 1


def test_a_threshold_unit_at_zero_is_wrong_for_either_target() -> None:
    config = PatternAssociationConfig(output_units="threshold")
    assert metrics(config, ([[0.0], [0.0]], [[0.0], [1.0]])).compute()["errors"] == 2


def test_parts_merged_equal_the_whole() -> None:
    config = PatternAssociationConfig()
    a = ([[2.0], [-1.0]], [[1.0], [1.0]])
    b = ([[0.3], [-3.0], [4.0]], [[0.0], [0.0], [1.0]])
    whole, merged = metrics(config, a, b), metrics(config)
    merged.merge([metrics(config, a).state(), metrics(config, b).state()])
    assert merged.compute() == whole.compute()
    assert merged.table() == whole.table()


def bound(**columns: Any) -> PatternAssociation:
    task = PatternAssociation(PatternAssociationConfig(output_units="binary"))
    task.bind(Splits(train=TensorExamples({name: torch.tensor(value) for name, value in columns.items()})))
    return task


def test_state_round_trip_keeps_the_sizes() -> None:
    task = bound(features=[[0.0, 1.0, 1.0]], target=[[1.0, 0.0]])
    other = PatternAssociation(PatternAssociationConfig())
    other.load(task.state())
    assert other.facts() == task.facts() == {"in_features": 3, "num_outputs": 2, "num_classes": 2}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"features": [[0.0]]}, "no column target"),
        ({"features": [[0.0]], "target": [[0.5]]}, "targets must be 0 or 1"),
    ],
)
def test_data_without_answers_of_zeros_and_ones_is_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        bound(**columns)


def test_another_number_of_output_units_is_refused() -> None:
    with pytest.raises(DataError, match="has 1 output units, the data 2 targets"):
        metrics(PatternAssociationConfig(), ([[0.0]], [[0.0, 1.0]]))


def test_a_whole_truth_table_has_no_interval_and_sampled_points_have_one() -> None:
    tables: list[dict[str, Any]] = []
    for name in ("logic", "separable"):
        task = PatternAssociation(PatternAssociationConfig())
        task.bind(prepare(parse_component("data", name, "data"), seed=0))
        other = PatternAssociation(PatternAssociationConfig())
        other.load(task.state())
        found = other.accumulator()
        found.update_from(torch.tensor([[3.0], [-3.0]]), torch.tensor([[1.0], [1.0]]))
        tables.append(found.table()["intervals"])
    assert tables[0] == {}
    assert tables[1]["accuracy"][0] < 0.5 < tables[1]["accuracy"][1]


class Difference(nn.Module):
    """Fires where the first input is larger than the second."""

    def forward(self, images: Tensor) -> Tensor:
        return (images[:, :1] > images[:, 1:2]).float()


def test_predictions_are_of_numbers_in_a_text() -> None:
    task = bound(features=[[0.0, 1.0]], target=[[1.0]])
    rows = task.decode(["1 0", "0.5,0.7"])
    assert [name for name, _ in rows] == ["1 0", "0.5,0.7"]
    batch = task.inputs({"features": torch.cat([row["features"] for _, row in rows])})
    assert task.predict(Difference(), batch) == [{"label": "1", "outputs": [1.0]}, {"label": "0", "outputs": [0.0]}]


@pytest.mark.parametrize(("text", "message"), [("1 x", "not numbers"), ("1 0 1", "has 3 numbers; the model takes 2")])
def test_a_text_that_is_no_pattern_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        bound(features=[[0.0, 1.0]], target=[[1.0]]).decode([text])


def trained(recipe: str, **overrides: Any) -> tuple[Any, Any]:
    session = build(configure(recipe, overrides.items()).recipe)
    trainer = session.trainer(0, 0, [])
    trainer.fit()
    assert trainer.best is not None
    session.network.load_state_dict(trainer.best["weights"])
    return session, trainer


def course(session: Any, trainer: Any, folder: Path) -> tuple[list[str], list[tuple[str, Path]]]:
    with torch.no_grad():
        return session.task.course(session.network, session.splits, trainer.objective, folder)


def test_a_perceptron_that_converges_is_reported_with_its_bound(tmp_path: Path) -> None:
    session, trainer = trained("perceptron")
    (remark,), drawn = course(session, trainer, tmp_path)
    words = remark.split()
    assert remark.startswith("Converged after ")
    assert float(words[-1].rstrip(".").replace(",", "")) >= int(trainer.objective.updates) == int(words[4])
    assert int(words[2]) * session.recipe.data.config.train_size == trainer.step
    assert [path.name for _, path in drawn] == ["line.png"]


def test_a_perceptron_that_does_not_converge_says_so(tmp_path: Path) -> None:
    (remark,), _ = course(*trained("perceptron_xor", epochs=20), tmp_path)
    assert remark.startswith("Did not converge in 20 passes, ")
    assert remark.endswith("the data may not be linearly separable.")


def test_the_bound_is_not_claimed_for_batches(tmp_path: Path) -> None:
    (remark,), _ = course(*trained("perceptron", batch_size=10), tmp_path)
    assert remark.startswith("Converged after ")
    assert "bound" not in remark


def test_other_ways_of_learning_have_no_remark(tmp_path: Path) -> None:
    session, _ = trained("mcculloch_pitts_xor")
    assert session.task.course(session.network, session.splits, Objective(), tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("recipe", "overrides", "names"),
    [
        ("mcculloch_pitts_not", {}, ["truth-table.png"]),
        ("mcculloch_pitts_xor", {}, ["truth-table.png", "surface.png"]),
        ("perceptron", {}, ["surface.png"]),
        ("backprop_xor", {"epochs": 1}, ["truth-table.png", "surface.png", "hidden-plane.png"]),
        ("backprop_symmetry", {"epochs": 1}, ["hidden-plane.png"]),
        ("backprop_parity", {"epochs": 1}, ["truth-table.png", "hidden-code.png"]),
        ("backprop_encoder", {"epochs": 1}, ["hidden-code.png"]),
    ],
)
def test_pictures_are_what_fits_the_network(
    recipe: str, overrides: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    session, _ = trained(recipe, **overrides)
    with torch.no_grad():
        found = session.task.pictures(session.network, session.splits, tmp_path / "pictures")
    assert [path.name for _, path in found] == names
    for _, path in found:
        with Image.open(path) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 4


def test_the_truth_table_marks_wrong_rows(tmp_path: Path) -> None:
    from layerwise.tasks.pattern_drawings import truth_table

    splits = prepare(parse_component("data", "logic", "data"), seed=0)
    assert splits.train is not None
    batch = splits.train.collate(torch.arange(4))
    red: list[int] = []
    for right in (4, 3, 1):
        path = truth_table(
            batch["features"], batch["target"], batch["target"], torch.arange(4) < right, tmp_path / f"{right}.png"
        )
        with Image.open(path) as picture:
            pixels = {colour: count for count, colour in picture.convert("RGB").getcolors(1 << 20) or []}
        red.append(pixels.get((0xB3, 0x26, 0x1E), 0))
    assert red[0] == 0
    assert red[2] == pytest.approx(3 * red[1], rel=0.05)
