"""Our side of a measurement of training steps: a recipe, trained as `layerwise train` does it, against a pace."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bench.pace import Pace

if TYPE_CHECKING:
    from torch import nn


def train_paced(
    pace: Pace,
    recipe: str,
    overrides: Mapping[str, Any],
    *,
    warm_up: int,
    window: int = 1,
    check: "Callable[[nn.Module], float] | None" = None,
) -> None:
    """Train without end, evaluations and changes of the rate, until the bench has all it wants.

    Args:
        warm_up: steps before the first window.
        window: steps in one.
        check: the number that sides doing the same work share, of the network; None takes the loss of the first step.
    """
    from layerwise.api.configure import configure
    from layerwise.train.build import build
    from layerwise.train.loop import Hooks, Trainer

    class Paced(Hooks):
        def __init__(self) -> None:
            self.first = 0.0

        def on_step(self, trainer: Trainer) -> None:
            if trainer.step == 1:
                self.first = trainer.last_loss
                pace.first()
            elif trainer.step == warm_up:
                pace.ready(self.first if check is None else check(session.network), note)
            elif trainer.step > warm_up and (trainer.step - warm_up) % window == 0:
                pace.window(window)

    endless = {"epochs": 1_000_000, "eval.every_epochs": None, "schedule": "constant"}
    session = build(configure(recipe, {**overrides, **endless}.items()).recipe)
    note = f"{session.precision}{', channels_last' if session.choices['channels_last'] else ''}"
    session.trainer(0, 0, [Paced()]).fit()
