"""Latent diffusion: pictures from a text, of a person's own folder and of OpenMoji."""

from dataclasses import replace
from typing import Any

from layerwise.core.config import Component, component
from layerwise.train.recipe import EMA, Eval, Recipe, Stage


def latent_diffusion() -> Recipe:
    """64 x 64 pictures of what a caption says, learned from a folder of pictures with captions: `data.root=./photos`,
    with a text file beside each picture or `data.captions=FILE.csv`.
    """
    return Recipe(
        task=_task(evaluated=64),
        model=component(
            "latent-diffusion-small",
            vae={"widths": (16, 32, 64), "num_groups": 8, "scaling_factor": 0.6},
            unet={"attention": (False, True)},
        ),
        data=component("pictures", size=64),
        objective=component("denoising", process={"schedule": "cosine", "prediction": "v"}, min_snr=5.0),
        optimizer=component("AdamW", lr=1e-3, weight_decay=0.0),
        schedule=component("cosine", warmup_share=0.05),
        stages=(_autoencoder(epochs=40), Stage(name="diffusion", epochs=100, freeze=("vae.*",))),
        batch_size=32,
        ema=EMA(decay=0.999, parameters=("unet.*", "text_encoder.*")),
        clip=1.0,
        eval=Eval(every_epochs=None, monitor="last"),
    )


def latent_openmoji() -> Recipe:
    """64 x 64 drawings of what a caption says, in 98 sub-groups, a tenth of the captions held back: a classifier finds
    the sub-group that was asked for at least ten times as often as by chance.
    """
    own = latent_diffusion()
    return replace(
        own,
        task=_task(judge="judge_openmoji", judged=191),
        data=component("openmoji", val=0.0),
        stages=(_autoencoder(epochs=10), Stage(name="diffusion", epochs=130, freeze=("vae.*",))),
    )


def judge_openmoji() -> Recipe:
    """Six convolutions that name the sub-group of a drawing at 32 x 32, trained on all of them, those whose
    captions `latent_openmoji` holds back too: it judges what others draw and is not judged itself.
    """
    return Recipe(
        task=component("image_classification"),
        model=component("convnet"),
        data=component("openmoji", size=32, caption="none", val=0.0, test=0.0, augment=[component("crop", padding=2)]),
        objective=component("cross_entropy", label_smoothing=0.05),
        optimizer=component("Muon", lr=0.02, weight_decay=0.05, adamw_lr=3e-3),
        schedule=component("one_cycle", peak=0.2),
        epochs=60,
        batch_size=64,
        device="cpu",
        precision="fp32",
        eval=Eval(every_epochs=None, monitor="last"),
    )


def _task(**options: Any) -> Component:
    sampler = {"name": "dpm++2m", "steps": 20, "spacing": "trailing"}
    return component("image_generation", condition="caption", sampler=sampler, guidance=3.0, **options)


def _autoencoder(*, epochs: float) -> Stage:
    """Pictures to latents of a quarter of the side, and back."""
    return Stage(
        name="autoencoder",
        objective=component("kl_autoencoding", distance="squared", kl_weight=1e-3),
        optimizer=component("Muon", lr=0.02, weight_decay=0.0, adamw_lr=3e-3),
        epochs=epochs,
        batch_size=16,
        freeze=("unet.*", "text_encoder.*"),
    )


def latent_diffusion_paper() -> Recipe:
    """The published text-to-picture model on pictures with captions, `data.root=./laion`: an autoencoder that shrinks
    sides eightfold, then 390,000 steps of 680 pictures of 256 x 256 at 1e-4, network and text encoder together. The
    paper's text encoder is a transformer of 32 layers; here it has the size of Stable Diffusion's.
    """
    return Recipe(
        task=component("image_generation", condition="caption", sampler={"steps": 250, "eta": 1.0}, guidance=1.5),
        model=component("stable-diffusion-1"),
        data=component("pictures", size=256),
        objective=component(
            "denoising", process={"schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
        ),
        optimizer=component("AdamW", lr=1e-4),
        stages=(
            Stage(
                name="autoencoder",
                objective=component(
                    "kl_autoencoding",
                    kl_weight=1e-6,
                    perceptual_weight=1.0,
                    adversarial_weight=0.5,
                    start_step=50_000,
                    discriminator_width=64,
                    discriminator_levels=3,
                ),
                optimizer=component("Adam", lr=12 * 4.5e-6, beta1=0.5, beta2=0.9),
                max_steps=250_000,
                batch_size=12,
                freeze=("unet.*", "text_encoder.*"),
            ),
            Stage(name="diffusion", max_steps=390_000, freeze=("vae.*",)),
        ),
        batch_size=680,
        ema=EMA(decay=0.9999, parameters=("unet.*", "text_encoder.*")),
        eval=Eval(every_epochs=None, monitor="last"),
    )
