"""Clipping of gradients by their global norm."""

# torch's operators on lists of tensors are public by use and private by name.
# pyright: reportPrivateImportUsage=false

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_FLOOR = 1e-6  # as torch.nn.utils.clip_grad_norm_


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together, a scalar tensor; zero where there is none."""
    return _norm([p.grad for p in parameters if p.grad is not None])


def _norm(gradients: list[Tensor]) -> Tensor:
    if not gradients:
        return torch.zeros(())
    norms = torch._foreach_norm(gradients)
    device = norms[0].device
    if any(norm.device != device for norm in norms):
        norms = tuple(norm.to(device) for norm in norms)
    return torch.linalg.vector_norm(torch.stack(norms))


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale gradients in place so that their global norm is at most `max_norm`.

    The result is that of `torch.nn.utils.clip_grad_norm_`. On a CPU gradients within the bound are left alone (a
    factor of exactly one); on an accelerator they are multiplied without asking, which would wait for the device.

    Returns:
        The norm before clipping, a scalar tensor.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = _norm(gradients)
    if not gradients or (norm.device.type == "cpu" and float(norm) + _FLOOR <= max_norm):
        return norm
    factor = (max_norm / (norm + _FLOOR)).clamp(max=1.0)
    if all(gradient.device == factor.device for gradient in gradients):
        torch._foreach_mul_(gradients, factor)
    else:
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.device))
    return norm
