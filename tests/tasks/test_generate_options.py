"""Truncation, classes by prompt and ways between latents; a seed's picture whatever else is made, for every family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from layerwise.core.discovery import catalogue
from layerwise.core.errors import ConfigError, UnsupportedError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.models.generative import dcgan, dit, gan, stylegan2, unet, vae, vq_vae
from layerwise.ops.noise_schedules import NoiseProcess
from layerwise.ops.random import Draws
from layerwise.ops.samplers import SamplerConfig
from layerwise.tasks.denoising import DrawsBetween, PictureOptions
from layerwise.tasks.image_density import ImageDensity, ImageDensityConfig
from layerwise.tasks.image_generation import ImageGeneration, ImageGenerationConfig

NAMES = ["Shoe", "Coat", "Bag"]
GENERATORS: dict[str, Callable[[], nn.Module]] = {
    "gan": lambda: gan.GAN(gan.PRESETS["gan-tiny"]),
    "dcgan": lambda: dcgan.DCGAN(dcgan.PRESETS["dcgan-tiny"]),
    "stylegan2": lambda: stylegan2.StyleGAN2(stylegan2.PRESETS["stylegan2-tiny"]),
    "vae": lambda: vae.VAE(vae.PRESETS["vae-tiny"]),
    "vq_vae": lambda: vq_vae.VQVAE(vq_vae.PRESETS["vq-vae-tiny"]),
    "ddpm": lambda: unet.UNet(unet.PRESETS["ddpm-tiny"]),
    "dit": lambda: dit.DiT(dit.PRESETS["dit-tiny"]),
}


def make_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = GENERATORS[name]().eval()
    with torch.no_grad():  # layers that begin at zero would make every picture alike
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return network


def make_task(network: nn.Module, condition: Any = "none") -> ImageGeneration:
    config: Any = network.config
    size, channels = tuple(config.image_size), config.in_channels
    task = ImageGeneration(ImageGenerationConfig(condition=condition, sampler=SamplerConfig(name="ddpm", steps=3)))
    columns = {"image": torch.zeros(3, channels, *size, dtype=torch.uint8), "labels": torch.arange(3)}
    task.bind(Splits(train=TensorExamples(columns), facts={"num_classes": 3}, class_names=NAMES))
    task.process = NoiseProcess(num_timesteps=10)
    return task


@pytest.mark.parametrize("name", list(GENERATORS))
def test_a_seeds_picture_is_the_same_whatever_the_number(name: str) -> None:
    network = make_network(name)
    task = make_task(network)
    many, few = task.make(network, 19, 3), task.make(network, 2, 3)
    assert torch.equal(many[:2], few)
    assert not torch.equal(few[0], few[1])
    assert not torch.equal(few, task.make(network, 2, 4))


@pytest.mark.parametrize("name", list(GENERATORS))
def test_a_seeds_picture_does_not_depend_on_those_made_with_it(name: str) -> None:
    """Beyond the fixed size of what is made at once: equal up to rounding."""
    network, ids = make_network(name).double(), torch.arange(5)
    task, draws, like = make_task(network), Draws(0, "x"), torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        whole, part = (task._draw(network, i, draws, like, None, PictureOptions()) for i in (ids, ids[3:4]))
    torch.testing.assert_close(whole[3:4], part, rtol=0, atol=1e-9)


def test_every_generative_family_is_among_those_tested() -> None:
    """`unet` is "ddpm"; latent diffusion is tested against diffusers, and its parts draw nothing alone."""
    modules = {module.rsplit(".", 1)[1] for module, _ in catalogue("model").values() if ".generative." in module}
    assert modules - set(GENERATORS) == {"unet", "latent_diffusion", "autoencoder_kl", "unet_conditional"}


def test_truncation_is_that_of_the_configuration_and_zero_leaves_one_style() -> None:
    network = make_network("stylegan2")
    task = make_task(network)
    plain, whole = (task.make(network, 4, 0, options=o) for o in (None, PictureOptions(truncation=1.0)))
    assert torch.equal(plain, whole)
    torch.manual_seed(0)
    config = stylegan2.PRESETS["stylegan2-tiny"]
    other = stylegan2.StyleGAN2(type(config)(**{**vars(config), "truncation": 0.4})).eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(task.make(network, 4, 0, options=PictureOptions(truncation=0.4)), task.make(other, 4, 0))


def test_options_that_a_model_cannot_follow_are_refused(tmp_path: Path) -> None:
    def generate(name: str, prompt: str | None = None, **options: Any) -> None:
        network = make_network(name)
        chosen = PictureOptions(**options) if options else None
        make_task(network).generate(network, prompt=prompt, count=2, seed=0, out=tmp_path / "x.png", options=chosen)

    with pytest.raises(UnsupportedError, match=r"--truncation 0\.5 needs a model with sample_truncated"):
        generate("dcgan", truncation=0.5)
    with pytest.raises(ConfigError, match="--truncation is of styles"):
        generate("ddpm", truncation=0.5)
    with pytest.raises(ConfigError, match=r"--truncation -1: must be 0 or more"):
        generate("stylegan2", truncation=-1.0)
    with pytest.raises(ConfigError, match=r"--steps: .*makes a picture at once"):
        generate("stylegan2", steps=5)
    with pytest.raises(ConfigError, match="leave --guidance out"):
        generate("ddpm", guidance=3.0)
    with pytest.raises(ConfigError, match="--strength says what is made anew in a picture"):
        generate("ddpm", strength=0.5)
    with pytest.raises(ConfigError, match="--strength and --mask"):
        generate("ddpm", image=tmp_path / "a.png", mask=tmp_path / "b.png", strength=0.5)
    with pytest.raises(ConfigError, match="--interpolate"):
        generate("vq_vae", interpolate=True)
    with pytest.raises(ConfigError, match="--prompt"):
        generate("vae", interpolate=True)  # conditional: classes are drawn from a list
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["gan", "dcgan", "stylegan2", "ddpm"])
def test_a_walk_has_the_first_and_last_samples_at_its_ends(name: str) -> None:
    network = make_network(name)
    task = make_task(network)
    task.config = ImageGenerationConfig(sampler=SamplerConfig(name="ddim", steps=3))  # no noise on the way
    walk, own = task.make(network, 5, 0, options=PictureOptions(interpolate=True)), task.make(network, 5, 0)
    ends = torch.stack([walk[0], walk[4]]).int() - torch.stack([own[0], own[4]]).int()
    assert ends.abs().max() <= 1  # the ends are computed in float64
    assert not torch.equal(walk[2], own[2])


def test_between_draws_stay_on_the_sphere_and_meet_half_way() -> None:
    draws = Draws(0, "x")
    walk = DrawsBetween(draws, 4).normal(torch.arange(5), (4000,), "latents", torch.float64)
    first, last = draws.normal(torch.tensor([0, 4]), (4000,), "latents", torch.float64)
    torch.testing.assert_close(walk[[0, 4]], torch.stack([first, last]), rtol=1e-12, atol=1e-12)
    cosine = torch.dot(first, last) / (first.norm() * last.norm())
    torch.testing.assert_close(walk[2], (first + last) / (2 * (1 + cosine)).sqrt(), rtol=1e-10, atol=1e-10)


def test_a_conditional_vae_draws_the_class_that_the_prompt_names() -> None:
    network = make_network("vae")
    assert isinstance(network, vae.VAE)
    task = ImageDensity(ImageDensityConfig())
    columns = {"image": torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "labels": torch.arange(3)}
    task.bind(Splits(train=TensorExamples(columns), facts={"num_classes": 3}, class_names=NAMES))
    opened = ImageDensity(ImageDensityConfig())
    opened.load(task.state())
    made = opened.make(network, 6, 0, prompt="coat")
    code = Draws(0, "image_generation", "generate").normal(torch.arange(16), (network.code_size,), "code")
    with torch.no_grad():
        wanted = network.decode_pictures(code, torch.full((16,), 1)).clamp(0, 1)
    assert torch.equal(made, (wanted * 255).round().to(torch.uint8)[:6])
    with pytest.raises(ConfigError, match="'Boat'"):
        opened.make(network, 1, 0, prompt="Boat")


def test_a_model_that_is_told_no_class_refuses_a_prompt() -> None:
    network = make_network("dcgan")
    with pytest.raises(ConfigError, match=r"DCGAN is told no class"):
        make_task(network, "class").make(network, 1, 0, prompt="Shoe")
