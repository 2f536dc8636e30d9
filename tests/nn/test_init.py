"""Initial distributions against their closed-form variances and orthogonality.

The sample deviation of n draws has a standard error of about std / sqrt(2 n) for the normal; with 2^18 draws
a tolerance of 1 % is seven of them.
"""

import math
import typing

import pytest
import torch
from torch import nn

from layerwise.core.errors import ConfigError
from layerwise.nn.init import SCALE_FREE, Distribution, Init, initialise, redraw_weights

SHAPE = (256, 128, 2, 4)  # fan_in 128 * 8 = 1024, fan_out 256 * 8 = 2048
# A normal cut at +-2 has variance 1 - 2 * 2 phi(2) / (2 Phi(2) - 1) (Johnson, Kotz, Balakrishnan 1994, 13.10.1).
PHI_2 = math.exp(-2) / math.sqrt(2 * math.pi)
CUT = math.sqrt(1 - 4 * PHI_2 / math.erf(math.sqrt(2)))


@pytest.mark.parametrize(
    ("init", "deviation", "bound"),
    [
        (Init("normal", 0.02), 0.02, math.inf),
        (Init("truncated_normal", 0.5), 0.5 * CUT, 1.0),
        (Init("glorot_uniform"), math.sqrt(2 / 3072), math.sqrt(6 / 3072)),
        (Init("glorot_normal", 3.0), 3 * math.sqrt(2 / 3072), math.inf),
        (Init("he_uniform"), math.sqrt(2 / 1024), math.sqrt(6 / 1024)),
        (Init("he_normal", 0.5), 0.5 * math.sqrt(2 / 1024), math.inf),
        (Init("lecun_uniform"), math.sqrt(1 / 1024), math.sqrt(3 / 1024)),
        (Init("lecun_normal", 2.0), 2 * math.sqrt(1 / 1024), math.inf),
    ],
    ids=lambda value: value.name if isinstance(value, Init) else "",
)
def test_variance_is_the_closed_form(init: Init, deviation: float, bound: float) -> None:
    torch.manual_seed(0)
    drawn = init.fill_(torch.empty(SHAPE))
    assert float(drawn.std()) == pytest.approx(deviation, rel=0.01)
    assert abs(float(drawn.mean())) < 0.01 * deviation
    assert float(drawn.abs().max()) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (4, 3, 2, 2)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrix = Init("orthogonal", 2.0).fill_(torch.empty(shape, dtype=torch.float64)).flatten(1)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(gram, 4 * torch.eye(len(gram), dtype=torch.float64), atol=1e-10, rtol=0)


def test_constants() -> None:
    assert Init("zeros").fill_(torch.randn(3)).tolist() == [0, 0, 0]
    assert Init("ones").fill_(torch.randn(3)).tolist() == [1, 1, 1]


def test_first_matching_pattern_wins() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    initialise(module, {"0.weight": Init("ones"), "*.weight": Init("zeros"), "*": Init("ones")})
    assert module[0].weight.sum() == 9
    assert module[1].weight.sum() == 0
    assert module[1].bias.sum() == 3


def test_parameters_without_rule_and_idle_rules_are_errors() -> None:
    with pytest.raises(ConfigError, match="'bias'"):
        initialise(nn.Linear(2, 2), {"weight": Init("ones")})
    with pytest.raises(ConfigError, match=r"\*\.scale"):
        initialise(nn.Linear(2, 2), {"*": Init("ones"), "*.scale": Init("ones")})


def test_fans_need_two_dimensions() -> None:
    with pytest.raises(ConfigError, match="he_normal needs two"):
        Init("he_normal").fill_(torch.empty(4))


def test_weights_are_drawn_again_and_nothing_else() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.LSTM(4, 4), nn.Linear(4, 3), nn.Embedding(9, 4))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    drawn = redraw_weights(network, Init("orthogonal"))
    assert drawn == ["0.weight", "2.weight_ih_l0", "2.weight_hh_l0", "3.weight"]
    changed = [name for name, p in network.named_parameters() if not torch.equal(p, before[name])]
    assert changed == drawn
    rows = network[3].weight
    torch.testing.assert_close(rows @ rows.T, torch.eye(3), atol=1e-6, rtol=0)


def test_a_network_without_weights_to_draw_is_refused() -> None:
    with pytest.raises(ConfigError, match="init=he_normal: Embedding"):
        redraw_weights(nn.Embedding(3, 2), Init("he_normal"))


def test_scale_free_names_are_distributions() -> None:
    assert set(SCALE_FREE) == set(typing.get_args(Distribution)) - {"zeros", "ones", "normal", "truncated_normal"}
