"""VQ-VAE on Fashion-MNIST: a codebook, then a prior over its codes."""

from layerwise.core.config import component
from layerwise.train.recipe import Eval, Recipe, Stage


def vqvae_fashion() -> Recipe:
    """49 of 256 codes a picture, more than half of them in use; a transformer over the codes draws new pictures."""
    return Recipe(
        task=component("image_codes", judge="judge_fashion", evaluated=2000),
        model=component("vq-vae"),
        data=component("fashion_mnist"),
        objective=component("vector_quantisation", commitment=0.05),
        optimizer=component("Adam", lr=1e-3),
        schedule=component("cosine"),
        stages=(
            Stage(name="codes", epochs=5, freeze=("prior.*",)),
            Stage(
                name="prior",
                objective=component("code_prior"),
                optimizer=component("AdamW", lr=2e-3, weight_decay=0.05),
                epochs=6,
                freeze=("encoder.*", "decoder.*"),
            ),
        ),
        batch_size=64,
        clip=1.0,
        eval=Eval(every_epochs=None, monitor="last"),
    )
