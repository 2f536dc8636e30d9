"""The adding problem over 200 steps: an LSTM and a GRU remember two numbers that long, a plain RNN does not."""

from layerwise.core.config import Component, component
from layerwise.train.recipe import Eval, Recipe


def _adding(model: Component) -> Recipe:
    return Recipe(
        task=component("sequence_regression"),
        model=model,
        data=component("adding_problem"),
        objective=component("squared_error"),
        optimizer=component("AdamW", lr=3e-3, weight_decay=0.0),
        schedule=component("cosine", warmup_share=0.02),
        epochs=5,
        batch_size=50,
        clip=1.0,
        eval=Eval(every_epochs=0.5),
    )


def adding_rnn() -> Recipe:
    """A plain RNN: no better than answering 1 always, a mean squared error of 0.167."""
    return _adding(component("rnn-regressor"))


def adding_lstm() -> Recipe:
    """An LSTM, all else the same: a mean squared error below 0.01."""
    return _adding(component("lstm-regressor", max_memory=200))


def adding_gru() -> Recipe:
    """A GRU, all else the same: a mean squared error below 0.01."""
    return _adding(component("gru-regressor", max_memory=200))
