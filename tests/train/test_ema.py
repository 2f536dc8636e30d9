"""Averaged weights: closed form, swapping, state."""

import contextlib

import pytest
import torch
from torch import nn

from layerwise.core.errors import CheckpointError, ConfigError
from layerwise.train.ema import EMAWeights
from layerwise.train.recipe import EMA


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).to(dtype)


def move(net: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype))


@pytest.mark.parametrize("warmup", [True, False])
def test_average_is_the_recurrence(warmup: bool) -> None:
    net = network()
    ema = EMAWeights(net, EMA(decay=0.9, warmup=warmup))
    expected = {name: p.detach().clone() for name, p in net.named_parameters()}
    for step in range(1, 200):
        move(net, step)
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step)) if warmup else 0.9
        expected = {n: decay * expected[n] + (1 - decay) * p.detach() for n, p in net.named_parameters()}
    for name, average in ema.state().items():
        torch.testing.assert_close(average, expected[name], rtol=1e-12, atol=1e-12)


def test_swapping_exchanges_memory_and_back_even_after_an_error() -> None:
    net = network()
    ema = EMAWeights(net, EMA(decay=0.5, warmup=False))
    move(net, 1)
    ema.update(1)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in net.named_parameters()}
    with contextlib.suppress(ZeroDivisionError), ema.swapped_in():
        for name, p in net.named_parameters():
            assert p.data_ptr() == ema.state()[name].data_ptr()
            assert torch.equal(p, ema.state()[name])
            assert not torch.equal(p, before[name][1])
        raise ZeroDivisionError
    for name, p in net.named_parameters():
        assert p.data_ptr() == before[name][0]
        assert torch.equal(p, before[name][1])


def test_training_goes_on_with_the_own_weights_after_a_swap() -> None:
    net, other = network(), network()
    ema = EMAWeights(net, EMA())
    optimizers = [torch.optim.AdamW(n.parameters(), fused=True) for n in (net, other)]
    for step in range(1, 5):
        for n, optimizer in zip((net, other), optimizers, strict=True):
            n(torch.ones(2, 3, 3, 3, dtype=torch.float64)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        ema.update(step)
        with ema.swapped_in(), torch.no_grad():
            net.eval()(torch.ones(2, 3, 3, 3, dtype=torch.float64))
        net.train()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_only_chosen_parameters_are_averaged_and_buffers_are_as_they_are() -> None:
    net = network()
    ema = EMAWeights(net, EMA(decay=0.5, parameters=("3.w*",)))
    move(net, 1)
    net[1].running_mean.fill_(7.0)
    ema.update(1)
    own = net[3].bias.detach().clone()
    with ema.swapped_in():
        assert torch.equal(net[3].bias, own)
        assert torch.equal(net[1].running_mean, torch.full((4,), 7.0, dtype=torch.float64))
    assert list(ema.state()) == ["3.weight"]


def test_averages_of_bf16_weights_are_kept_in_float32() -> None:
    net = network(torch.bfloat16)
    ema = EMAWeights(net, EMA(decay=0.999, warmup=False))
    with torch.no_grad():
        net[3].bias.fill_(1.0)
    start = ema.state()["3.bias"].clone()
    ema.update(1)
    torch.testing.assert_close(ema.state()["3.bias"], 0.999 * start + 0.001, rtol=1e-6, atol=0)
    with ema.swapped_in():
        assert net[3].bias.dtype == torch.bfloat16
    assert torch.equal(net[3].bias, torch.ones(2, dtype=torch.bfloat16))


def test_state_continues_bit_for_bit_and_is_not_aliased() -> None:
    net = network().to(memory_format=torch.channels_last)
    whole = EMAWeights(net, EMA())
    for step in (1, 2):
        move(net, step)
        whole.update(step)
    saved = {name: value.contiguous().clone() for name, value in whole.state().items()}
    other = EMAWeights(net, EMA())
    other.load(saved)
    kept = saved["0.weight"].clone()
    for ema in (whole, other):
        ema.update(3)
    assert all(torch.equal(whole.state()[name], other.state()[name]) for name in saved)
    assert torch.equal(saved["0.weight"], kept)


def test_a_state_that_does_not_fit_names_the_parameter() -> None:
    ema = EMAWeights(network(), EMA())
    for change, message in (
        (lambda t: t.pop("3.bias"), "3.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra"),
        (lambda t: t.update({"3.bias": torch.zeros(5)}), r"3\.bias.*\(5,\)"),
    ):
        tree = ema.state()
        change(tree)
        with pytest.raises(CheckpointError, match=message):
            ema.load(tree)


def test_a_pattern_that_matches_nothing_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"ema.parameters=3\.wieght.*3\.weight"):
        EMAWeights(network(), EMA(parameters=("3.wieght",)))
