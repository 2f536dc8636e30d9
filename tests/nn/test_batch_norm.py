"""Synchronised batch norm over parts of a batch against torch's batch norm on the whole batch.

Processes are threads here: the sum over processes is all that the layer asks of them. `tests/parallel` has real ones.
"""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerwise.nn.batch_norm import synchronise_batch_norm


class Sum:
    """Adds tensors of several threads up, in order of rank."""

    def __init__(self, size: int) -> None:
        self.barrier, self.parts, self.calls = threading.Barrier(size, timeout=20), [torch.zeros(0)] * size, 0

    def of(self, rank: int) -> Callable[[Tensor], Tensor]:
        def reduce(values: Tensor) -> Tensor:
            self.parts[rank] = values.clone()
            self.calls += rank == 0
            self.barrier.wait()
            total = sum(self.parts[1:], self.parts[0])
            self.barrier.wait()
            return values.copy_(total)

        return reduce


def in_parallel(size: int, net: nn.Module, work: Callable[[int, nn.Module], Any]) -> list[Any]:
    """What `work` gives in each thread with its own copy of a network whose batch norms are synchronised."""
    copies = [copy.deepcopy(net) for _ in range(size)]
    shared, results, errors = Sum(size), [None] * size, []

    def target(rank: int) -> None:
        try:
            assert synchronise_batch_norm(copies[rank], shared.of(rank)) == ["1"]
            results[rank] = work(rank, copies[rank])
        except BaseException as error:
            errors.append(error)
            shared.barrier.abort()

    threads = [threading.Thread(target=target, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])
    return results


def network(dims: int, momentum: float | None = 0.1, affine: bool = True) -> nn.Module:
    torch.manual_seed(0)
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](3, momentum=momentum, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return nn.Sequential(nn.Tanh(), norm, nn.Softplus()).double()


def batch(count: int, dims: int, seed: int = 0) -> Tensor:
    shape = {0: (count, 3), 1: (count, 3, 5), 2: (count, 3, 4, 5), 3: (count, 3, 2, 3, 2)}[dims]
    return 0.5 + torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss(y: Tensor, x: Tensor) -> Tensor:
    return (y * (x.detach() + 0.5) ** 2).sum()


def steps(net: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    """Two forward and backward passes; outputs, input gradients, summed parameter gradients, buffers."""
    found: dict[str, Tensor] = {}
    for i, x in enumerate(batches):
        x = x.clone().requires_grad_()
        y = net(x)
        loss(y, x).backward()
        found |= {f"y{i}": y.detach(), f"dx{i}": x.grad}
    found |= {f"d {name}": p.grad for name, p in net.named_parameters()}
    return found | dict(net.named_buffers())


SHARES = [(4, 4), (7, 1), (8, 0), (0, 8), (3, 0, 5)]


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
@pytest.mark.parametrize("shares", SHARES)
def test_parts_equal_the_whole_batch(dims: int, shares: tuple[int, ...]) -> None:
    batches = [batch(8, dims, seed) for seed in (0, 1)]
    whole = steps(network(max(dims, 1)), batches)

    def work(rank: int, net: nn.Module) -> dict[str, Tensor]:
        return steps(net, [x.split(shares)[rank] for x in batches])

    parts = in_parallel(len(shares), network(max(dims, 1)), work)
    for name, expected in whole.items():
        if name[0] == "y" or name[:2] == "dx":
            found = torch.cat([part[name] for part in parts])
        elif name.startswith("d "):
            found = sum(part[name] for part in parts[1:]) + parts[0][name]
        else:
            found = parts[0][name]
            assert all(torch.equal(part[name], found) for part in parts)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)  # float64, sums in another order


@pytest.mark.parametrize("options", [{"momentum": None}, {"affine": False}])
def test_parts_equal_the_whole_batch_without_affine_and_with_cumulative_statistics(options: dict[str, Any]) -> None:
    batches = [batch(6, 2, seed) for seed in (0, 1, 2)]
    whole = steps(network(2, **options), batches)

    def work(rank: int, net: nn.Module) -> dict[str, Tensor]:
        return steps(net, [x.split([2, 4])[rank] for x in batches])

    parts = in_parallel(2, network(2, **options), work)
    for name in ("y2", "dx2"):
        torch.testing.assert_close(torch.cat([p[name] for p in parts]), whole[name], rtol=1e-12, atol=1e-12)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        torch.testing.assert_close(parts[1][name], whole[name], rtol=1e-12, atol=1e-12)


def penalty(net: nn.Module, x: Tensor) -> Tensor:
    """The gradient penalty of a critic, which differentiates the gradient."""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(net(x), x), x, create_graph=True)
    return gradient.square().sum()


def test_gradient_of_a_gradient_penalty_equals_the_whole_batchs() -> None:
    x = batch(6, 2)
    net = network(2)
    penalty(net, x).backward()
    expected = {name: p.grad for name, p in net.named_parameters()}

    def work(rank: int, own: nn.Module) -> dict[str, Tensor]:
        penalty(own, x.split([2, 4])[rank]).backward()
        return {name: p.grad for name, p in own.named_parameters()}

    parts = in_parallel(2, network(2), work)
    for name in ("1.weight", "1.bias"):
        torch.testing.assert_close(parts[0][name] + parts[1][name], expected[name], rtol=1e-10, atol=1e-10)


def test_one_process_equals_torch_in_float32_and_under_bf16_autocast() -> None:
    x = batch(8, 2).float().contiguous(memory_format=torch.channels_last) + 100  # a large mean: no cancellation
    plain = network(2)[1].float()
    own = copy.deepcopy(plain)
    synchronise_batch_norm(nn.Sequential(own), lambda values: values)
    for cast, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        inputs = [x.to(cast).detach().requires_grad_() for _ in range(2)]
        outputs = [norm(value) for norm, value in zip((plain, own), inputs, strict=True)]
        for y, value in zip(outputs, inputs, strict=True):
            (y.float() * torch.arange(5)).sum().backward()
            assert y.dtype == cast
            assert value.grad is not None
        torch.testing.assert_close(outputs[1], outputs[0], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=tolerance, atol=5 * tolerance)
    torch.testing.assert_close(own.running_var, plain.running_var, rtol=1e-4, atol=0)


def test_modules_names_and_parameters_stay_the_same() -> None:
    net = network(2)
    before = (list(net.state_dict()), [id(p) for p in net.parameters()], [id(m) for m in net.modules()])
    synchronise_batch_norm(net, lambda values: values)
    assert before == (list(net.state_dict()), [id(p) for p in net.parameters()], [id(m) for m in net.modules()])
    assert isinstance(net[1], nn.BatchNorm2d)


def test_eval_mode_asks_no_other_process() -> None:
    def refuse(values: Tensor) -> Tensor:
        raise AssertionError("no sum over processes in eval mode")

    net = network(2).eval()
    expected = net(batch(3, 2))
    synchronise_batch_norm(net, refuse)
    assert torch.equal(net(batch(3, 2)), expected)


def test_one_value_per_channel_is_refused_as_by_torch() -> None:
    net = network(1)
    synchronise_batch_norm(net, lambda values: values)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        net(batch(1, 0))
