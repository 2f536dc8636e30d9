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


def vq_vae_paper() -> Recipe:
    """The published setting for ImageNet's pictures, `data.root=./imagenet`: 128 x 128 pixels, 32 x 32 of 512 codes,
    250,000 steps of 128 pictures at 2e-4. The paper's prior is a PixelCNN; here a transformer, whose size and length of
    training are not published.
    """
    return Recipe(
        task=component("image_codes"),
        model=component(
            "vq-vae",
            hidden_channels=256,
            residual_channels=256,
            codebook_size=512,
            entry_size=64,
            prior={"d_model": 512, "num_layers": 12, "num_heads": 8},
        ),
        data=component("pictures", size=128),
        objective=component("vector_quantisation", commitment=0.25),
        optimizer=component("Adam", lr=2e-4),
        stages=(
            Stage(name="codes", max_steps=250_000, freeze=("prior.*",)),
            Stage(
                name="prior",
                objective=component("code_prior"),
                max_steps=250_000,
                freeze=("encoder.*", "decoder.*"),
            ),
        ),
        batch_size=128,
        eval=Eval(every_epochs=None, monitor="last"),
    )
