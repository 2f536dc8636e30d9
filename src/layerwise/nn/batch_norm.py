"""Batch normalisation over the batches of several processes, on any device.

Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015,
https://arxiv.org/abs/1502.03167. torch's SyncBatchNorm refuses CPUs; this one needs a sum over processes and nothing
else.

Shape legend: B batch, C channels, * any further sizes.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Reduce = Callable[[Tensor], Tensor]


def synchronise_batch_norm(network: nn.Module, reduce: Reduce) -> list[str]:
    """Make every batch norm of a network use the statistics of all processes while training.

    Modules are changed in place: they stay what they are for names, parameters, buffers, hooks and `isinstance`. A
        process may have no sample,
    but must run its forward and backward pass like the others.

    Args:
        network: any module.
        reduce: adds a tensor up over processes, in place, and returns it.

    Returns:
        Names of the modules that were changed.
    """
    changed: list[str] = []
    for name, module in network.named_modules():
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.__class__ = replacement
            cast(_Synchronised, module).reduce = reduce
            changed.append(name)
    return changed


class _Synchronised(nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
    """`y = (x - mean) / sqrt(var + eps) weight + bias`, with mean and var over the samples of all processes while
    training.

    Shape:
        (B, C, *) -> (B, C, *)

    Raises:
        ValueError: all processes together have one value per channel.
    """

    reduce: Reduce

    def forward(self, input: Float[Tensor, "B C *size"]) -> Float[Tensor, "B C *size"]:
        """Normalise; in eval mode as torch does."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        y, count, mean, variance = _Normalise.apply(input, self.weight, self.bias, self.eps, self.reduce)
        self._track(count, mean, variance)
        return y

    def _track(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics; the variance without bias, as torch does."""
        running_mean, running_var, batches = self.running_mean, self.running_var, self.num_batches_tracked
        if running_mean is None or running_var is None or batches is None:
            return
        with torch.no_grad():
            batches.add_(1)
            share = (
                1.0 / batches.double() if self.momentum is None else torch.tensor(self.momentum, dtype=torch.float64)
            )
            share = share.to(device=mean.device, dtype=mean.dtype)
            running_mean.copy_(torch.lerp(running_mean.to(mean.dtype), mean, share))
            running_var.copy_(torch.lerp(running_var.to(mean.dtype), variance * (count / (count - 1)), share))


class SynchronisedBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all processes."""


class SynchronisedBatchNorm2d(_Synchronised, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes."""


class SynchronisedBatchNorm3d(_Synchronised, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over all processes."""


_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SynchronisedBatchNorm1d,
    nn.BatchNorm2d: SynchronisedBatchNorm2d,
    nn.BatchNorm3d: SynchronisedBatchNorm3d,
}


def _per_channel(values: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """(C,) as (1, C, 1, ...), to go with `x`."""
    return values.to(dtype).view(1, -1, *(1 for _ in range(x.ndim - 2)))


def _statistics(x: Tensor, reduce: Reduce) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and biased variance per channel over all processes, in float64, by one sum of (count, sum, sum of
    squares).

    Each process finds its own mean and variance first and they are merged in float64: with float32 inputs the merge
    loses nothing, with float64 inputs a factor of mean^2 / variance in the last digits.
    """
    dims = [0, *range(2, x.ndim)]
    own = x.numel() // x.shape[1]
    wide = x if x.dtype == torch.float64 else x.float()
    if own:
        variance, mean = (s.double() for s in torch.var_mean(wide, dims, correction=0))
    else:
        variance = mean = wide.sum(dims).double()
    sums = torch.cat([mean.new_full((1,), float(own)), own * mean, own * (variance + mean.square())])
    count, total, squares = reduce(sums).split([1, x.shape[1], x.shape[1]])
    mean = total / count
    return count, mean, (squares / count - mean.square()).clamp(min=0)


class _Normalise(torch.autograd.Function):
    """Normalisation with statistics over all processes; one sum in the forward pass and one in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, reduce: Reduce
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count, mean, variance = _statistics(x, reduce)
        if x.device.type == "cpu" and not bool(count > 1):  # on a GPU the question would stall the stream
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)} "
                "and nothing in other processes"
            )
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        y = F.batch_norm(x, mean.to(dtype), variance.to(dtype), weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, bias, count, mean, variance)
        ctx.eps, ctx.reduce = eps, reduce
        ctx.mark_non_differentiable(count, mean, variance)
        return y, count, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, count, mean, variance = ctx.saved_tensors
        dy = gradients[0]
        if torch.is_grad_enabled():  # this gradient will itself be differentiated (gradient penalties)
            y = _plain(x, weight, bias, ctx.eps, ctx.reduce)
            inputs = [t for t, needed in zip((x, weight, bias), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(y, inputs, dy, create_graph=True))
            return (*(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None, None)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        scale = torch.rsqrt(variance + ctx.eps)
        if x.numel():
            # dy weight / sqrt(var + eps), and the sums of dy (x - mean) / sqrt(var + eps) and of dy
            local, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
                dy, x, weight, mean.to(dtype), variance.to(dtype), None, None, False, ctx.eps, [True, True, True]
            )
        else:  # on which torch's operator divides by zero
            local, dweight, dbias = dy, x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
        sums = ctx.reduce(torch.cat([dbias, dweight]).double()) / count
        scale = scale if weight is None else scale * weight.double()
        shift, slope = (-scale * part for part in sums.chunk(2))
        slope = slope * torch.rsqrt(variance + ctx.eps)
        through_statistics = (
            (x - _per_channel(mean, x, dtype)).mul_(_per_channel(slope, x, dtype)).add_(_per_channel(shift, x, dtype))
        )
        dx = local + through_statistics.to(x.dtype)
        return (
            dx,
            None if weight is None else dweight.to(weight.dtype),
            None if bias is None else dbias.to(bias.dtype),
            None,
            None,
        )


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes, which is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, reduce: Reduce) -> Tensor:
        ctx.reduce = reduce
        return reduce(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return cast(Tensor, _SumOverProcesses.apply(gradients[0], ctx.reduce)), None


def _plain(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, reduce: Reduce) -> Tensor:
    """The same function from operators that can be differentiated any number of times."""
    _, mean, variance = _statistics(x, lambda sums: cast(Tensor, _SumOverProcesses.apply(sums, reduce)))
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    y = (x - _per_channel(mean, x, dtype)) * _per_channel(torch.rsqrt(variance + eps), x, dtype)
    y = y if weight is None else y * _per_channel(weight, x, dtype)
    y = y if bias is None else y + _per_channel(bias, x, dtype)
    return y.to(x.dtype)
