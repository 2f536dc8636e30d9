"""The deep autoencoder of Hinton and Salakhutdinov on MNIST."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe, Stage


def autoencoder_mnist() -> Recipe:
    """784-1000-500-250-30 and back: squared error of a test picture at most 4.0.

    The paper reached 3.00 with greedy pre-training; 30 principal components have 13.9.
    """
    return Recipe(
        task=component("reconstruction"),
        model=component("autoencoder"),
        data=component("mnist"),
        objective=component("reconstruction"),
        optimizer=component("Muon", lr=0.04, adamw_lr=1e-3),
        schedule=component("linear", warmup_steps=200),
        epochs=24,
        batch_size=256,
        eval=Eval(every_epochs=4, monitor="last"),
    )


def autoencoder_mnist_paper() -> Recipe:
    """The published setting: four Boltzmann machines trained one on the other for 50 passes each, unrolled, fine-tuned.

    The paper reached 3.00 (30 principal components: 13.87) with conjugate gradients; here fine-tuning is by stochastic
    gradient descent.
    """
    return Recipe(
        task=component("reconstruction"),
        model=component("autoencoder"),
        data=component("mnist"),
        objective=component("reconstruction", unroll=True),
        optimizer=component("SGD", lr=0.01, momentum=0.9, weight_decay=2e-4),
        stages=(
            *(
                Stage(
                    name=f"pretrain-{layer + 1}",
                    objective=component("contrastive_divergence", layer=layer, visible="mean"),
                    optimizer=component("SGD", lr=0.001 if layer == 3 else 0.05, momentum=0.9, weight_decay=2e-4),
                    epochs=50,
                    freeze=(
                        *(f"encoder.{other}.*" for other in range(4) if other != layer),
                        *(f"decoder.{3 - other}.*" for other in range(4) if other != layer),
                        f"decoder.{3 - layer}.weight",
                    ),
                )
                for layer in range(4)
            ),
            Stage(name="fine-tune", epochs=200),
        ),
        batch_size=100,
        eval=Eval(every_epochs=10, monitor="last"),
    )
