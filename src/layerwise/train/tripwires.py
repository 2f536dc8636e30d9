"""Find what went wrong in a step: the first module that made NaN or infinity, parameters that no gradient reaches."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(_finite(v) for v in value.values())
    return all(_finite(v) for v in value) if isinstance(value, list | tuple) else True


@contextmanager
def first_bad_module(network: nn.Module) -> Iterator[list[str]]:
    """Within the context, the first module whose output is not finite although its inputs are is noted (innermost
    first).
    """
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not _finite(output):
                found.append(f"{name or 'the network'} ({type(module).__name__})")

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in network.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def bad_parameters(named: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """Names of parameters that hold NaN or infinity."""
    return [name for name, parameter in named if not bool(torch.isfinite(parameter).all())]


def without_gradient(named: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """Names of trained parameters that the step's backward pass did not reach."""
    return [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on CPU or on an accelerator."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in ("not enough memory", "can't allocate memory", "out of memory")
    )
