"""Nets of McCulloch-Pitts neurons on their truth tables: wired by hand, so that there is nothing to train."""

from layerwise.core.config import component
from layerwise.train.recipe import Recipe


def _table(function: str) -> Recipe:
    return Recipe(
        task=component("pattern_association", output_units="binary"),
        model=component(f"mcculloch_pitts_{function}"),
        data=component("logic", function=function),
        max_steps=0,
    )


def mcculloch_pitts_xor() -> Recipe:
    """Two layers of threshold units compute exclusive or, which one unit cannot: all 4 rows of the table right."""
    return _table("xor")


def mcculloch_pitts_and() -> Recipe:
    """One threshold unit computes AND: all 4 rows of the table right."""
    return _table("and")


def mcculloch_pitts_or() -> Recipe:
    """One threshold unit computes OR: all 4 rows of the table right."""
    return _table("or")


def mcculloch_pitts_not() -> Recipe:
    """One threshold unit with an inhibitory input computes NOT: both rows of the table right."""
    return _table("not")
