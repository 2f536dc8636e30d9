"""Where a training step's micro-batches come from, and what every data set can be told."""

from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from torch import Tensor, nn

from layerwise.core.config import Component, Fraction, Kind, PositiveInt, Range

Batch = dict[str, Tensor]


class StepSource(Protocol):
    """Gives the loop the micro-batches of one step, and can be saved and restored exactly."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps in a pass over the data; None where there is no such thing."""
        ...

    @property
    def epoch(self) -> int:
        """Passes over the data completed."""
        ...

    def next_step(self, network: nn.Module) -> list[Batch]:
        """This process's micro-batches of the next step, as model inputs."""
        ...

    def state(self) -> dict[str, Any]:
        """Position and whatever else must survive: tensors, numbers, strings, booleans, None, lists, dicts."""
        ...

    def load(self, tree: dict[str, Any]) -> None:
        """Take `state()` back."""
        ...


@runtime_checkable
class Splittable(Protocol):
    """A source that can give its last steps again in smaller pieces."""

    def smaller(self, steps: int) -> list[list[Batch]]:
        """The last `steps` steps again, oldest first, with micro-batches of half the size, which also stay halved.

        Raises:
            DataError: micro-batches have one sample already.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Options that every data set has; each adds its own.

    Args:
        root: folder or file to read; None looks in $LAYERWISE_DATA, then the cache, then downloads where that is
            possible.
        val: validation data: a share of train, or a path to files of the same layout; None takes the set's own, else a
            tenth of train.
        fold, folds: cross-validation: train is cut into `folds` parts of equal size with the same share of each class,
            whole groups where there are groups; part `fold` (1 to `folds`) is validation data, the others are train.
            Which part an example is in depends on the seed alone. The test part is the same for every fold.
        limit: at most so many training examples a class (of all, without classes), chosen by the seed.
        augment: transforms of training batches, in order.
        weighted: draw training examples so that classes are equally likely.
    """

    root: str | None = None
    val: Fraction | str | None = None
    fold: PositiveInt | None = None
    folds: Annotated[int, Range(2)] | None = None
    limit: PositiveInt | None = None
    augment: tuple[Annotated[Component, Kind("transform")], ...] = ()
    weighted: bool = False
