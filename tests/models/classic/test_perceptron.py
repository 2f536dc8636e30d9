"""The perceptron's scores, its zero start, and the association units against the definition written as loops."""

import pytest
import torch

from layerwise.core.errors import ConfigError
from layerwise.models.classic.perceptron import AssociationConfig, AssociationUnits, Perceptron, PerceptronConfig


def test_scores_are_the_weighted_sum() -> None:
    network = Perceptron(PerceptronConfig(in_features=3, num_outputs=1)).double()
    with torch.no_grad():
        network.response.weight.copy_(torch.tensor([[2.0, -1.0, 0.5]]))
        network.response.bias.fill_(-0.25)
    assert network(torch.tensor([[1.0, 1.0, 2.0]], dtype=torch.float64)).tolist() == [[2.0 - 1.0 + 1.0 - 0.25]]


def test_it_starts_at_zero() -> None:
    network = Perceptron(PerceptronConfig(in_features=3, num_outputs=2, association=AssociationConfig(units=5)))
    assert all(not bool(parameter.any()) for parameter in network.parameters())


def test_association_units_are_active_where_excitation_less_inhibition_reaches_the_threshold() -> None:
    torch.manual_seed(0)
    units = AssociationUnits(6, AssociationConfig(units=40, excitatory=4, inhibitory=2, threshold=2))
    images = torch.randint(2, (30, 6)).float()
    wiring, given = units.wiring.tolist(), units(images).tolist()
    for image, row in zip(images.tolist(), given, strict=True):
        sums = [sum(weight * value for weight, value in zip(unit, image, strict=True)) for unit in wiring]
        assert row == [float(total >= 2) for total in sums]
    assert 0 < sum(map(sum, given)) < 40 * 30


def test_each_association_unit_has_its_number_of_connections() -> None:
    """The origins are drawn with replacement: signs may cancel, their sum cannot."""
    torch.manual_seed(0)
    wiring = AssociationUnits(50, AssociationConfig(units=20, excitatory=5, inhibitory=3)).wiring
    assert wiring.sum(1).tolist() == [2.0] * 20
    assert int(wiring.abs().sum(1).max()) == 8


def test_only_the_response_units_are_trained() -> None:
    network = Perceptron(PerceptronConfig(in_features=4, num_outputs=1, association=AssociationConfig(units=7)))
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == {
        "response.weight": (1, 7),
        "response.bias": (1,),
    }


def test_sizes_are_needed() -> None:
    with pytest.raises(ConfigError, match="in_features and num_outputs"):
        Perceptron(PerceptronConfig(in_features=4))


def test_another_number_of_values_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 4 values a sample, got 5"):
        Perceptron(PerceptronConfig(in_features=4, num_outputs=1))(torch.zeros(2, 5))
