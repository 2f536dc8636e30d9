"""Rosenblatt's perceptron where it is promised to learn, and where it cannot."""

from layerwise.core.config import Component, component
from layerwise.train.recipe import Eval, Recipe


def _error_correction(data: Component) -> Recipe:
    """The rule as it was proved: one sample a step, weights from zero, until no training point is wrong."""
    return Recipe(
        task=component("pattern_association", output_units="threshold"),
        model=component("perceptron"),
        data=data,
        objective=component("perceptron_rule"),
        optimizer=component("SGD", lr=1.0, momentum=0.0),
        epochs=100,
        batch_size=1,
        eval=Eval(monitor="errors", stop_at=0.0, batch_size=1000),
    )


def perceptron() -> Recipe:
    """A hundred separable points in the plane: no error left after a few passes, within the bound of the theorem."""
    return _error_correction(component("separable", margin=0.02, seed=3))


def perceptron_xor() -> Recipe:
    """Exclusive or: no line separates it, and the rule does not end; at most 3 of 4 rows right.

    With a layer of fixed random association units in front, as in 1958 (model=perceptron-1958), it does.
    """
    return _error_correction(component("logic", function="xor"))
