"""One restricted Boltzmann machine on MNIST, judged by what it draws."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe


def rbm_mnist() -> Recipe:
    """500 hidden units by persistent contrastive divergence; a chain that starts from noise draws digits."""
    return Recipe(
        task=component("image_generation", normalise="unit"),
        model=component("rbm", gibbs_steps=200, start_share=0.13),
        data=component("mnist"),
        objective=component("contrastive_divergence", persistent=100),
        optimizer=component("SGD", lr=0.05, momentum=0.0),
        schedule=component("linear"),
        epochs=20,
        batch_size=100,
        eval=Eval(every_epochs=None, monitor="last"),
    )
