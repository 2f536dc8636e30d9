"""Stochastic depth."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.nn.drop_path import DropPath, drop_path_rates


def test_evaluation_leaves_the_branch_as_it_is() -> None:
    x = torch.randn(4, 3)
    assert torch.equal(DropPath(0.5).eval()(x), x)


def test_training_drops_whole_samples_and_scales_the_others() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    y = DropPath(0.25)(x)
    kept = y[:, 0, 0] != 0
    assert torch.equal(y[kept], torch.full_like(y[kept], 1 / 0.75))
    assert not y[~kept].any()
    assert float(kept.double().mean()) == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 4000) ** 0.5)


def test_rates_grow_linearly_with_depth() -> None:
    assert drop_path_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0]


def test_a_rate_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="drop_path=1"):
        DropPath(1.0)
