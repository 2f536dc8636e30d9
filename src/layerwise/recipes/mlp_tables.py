"""Tables: the census set Adult, and a person's own by `data.root=my.csv data.target=COLUMN`."""

from layerwise.core.config import component
from layerwise.train.recipe import EMA, Eval, Recipe


def tabular_classification() -> Recipe:
    """A two-layer perceptron with category vectors on a CSV file with a class to predict; weights best on
    validation.
    """
    return Recipe(
        task=component("tabular_classification", numbers="piecewise_linear"),
        model=component("mlp-tabular"),
        data=component("csv"),
        objective=component("cross_entropy"),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.01),
        schedule=component("cosine"),
        epochs=60,
        batch_size=64,
        eval=Eval(patience=10),
    )


def tabular_regression() -> Recipe:
    """A two-layer perceptron with category vectors on a CSV file with a number to predict; weights best on
    validation.
    """
    return Recipe(
        task=component("tabular_regression", numbers="quantile"),
        model=component("mlp-tabular"),
        data=component("csv"),
        objective=component("squared_error"),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.01),
        schedule=component("cosine"),
        epochs=100,
        batch_size=64,
        eval=Eval(patience=15),
    )


def adult_mlp() -> Recipe:
    """A two-layer perceptron on Adult (census income): AUC within 0.005 of gradient boosting in half a minute."""
    return Recipe(
        task=component("tabular_classification", numbers="piecewise_linear", bins=64),
        model=component("mlp-tabular"),
        data=component("adult"),
        objective=component("cross_entropy"),
        optimizer=component("AdamW", lr=4e-3, weight_decay=1.0),
        schedule=component("cosine"),
        epochs=25,
        batch_size=256,
        ema=EMA(decay=0.9995),
    )


def adult_resnet() -> Recipe:
    """The residual network for tables on Adult (census income): AUC within 0.005 of gradient boosting in half a
    minute.
    """
    return Recipe(
        task=component("tabular_classification", numbers="piecewise_linear", bins=64),
        model=component("resnet-tabular"),
        data=component("adult"),
        objective=component("cross_entropy"),
        optimizer=component("AdamW", lr=2e-3, weight_decay=1.0),
        schedule=component("cosine"),
        epochs=15,
        batch_size=256,
        ema=EMA(decay=0.9995),
    )
