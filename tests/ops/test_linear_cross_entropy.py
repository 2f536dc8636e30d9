"""The chunked loss against torch's plain one: values, gradients, memory, autocast."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from layerwise.ops.linear_cross_entropy import linear_cross_entropy, linear_token_losses

N, D, V = 11, 6, 17
CHUNKS = [1, 3 * V, 4 * V + 1, 1000 * V]  # a token at a time, uneven pieces, all at once


def inputs(dtype: torch.dtype = torch.float64, ignored: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x, weight, bias = (torch.randn(size, generator=generator, dtype=torch.float64) for size in ((N, D), (V, D), (V,)))
    labels = torch.randint(V, (N,), generator=generator)
    if ignored:
        labels[torch.tensor([0, 4, 10])] = -100
    leaves = [t.to(dtype).requires_grad_() for t in (x, weight, bias)]
    return leaves[0], leaves[1], leaves[2], labels


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignored", [False, True])
def test_loss_and_gradients_equal_the_plain_ones(chunk: int, with_bias: bool, smoothing: float, ignored: bool) -> None:
    x, weight, bias, labels = inputs(ignored=ignored)
    given = (x, weight, bias) if with_bias else (x, weight)
    plain = F.cross_entropy(
        F.linear(x, weight, bias if with_bias else None), labels, reduction="sum", label_smoothing=smoothing
    )
    got = linear_cross_entropy(x, weight, labels, bias if with_bias else None, label_smoothing=smoothing, chunk=chunk)
    torch.testing.assert_close(got, plain, atol=1e-12, rtol=1e-12)
    # A factor from above, as the loop's 1 / count.
    for mine, theirs in zip(torch.autograd.grad(got / 7, given), torch.autograd.grad(plain / 7, given), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


def test_a_tied_weight_gets_both_gradients() -> None:
    """The table is looked up and multiplied with, as in GPT-2."""
    tokens = torch.randint(V, (N,), generator=torch.Generator().manual_seed(0))
    _, table, _, labels = inputs()
    grads: list[Tensor] = []
    for loss in (
        linear_cross_entropy(table[tokens].tanh(), table, labels, chunk=3 * V),
        F.cross_entropy(table[tokens].tanh() @ table.T, labels, reduction="sum"),
    ):
        grads.append(torch.autograd.grad(loss, table)[0])
    torch.testing.assert_close(grads[0], grads[1], atol=1e-12, rtol=0)


def test_gradients_are_right_by_finite_differences() -> None:
    x, weight, bias, labels = inputs()
    assert torch.autograd.gradcheck(
        lambda *t: linear_cross_entropy(t[0], t[1], labels, t[2], label_smoothing=0.2, chunk=2 * V), (x, weight, bias)
    )


def test_what_is_frozen_gets_no_gradient_and_the_rest_its_own() -> None:
    x, weight, _, labels = inputs()
    weight.requires_grad_(False)
    plain = torch.autograd.grad(F.cross_entropy(x @ weight.T, labels, reduction="sum"), x)[0]
    loss = linear_cross_entropy(x, weight, labels, chunk=2 * V)
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], plain, atol=1e-12, rtol=0)
    assert not linear_cross_entropy(x.detach(), weight, labels).requires_grad


def test_without_targets_the_loss_is_zero_and_so_are_gradients() -> None:
    x, weight, bias, labels = inputs()
    loss = linear_cross_entropy(x, weight, torch.full_like(labels, -100), bias)
    assert float(loss.detach()) == 0
    assert not any(bool(grad.any()) for grad in torch.autograd.grad(loss, (x, weight, bias)))


def test_very_unlikely_targets_have_a_finite_loss() -> None:
    x, weight = torch.full((1, 1), 300.0), torch.tensor([[1.0], [-1.0]])
    assert float(linear_cross_entropy(x, weight, torch.tensor([1]))) == pytest.approx(600.0)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_losses_of_tokens_equal_the_plain_ones(chunk: int) -> None:
    x, weight, bias, labels = inputs()
    plain = F.cross_entropy(F.linear(x, weight, bias), labels, reduction="none")
    got = linear_token_losses(x, weight, labels, bias, chunk=chunk)
    torch.testing.assert_close(got, plain, atol=1e-12, rtol=0)
    assert not got.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_bf16_and_gives_gradients_of_the_weights_type(dtype: torch.dtype) -> None:
    x, weight, bias, labels = inputs(torch.float32)
    x = x.detach().to(dtype).requires_grad_()
    exact = F.cross_entropy(F.linear(x.double(), weight.double(), bias.double()), labels, reduction="sum")
    wanted = torch.autograd.grad(exact, (x, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(x, weight, labels, bias, chunk=3 * V)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, atol=0, rtol=2e-2)  # bf16 has 8 bits: 2 %
    for got, want, leaf in zip(torch.autograd.grad(loss, (x, weight, bias)), wanted, (x, weight, bias), strict=True):
        assert got.dtype == leaf.dtype
        assert float((got.double() - want.double()).norm() / want.double().norm()) < 2e-2


def test_the_weights_gradient_of_many_bf16_chunks_is_added_in_float32() -> None:
    """1,000 equal tokens, one a chunk: added in bf16, whose 8 bits end at 256 times a summand, the sum would stop."""
    x = torch.ones(1000, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    (grad,) = torch.autograd.grad(
        linear_cross_entropy(x, weight, torch.zeros(1000, dtype=torch.int64), chunk=2), weight
    )
    assert grad.flatten().tolist() == [-500, 500]
