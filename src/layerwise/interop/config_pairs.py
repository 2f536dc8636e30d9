"""Their configuration values and ours, pair by pair, both ways. Imports no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerwise.core.errors import CheckpointError

Tree = dict[str, Any]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Pair:
    """One value under two names.

    Args:
        theirs, ours: its names.
        default: their library's value where their file leaves it out.
        load: their value to ours.
        save: ours to theirs.
    """

    theirs: str
    ours: str
    default: Any
    load: Callable[[Any], Any] = _same
    save: Callable[[Any], Any] = _same


def side_pair(value: Any) -> Any:
    """A side or (height, width) -> (height, width)."""
    return (value, value) if isinstance(value, int) else tuple(value)


def side_or_pair(value: Any) -> Any:
    """(height, width) -> the side of a square, else both."""
    return value[0] if value[0] == value[1] else list(value)


def one_side(value: Any) -> Any:
    """The side of a square given as a number or twice."""
    return value if isinstance(value, int) or len(set(value)) > 1 else value[0]


def read_pairs(
    tree: Mapping[str, Any],
    where: str,
    pairs: Sequence[Pair],
    required: Mapping[str, tuple[Any, ...]],
    ignored: Sequence[str],
) -> Tree:
    """Our options from their configuration.

    Args:
        tree: their values.
        where: the file, for messages.
        pairs: values that both sides have.
        required: their keys that change the function -> the values that are implemented here.
        ignored: their keys that do not change what the network computes.

    Raises:
        CheckpointError: a value that is not implemented, or a key that is not known and could change the function.
    """
    known = {pair.theirs for pair in pairs}
    for key, value in tree.items():
        if key in required and value not in required[key]:
            allowed = " and ".join(repr(v) for v in required[key])
            raise CheckpointError(
                f"{where}: {key}={value!r} changes what the network computes and is not implemented here; {allowed} is."
            )
        if key not in known and key not in required and key not in ignored and not key.startswith("_"):
            raise CheckpointError(
                f"{where}: {key}={value!r} is not known here and may change what the network computes. Take it out of "
                "the file if it does not."
            )
    options: Tree = {}
    for pair in pairs:
        value = tree.get(pair.theirs, pair.default)
        try:
            options[pair.ours] = None if value is None else pair.load(value)
        except (TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{where}: {pair.theirs}={value!r} is not understood.") from error
    return options


def write_pairs(config: Any, pairs: Sequence[Pair]) -> Tree:
    """Their values from our configuration."""
    return {pair.theirs: pair.save(getattr(config, pair.ours)) for pair in pairs}
