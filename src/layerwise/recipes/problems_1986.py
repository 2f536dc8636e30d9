"""The problems on which back-propagation was shown in 1986: logistic units, squared error, gradient descent with
momentum on the whole table, small random weights; until every output unit is near its target.
"""

from collections.abc import Sequence

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe

_WHOLE_TABLE = 65536  # rows a step: more than any table has


def _problem(
    function: str, hidden: Sequence[int], *, lr: float, init_range: float, target_margin: float, tolerance: float = 0.4
) -> Recipe:
    return Recipe(
        task=component("pattern_association", tolerance=tolerance),
        model=component("mlp", hidden=list(hidden), activation="sigmoid", init_range=init_range),
        data=component("logic", function=function),
        objective=component("squared_error", output="logistic", target_margin=target_margin),
        optimizer=component("SGD", lr=lr, momentum=0.9),
        epochs=5000,
        batch_size=_WHOLE_TABLE,
        eval=Eval(every_epochs=10, stop_at=1.0),
    )


def backprop_xor() -> Recipe:
    """Exclusive or by two hidden units: all 4 patterns right after some hundred passes, in seconds."""
    return _problem("xor", [2], lr=1.0, init_range=0.3, target_margin=0.1)


def backprop_parity() -> Recipe:
    """Parity of four bits by eight hidden units: all 16 patterns right after some hundred passes, in seconds."""
    return _problem("parity", [8], lr=2.0, init_range=1.0, target_margin=0.1)


def backprop_parity_paper() -> Recipe:
    """Parity of four bits by four hidden units, as published: fewer than half of all starts get all 16 right."""
    return _problem("parity", [4], lr=2.0, init_range=3.0, target_margin=0.1)


def backprop_symmetry() -> Recipe:
    """Whether six bits are symmetric, by two hidden units: all 64 patterns right after about a thousand passes.

    As published, but for a learning rate of 0.0625 in place of 0.1 (of the summed half squared error: 2.0 here).
    """
    return _problem("symmetry", [2], lr=2.0, init_range=0.3, target_margin=0.0)


def backprop_encoder() -> Recipe:
    """Eight patterns through three hidden units, which find a code of three bits: all 8 right after a thousand passes.

    Right is within 0.1 here: at 0.4 the code is there and not yet sharp.
    """
    return _problem("encoder", [3], lr=4.0, init_range=0.3, target_margin=0.0, tolerance=0.1)
