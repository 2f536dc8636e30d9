"""What the networks of diffusers share: kinds of levels, sizes, keys that change nothing. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.core.errors import CheckpointError

Tree = dict[str, Any]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def read_levels(config: Tree, kinds: Mapping[str, bool], mirrored: Mapping[str, bool], where: str) -> tuple[bool, ...]:
    """Whether each level has attention, finest first.

    Args:
        config: with `down_block_types` and `up_block_types`.
        kinds, mirrored: kind of level on the way down and on the way up -> whether it has attention.

    Raises:
        CheckpointError: a kind that is not implemented, or ways down and up that do not mirror each other.
    """
    found: list[tuple[bool, ...]] = []
    for key, known in (("down_block_types", kinds), ("up_block_types", mirrored)):
        names = config.get(key)
        if not isinstance(names, list | tuple) or not names:
            raise CheckpointError(f"{where}: {key}={names!r} should be a list of names.")
        if strange := [name for name in names if name not in known]:
            raise CheckpointError(
                f"{where}: {key} has {strange[0]!r}, which is not implemented here; {' and '.join(known)} are."
            )
        found.append(tuple(known[name] for name in names))
    if found[0] != found[1][::-1]:
        raise CheckpointError(
            f"{where}: up_block_types={list(config['up_block_types'])} do not mirror down_block_types, which is not "
            "implemented here."
        )
    return found[0]


def write_levels(attention: Sequence[bool], kinds: Mapping[str, bool], mirrored: Mapping[str, bool]) -> Tree:
    """`down_block_types` and `up_block_types`."""
    down, up = ({value: name for name, value in known.items()} for known in (kinds, mirrored))
    return {
        "down_block_types": [down[flag] for flag in attention],
        "up_block_types": [up[flag] for flag in reversed(attention)],
    }


def one_number(value: Any) -> int:
    """A number given once or once a level.

    Raises:
        ValueError: it differs between levels.
    """
    numbers = {value} if isinstance(value, int) else set(value)
    if len(numbers) != 1:
        raise ValueError(value)
    return int(numbers.pop())


def tuple_of(value: Any) -> tuple[Any, ...]:
    """A list as a tuple."""
    if not isinstance(value, list | tuple):
        raise TypeError(value)
    return tuple(value)
