"""The restricted Boltzmann machine against its definition (Hinton 2002), by enumeration in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.models.classic.rbm import RBM, RBMConfig


def machine() -> RBM:
    torch.manual_seed(0)
    rbm = RBM(RBMConfig(in_channels=1, image_size=(2, 2), hidden_size=3)).double()
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.normal_()
    return rbm


def states(size: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=size)), dtype=torch.float64)


def energies(rbm: RBM) -> Tensor:
    """E(v, h) of every joint state, [16, 8], by loops over units."""
    found = torch.zeros(16, 8, dtype=torch.float64)
    for a, v in enumerate(states(4)):
        for b, h in enumerate(states(3)):
            pairs = sum(h[j] * rbm.weight[j, i] * v[i] for j in range(3) for i in range(4))
            found[a, b] = -(v @ rbm.visible_bias) - (h @ rbm.hidden_bias) - pairs
    return found.detach()


def test_hidden_probabilities_are_the_conditionals_of_the_joint() -> None:
    rbm = machine()
    joint = (-energies(rbm)).exp()
    conditional = (joint / joint.sum(1, keepdim=True)) @ states(3)
    hidden = rbm(states(4).view(16, 1, 2, 2)).hidden
    assert torch.allclose(hidden, conditional, rtol=0, atol=1e-12)


def test_visible_probabilities_are_the_conditionals_of_the_joint() -> None:
    rbm = machine()
    joint = (-energies(rbm)).exp()
    conditional = (joint / joint.sum(0, keepdim=True)).T @ states(4)
    probabilities, drawn = rbm.sample_visible(states(3), torch.full((8, 4), 0.5, dtype=torch.float64))
    assert torch.allclose(probabilities, conditional, rtol=0, atol=1e-12)
    assert torch.equal(drawn, (conditional > 0.5).double())


def test_free_energy_is_minus_the_log_of_the_sum_over_hidden_states() -> None:
    rbm = machine()
    expected = -torch.logsumexp(-energies(rbm), dim=1)
    assert torch.allclose(rbm(states(4).view(16, 1, 2, 2)).free_energy, expected, rtol=0, atol=1e-12)


def test_sizes_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="in_channels and image_size"):
        RBM(RBMConfig(hidden_size=3))
