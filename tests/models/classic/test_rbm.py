"""The restricted Boltzmann machine against its definition (Hinton 2002), by enumeration in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from layerwise.core.errors import ConfigError
from layerwise.models.classic.rbm import RBM, LinearHiddenMachine, RBMConfig
from layerwise.nn.protocols import PictureSampler
from layerwise.ops.random import Draws


def machine() -> RBM:
    torch.manual_seed(0)
    rbm = RBM(RBMConfig(in_channels=1, image_size=(2, 2), hidden_size=3, gibbs_steps=40)).double()
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


def linear_hidden() -> LinearHiddenMachine:
    rbm = machine()
    return LinearHiddenMachine(*(p.detach() for p in (rbm.weight[:1], rbm.visible_bias, rbm.hidden_bias[:1])))


def test_free_energy_of_a_linear_hidden_unit_is_minus_the_log_of_the_integral_over_it() -> None:
    """exp(-F(v)) = integral of exp(v.b - (h - c)^2 / 2 + h W v) over h, by the trapezoidal rule."""
    found, grid = linear_hidden(), torch.linspace(-40, 40, 20_001, dtype=torch.float64)
    for v in states(4):
        exponent = v @ found.visible_bias - (grid - found.hidden_bias).square() / 2 + grid * (found.weight @ v)
        integral = torch.trapezoid(exponent.exp(), grid)
        assert float(-found.free_energy(v[None])) == pytest.approx(float(integral.log()), rel=1e-9)


def test_linear_hidden_units_are_normal_around_their_mean() -> None:
    """Quantiles of the standard normal distribution: -1.959964, 0 and 1.959964."""
    uniform = torch.tensor([[0.025], [0.5], [0.975]], dtype=torch.float64)
    found, visible = linear_hidden(), torch.ones(3, 4, dtype=torch.float64)
    mean, drawn = found.sample_hidden(visible, uniform)
    assert float(mean[0]) == pytest.approx(float(found.hidden_bias + found.weight.sum()), rel=1e-12)
    assert (drawn - mean).flatten().tolist() == pytest.approx([-1.959964, 0.0, 1.959964], abs=1e-6)
    assert bool(torch.isfinite(found.sample_hidden(visible, torch.zeros(3, 1, dtype=torch.float64))[1]).all())


def test_pictures_follow_the_machine_s_distribution() -> None:
    """The mean of p(v | h) at the end of 4,000 chains is the exact mean of v, within five standard errors."""
    rbm, count = machine(), 4000
    probabilities = torch.softmax(-rbm.free_energy(states(4)), 0)
    exact = probabilities @ states(4)
    drawn = rbm.sample_pictures(torch.arange(count), Draws(1)).detach().flatten(1)
    assert bool(((drawn.mean(0) - exact).abs() < 5 * drawn.std(0) / count**0.5).all())


def test_a_picture_depends_on_its_own_number_alone() -> None:
    rbm = machine()
    assert isinstance(rbm, PictureSampler)
    together = rbm.sample_pictures(torch.arange(6), Draws(1))
    assert together.shape == (6, 1, 2, 2)
    torch.testing.assert_close(rbm.sample_pictures(torch.tensor([4]), Draws(1)), together[4:5], rtol=0, atol=1e-12)
