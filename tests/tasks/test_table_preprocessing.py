"""Numbers of tables made ready for networks: against scikit-learn, numpy and the papers' equations."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from layerwise.data.examples import Subset, TensorExamples
from layerwise.tasks.table_preprocessing import (
    PiecewiseLinear,
    Statistics,
    TablePreprocessing,
    bin_edges,
    measure,
    quantiles,
)

RNG = np.random.default_rng(0)


def table(numeric: np.ndarray) -> TensorExamples:
    numbers = torch.from_numpy(numeric).float()
    return TensorExamples({"numeric": numbers, "categories": torch.zeros(len(numbers), 0, dtype=torch.int64)})


def prepared(statistics: Statistics, numeric: np.ndarray) -> np.ndarray:
    numbers = torch.from_numpy(numeric).float()
    return TablePreprocessing(statistics)(numbers, torch.zeros(len(numbers), 0, dtype=torch.int64))[0].numpy()


def test_only_the_rows_given_are_learned_from() -> None:
    whole = TensorExamples(
        {
            "numeric": torch.tensor([[1.0, 10.0], [9.0, math.nan], [3.0, 30.0]]),
            "categories": torch.tensor([[3], [2], [1]]),
        }
    )
    statistics = measure(Subset(whole, torch.tensor([0, 2])), min_count=1)
    assert statistics.mean == [2.0, 20.0]
    assert statistics.std == [1.0, 10.0]
    assert statistics.indicated == []
    made = TablePreprocessing(statistics)(torch.tensor([[2.0, 20.0]] * 5), torch.tensor([[0], [1], [2], [3], [4]]))
    assert made[1][:, 0].tolist() == [0, 2, 1, 3, 1]  # blue and red were seen; green and new words not


def test_statistics_hold_far_from_zero() -> None:
    numbers = (1e6 + torch.arange(20_000).double() % 10)[:, None].float()
    statistics = measure(
        TensorExamples({"numeric": numbers, "categories": torch.zeros(20_000, 0, dtype=torch.int64)}), min_count=1
    )
    assert statistics.mean == pytest.approx([1e6 + 4.5], rel=1e-12)
    assert statistics.std == pytest.approx([math.sqrt(8.25)], rel=1e-9)


def test_constant_column_divides_by_one() -> None:
    table = {"numeric": torch.full((7, 1), 3.3), "categories": torch.zeros(7, 0, dtype=torch.int64)}
    statistics = measure(TensorExamples(table), min_count=1)
    assert statistics.std == [1.0]
    made = TablePreprocessing(statistics)(table["numeric"], table["categories"])[0]
    assert made.abs().max() < 1e-6


def test_quantile_transform_is_scikit_learns() -> None:
    """Ties, gaps and values beyond the training range included; the result is float32, so to 5e-6 of 5.2."""
    from sklearn.preprocessing import QuantileTransformer

    train = np.stack(
        [RNG.normal(size=3000), RNG.exponential(size=3000), RNG.integers(0, 5, 3000), RNG.normal(size=3000) > 1.5], 1
    ).astype(np.float32)
    new = np.concatenate([train[:200], train[:200] * 1.7 + 0.1, -5 * np.ones((1, 4)), np.full((1, 4), 100.0)])
    new = new.astype(np.float32)
    statistics = measure(table(train), 1, "quantile")
    reference = QuantileTransformer(n_quantiles=100, output_distribution="normal", subsample=10_000)
    reference.fit(train.astype(np.float64))
    assert len(statistics.knots[0]) == 100  # 3,000 rows / 30
    assert np.abs(prepared(statistics, new) - reference.transform(new.astype(np.float64))).max() < 5e-6


def test_quantiles_are_numpys() -> None:
    values = RNG.normal(size=101)
    assert quantiles(torch.from_numpy(values), 17) == pytest.approx(np.quantile(values, np.linspace(0, 1, 17)).tolist())
    assert quantiles(torch.zeros(0), 3) == [0.0, 0.0, 0.0]


def test_missing_numbers_are_zero_and_marked_in_all_three_ways() -> None:
    numeric = RNG.normal(size=(50, 2)) + 3
    numeric[::7, 1] = np.nan
    for numbers in ("standard", "quantile", "piecewise_linear"):
        statistics = measure(table(numeric), 1, numbers, bins=4)
        made = prepared(statistics, numeric)
        assert statistics.indicated == [1]
        assert made.shape == (50, len(statistics.origins))
        own = [place for place, column in enumerate(statistics.origins[:-1]) if column == 1]
        assert (made[::7][:, own] == 0).all()
        assert np.array_equal(made[:, -1] == 1, np.isnan(numeric[:, 1]))


def test_piecewise_linear_encoding_is_the_papers_inside_the_range() -> None:
    """Gorishniy et al. 2022, section 3.2: e_t = 0 below bin t, 1 above it, (x - b_{t-1}) / (b_t - b_{t-1}) inside."""
    edges = [-1.0, 0.0, 0.5, 2.0]
    statistics = Statistics(
        numbers="piecewise_linear", mean=[0.0], std=[1.0], knots=[edges], indicated=[], lookup=[], gaps=[]
    )
    for x in (-1.0, -0.3, 0.0, 0.2, 0.5, 1.1, 2.0):
        expected = [0.0 if x < low else 1.0 if x >= high else (x - low) / (high - low) for low, high in pairwise(edges)]
        assert PiecewiseLinear(statistics)(torch.tensor([[x]]))[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert PiecewiseLinear(statistics)(torch.tensor([[-50.0], [1e30]])).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_bins_hold_equally_many_rows() -> None:
    values = torch.from_numpy(RNG.exponential(size=20_000))
    edges = bin_edges(values, 10)
    counts, _ = np.histogram(values.numpy(), edges)
    assert len(edges) == 11
    assert abs(counts - 2000).max() <= 2
    assert (edges[0], edges[-1]) == (values.float().min(), values.float().max())


def test_a_column_that_is_mostly_zero_keeps_its_bins_for_the_rest() -> None:
    values = torch.cat([torch.zeros(9000), torch.from_numpy(RNG.exponential(size=1000)).float() + 1])
    edges = bin_edges(values, 20)
    counts, _ = np.histogram(values[9000:].numpy(), edges)
    assert edges[0] == 0
    assert len(edges) == 20  # zero fills a bin alone: 19 are left
    assert abs(counts - 1000 / 19).max() <= 3


def test_few_values_are_edges_each() -> None:
    assert bin_edges(torch.tensor([3.0, 1.0, 1.0, 2.0]), 8) == [1.0, 2.0, 3.0]
    assert bin_edges(torch.full((5,), 7.0), 8) == [7.0]
    assert bin_edges(torch.zeros(0), 8) == []
    constant = measure(table(np.full((5, 1), 7.0)), 1, "piecewise_linear")
    assert prepared(constant, np.full((2, 1), 7.0)).shape == (2, 0)


def test_statistics_survive_json() -> None:
    for numbers in ("standard", "quantile", "piecewise_linear"):
        statistics = measure(table(RNG.normal(size=(400, 3))), 1, numbers)
        assert Statistics(**json.loads(json.dumps(statistics.to_json()))) == statistics


@pytest.mark.parametrize("numbers", ["standard", "quantile", "piecewise_linear"])
def test_preprocessing_can_be_exported(numbers: str) -> None:
    numeric = RNG.normal(size=(300, 3))
    numeric[::9, 2] = np.nan
    module = TablePreprocessing(measure(table(numeric), 1, numbers, bins=7))  # type: ignore[arg-type]
    arguments = (torch.from_numpy(numeric).float(), torch.zeros(300, 0, dtype=torch.int64))
    exported = torch.export.export(module, arguments).module()
    for ours, theirs in zip(module(*arguments), exported(*arguments), strict=True):
        assert torch.equal(ours, theirs)
