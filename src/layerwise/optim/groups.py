"""Parameter groups: who decays, at which share of the learning rate, and which weights are matrices inside blocks."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from layerwise.core.errors import ConfigError

Group = dict[str, Any]


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    weight_decay: float,
    blocks: Sequence[str] = (),
    layer_decay: float | None = None,
) -> list[Group]:
    """Sort parameters into the groups that an optimiser of this package is built from.

    Parameters with at most one dimension and those whose name ends in "bias" do not decay. With `layer_decay`, the
    learning rate is scaled by `layer_decay ** depth`, counted from the top (Clark et al., ELECTRA, 2020): what comes
    after the blocks has depth 0, the last block 1, the first block `len(blocks)`, and what comes before the blocks
    `len(blocks) + 1`.

    Args:
        named_parameters: (name, parameter) in the network's order. Frozen ones are left out; a tied parameter counts
            under its first name.
        weight_decay: of the parameters that decay.
        blocks: names of the repeated units, first to last.
        layer_decay: factor from each block to the one before it, in (0, 1]; None scales nothing.

    Returns:
        Groups in the order of their first parameter, each with "params", "names", "lr_scale", "weight_decay" and
        "matrix" (True for weights inside `blocks` that are a matrix with at least two rows and columns once all but
        the first dimension is flattened).

    Raises:
        ConfigError: `layer_decay` without blocks, or nothing to train.
    """
    if layer_decay is not None and not blocks:
        raise ConfigError(f"layer_decay={layer_decay:g}: needs a network with repeated blocks; this one names none.")
    groups: dict[tuple[float, float, bool], Group] = {}
    seen: set[int] = set()
    last_block = -1
    for name, parameter in named_parameters:
        inside = _block_of(name, blocks)
        last_block = last_block if inside is None else inside
        if not parameter.requires_grad or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        position = last_block if inside is None else inside
        depth = 0 if inside is None and position == len(blocks) - 1 else len(blocks) - position
        scale = 1.0 if layer_decay is None else layer_decay**depth
        no_decay = parameter.ndim <= 1 or name.endswith("bias")
        rows = parameter.shape[0] if parameter.ndim else 1
        matrix = inside is not None and not no_decay and min(rows, parameter.numel() // max(rows, 1)) > 1
        decay = 0.0 if no_decay else weight_decay
        group = groups.setdefault(
            (decay, scale, matrix),
            {"params": [], "names": [], "lr_scale": scale, "weight_decay": decay, "matrix": matrix},
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ConfigError("There is nothing to train: every parameter is frozen.")
    return list(groups.values())


def with_rate(group: Group, lr: float) -> Group:
    """A group with its learning rate at schedule factor 1: `base_lr` before and `lr` after scaling by depth."""
    return {**group, "base_lr": lr, "lr": lr * group["lr_scale"]}


def merge_matrix_groups(groups: Iterable[Group], lr: float) -> list[Group]:
    """Groups that differ in "matrix" only, as one, with learning rates: for optimisers that treat all weights alike."""
    merged: dict[tuple[float, float], Group] = {}
    for group in groups:
        key = (group["weight_decay"], group["lr_scale"])
        if key in merged:
            merged[key]["params"].extend(group["params"])
            merged[key]["names"].extend(group["names"])
        else:
            own = {"params": list(group["params"]), "names": list(group["names"]), "matrix": False}
            merged[key] = with_rate({**group, **own}, lr)
    return list(merged.values())


def _block_of(name: str, blocks: Sequence[str]) -> int | None:
    return next((i for i, block in enumerate(blocks) if name.startswith(f"{block}.")), None)
