"""Tables of a person's own: `layerwise train tabular_classification data.root=my.csv data.target=kind`, and regression
likewise.
"""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def tabular_classification() -> Recipe:
    """A two-layer perceptron with category vectors on a CSV file; 85 % or more on Adult (census income), in under a
    minute.
    """
    return Recipe(
        task=component("tabular_classification"),
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
    """A two-layer perceptron with category vectors on a CSV file with a number to predict."""
    return Recipe(
        task=component("tabular_regression"),
        model=component("mlp-tabular"),
        data=component("csv"),
        objective=component("squared_error"),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.01),
        schedule=component("cosine"),
        epochs=100,
        batch_size=64,
        eval=Eval(patience=15),
    )
