"""Latent diffusion: pictures from a text, of a person's own folder and of OpenMoji."""

from layerwise.core.config import component
from layerwise.train.recipe import EMA, Eval, Recipe, Stage

_VAE = component("autoencoder-kl-small", widths=(16, 32, 64), num_groups=8, scaling_factor=0.5)
_UNET = component("latent-unet-small", attention=(False, True))


def latent_diffusion() -> Recipe:
    """64 x 64 pictures of what a caption says, learned from a folder of pictures with captions: `data.root=./photos`,
    with a text file beside each picture or `data.captions=FILE.csv`.
    """
    return Recipe(
        task=component(
            "image_generation",
            condition="caption",
            sampler={"name": "dpm++2m", "steps": 20, "spacing": "trailing"},
            guidance=3.0,
            evaluated=64,
        ),
        model=component("latent-diffusion-small", vae=_VAE, unet=_UNET),
        data=component("pictures", size=(64, 64)),
        objective=component("denoising", process={"schedule": "cosine", "prediction": "v"}, min_snr=5.0),
        optimizer=component("AdamW", lr=1e-3, weight_decay=0.0),
        schedule=component("cosine", warmup_share=0.05),
        stages=(_autoencoder(epochs=40), Stage(name="diffusion", epochs=100, freeze=("vae.*",))),
        batch_size=32,
        ema=EMA(decay=0.999, parameters=("unet.*", "text_encoder.*")),
        clip=1.0,
        eval=Eval(every_epochs=None, monitor="last"),
    )


def _autoencoder(*, epochs: float) -> Stage:
    """Pictures to latents and back; a discriminator joins in when they are nearly there."""
    return Stage(
        name="autoencoder",
        objective=component("kl_autoencoding", kl_weight=1e-4),
        optimizer=component("AdamW", lr=2e-3, weight_decay=0.0),
        epochs=epochs,
        batch_size=16,
        freeze=("unet.*", "text_encoder.*"),
    )
