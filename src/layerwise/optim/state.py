"""Optimiser state by parameter name, learning rates, and memory layouts that fused steps rely on."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from layerwise.core.errors import CheckpointError

Tree = dict[str, Any]
T = TypeVar("T")


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `base_lr * lr_scale * factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * group["lr_scale"] * factor


def named_state(optimizer: torch.optim.Optimizer) -> Tree:
    """The optimiser's state as a tree: which optimiser in which implementation, and per parameter name its tensors and
    numbers.

    Tensors are the live ones, not copies. A parameter that was never updated has an empty entry.
    """
    parameters = {name: dict(optimizer.state.get(parameter, {})) for name, parameter in _named(optimizer)}
    return {
        "optimizer": type(optimizer).__name__,
        "implementation": _implementation(optimizer),
        "parameters": parameters,
    }


def load_named_state(optimizer: torch.optim.Optimizer, tree: Tree) -> None:
    """Take `named_state` back, exactly. Tensors are copied into the memory layout and device of their parameter.

    Raises:
        CheckpointError: another optimiser, implementation, set of parameters, shape or kind of entry; the message
            names the parameter.
    """
    own = {"optimizer": type(optimizer).__name__, "implementation": _implementation(optimizer)}
    for key, value in own.items():
        if tree[key] != value:
            raise CheckpointError(f"The saved state is of {key} {tree[key]!r}; this training has {value!r}.")
    saved, named = tree["parameters"], _named(optimizer)
    if missing := [name for name, _ in named if name not in saved]:
        raise CheckpointError(
            f"The saved optimiser state has nothing for parameter {missing[0]!r} ({len(missing)} missing)."
        )
    if unexpected := sorted(set(saved) - {name for name, _ in named}):
        raise CheckpointError(
            f"The saved optimiser state has {unexpected[0]!r}, which is not trained ({len(unexpected)} unexpected)."
        )
    keys = optimizer.state_keys  # pyright: ignore[reportAttributeAccessIssue]
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            entry, expected = saved[name], keys(group)
            if entry and set(entry) != set(expected):
                raise CheckpointError(
                    f"The saved optimiser state of {name!r} has {sorted(entry)}, expected {sorted(expected)}."
                )
            restored = {
                key: _restored(optimizer, value, parameter, f"{name}: {key}", key) for key, value in entry.items()
            }
            if restored:
                optimizer.state[parameter] = restored
            else:
                optimizer.state.pop(parameter, None)


def _restored(optimizer: torch.optim.Optimizer, value: Any, parameter: Tensor, what: str, key: str) -> Any:
    if not isinstance(value, Tensor):
        return value
    if key == "step":
        device = parameter.device if _implementation(optimizer) == "fused" else torch.device("cpu")
        return value.detach().to(device, copy=True)
    if value.shape != parameter.shape:
        raise CheckpointError(
            f"The saved optimiser state of {what} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}."
        )
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value.detach())


def _named(optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    return [pair for group in optimizer.param_groups for pair in zip(group["names"], group["params"], strict=True)]


def _implementation(optimizer: torch.optim.Optimizer) -> str:
    return optimizer.implementation  # pyright: ignore[reportAttributeAccessIssue]


def keep_layouts_equal(optimizer: torch.optim.Optimizer) -> None:
    """Before every step, lay gradients and state out in memory as their parameters are.

    torch's fused CPU steps read the three as flat arrays: where strides differ (a channels_last weight with a
    contiguous gradient), weights would be corrupted without a word. Equal layouts cost one comparison a parameter.
    """
    layouts = [parameter.stride() for _, parameter in _named(optimizer)]
    parameters = [parameter for _, parameter in _named(optimizer)]

    def align(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for i, parameter in enumerate(parameters):
            gradient = parameter.grad
            if parameter.stride() != layouts[i]:  # the network's memory format was changed after the optimiser was made
                layouts[i] = parameter.stride()
                state = optimizer.state.get(parameter, {})
                for key, value in state.items():
                    if isinstance(value, Tensor) and key != "step":
                        state[key] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
            if gradient is not None and gradient.stride() != layouts[i] and not _same_memory_order(parameter, gradient):
                parameter.grad = torch.empty_like(parameter, dtype=gradient.dtype, requires_grad=False).copy_(gradient)

    optimizer.register_step_pre_hook(align)


def as_stored(found: T, lists: Sequence[list[Tensor]]) -> T:
    """Put views in the order of memory in place of maps with channels last, and return the first argument.

    torch's fused CPU step of Adam first copies gradients whose last dimension is not the dense one: a convolution of
    256 x 256 x 3 x 3 weights took 0.65 ms with channels last and 0.23 ms by such views.
    """
    for tensors in lists:
        tensors[:] = [x.permute(0, 2, 3, 1) if x.dim() == 4 and not x.is_contiguous() else x for x in tensors]
    return found


def _same_memory_order(one: Tensor, other: Tensor) -> bool:
    """Whether strides agree wherever a dimension has more than one entry."""
    pairs = zip(one.shape, one.stride(), other.stride(), strict=True)
    return all(size <= 1 or first == second for size, first, second in pairs)
