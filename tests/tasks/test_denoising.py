"""Pictures by taking noise away: guidance, prompts, what depends on what."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from layerwise.core.config import parse
from layerwise.core.errors import ConfigError, DataError
from layerwise.data.examples import Splits, TensorExamples
from layerwise.models.generative.dcgan import DCGAN
from layerwise.models.generative.dcgan import PRESETS as GANS
from layerwise.models.generative.unet import PRESETS, UNet
from layerwise.objectives.denoising import DenoisingConfig
from layerwise.ops.random import Draws
from layerwise.tasks.denoising import Conditions, PictureOptions, latent_noise, make_predictor
from layerwise.tasks.image_generation import ImageGeneration, ImageGenerationConfig

NAMES = ["shirt", "shoe", "bag", "coat", "hat"]


@torch.no_grad()
def make_net() -> UNet:
    torch.manual_seed(0)
    net = UNet(PRESETS["ddpm-tiny"]).eval()
    for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def make_task(condition: str = "class", **options: Any) -> ImageGeneration:
    columns = {"image": torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8), "labels": torch.arange(20) % 5}
    splits = Splits(train=TensorExamples(columns), facts={"num_classes": 5}, class_names=NAMES)
    sampler = {"name": "ddim", "steps": 4, "spacing": "trailing"}
    task = ImageGeneration(parse(ImageGenerationConfig, {"condition": condition, "sampler": sampler, **options}))
    task.bind(splits)
    task.bind_objective(DenoisingConfig())
    return task


@pytest.mark.parametrize("guidance", [0.0, 0.5, 3.0])
def test_guidance_is_the_mixture_of_the_predictions_with_and_without_condition(guidance: float) -> None:
    net, x, times = make_net(), torch.randn(3, 1, 8, 8), torch.tensor([5.0, 50.0, 500.0])
    wanted, nothing = torch.tensor([0, 3, 4]), torch.tensor([5, 5, 5])
    found = make_predictor(net, Conditions(wanted=wanted, unwanted=nothing, guidance=guidance))(x, times)
    under, without = net(x, times, wanted), net(x, times)
    torch.testing.assert_close(found, without + guidance * (under - without), rtol=1e-4, atol=1e-5)


def test_guidance_of_one_asks_the_network_once() -> None:
    net, asked = make_net(), []
    net.register_forward_hook(lambda module, inputs, output: asked.append(len(inputs[0])))
    conditions = Conditions(wanted=torch.tensor([0, 3]), unwanted=torch.tensor([5, 5]), guidance=1.0)
    make_predictor(net, conditions)(torch.randn(2, 1, 8, 8), torch.tensor([5.0, 50.0]))
    assert asked == [2]


def test_pictures_do_not_depend_on_how_many_are_made() -> None:
    task, net = make_task(guidance=2.0), make_net()
    many, few = task.make(net, 20, seed=3, prompt="shoe"), task.make(net, 3, seed=3, prompt="shoe")
    assert torch.equal(many[:3], few)
    assert not torch.equal(few, task.make(net, 3, seed=4, prompt="shoe"))
    assert not torch.equal(few, task.make(net, 3, seed=3, prompt="bag"))


def test_without_a_prompt_every_class_comes_in_turn() -> None:
    task, net = make_task(), make_net()
    made = task.make(net, 7, seed=0)
    for i in (0, 4, 6):
        assert torch.equal(made[i], task.make(net, 7, seed=0, prompt=NAMES[i % 5].upper())[i])


def test_prompts_that_the_model_does_not_know_are_named() -> None:
    net = make_net()
    with pytest.raises(ConfigError, match="shoes"):
        make_task().make(net, 1, 0, "shoes")
    with pytest.raises(ConfigError, match="negative"):
        make_task().make(net, 1, 0, None, PictureOptions(negative="a dog"))
    with pytest.raises(ConfigError, match="leave --prompt out"):
        make_task("none").make(net, 1, 0, "shoe")


def test_the_ends_of_an_interpolation_have_noise_of_their_own_and_the_middle_unit_variance() -> None:
    draws, like, shape = Draws(0, "x"), torch.zeros(1), (3, 32, 32)
    path = latent_noise(draws, torch.arange(5), shape, like, last=4)
    ends = draws.normal(torch.tensor([0, 4]), shape, "latents")
    torch.testing.assert_close(path[[0, 4]], ends, rtol=1e-5, atol=1e-5)
    assert float(path[2].std()) == pytest.approx(1.0, rel=0.05)
    torch.testing.assert_close(path[2], (ends[0] + ends[1]) / 2**0.5, rtol=0.1, atol=0.1)
    alone = latent_noise(draws, torch.tensor([0]), shape, like, last=0)
    torch.testing.assert_close(alone[0], ends[0], rtol=1e-6, atol=1e-6)


def test_what_was_learned_travels_with_the_weights() -> None:
    task, net = make_task(), make_net()
    other = ImageGeneration(task.config)
    other.load(task.state())
    assert other.facts() == task.facts() == {"in_channels": 1, "image_size": (8, 8), "num_classes": 5}
    assert torch.equal(other.make(net, 2, 0), task.make(net, 2, 0))


def test_evaluation_makes_as_many_as_asked_under_the_labels_of_the_data() -> None:
    task, net = make_task(evaluated=5), make_net()
    metrics, seen = task.accumulator(), []
    net.register_forward_hook(lambda module, inputs, output: seen.append(inputs[2]))
    batch = {"image": torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "labels": torch.tensor([1, 2, 0, 4])}
    with torch.no_grad():
        for start in (0, 4, 8):
            metrics.update(net, task.inputs({**batch, "sample_ids": torch.arange(start, start + 4)}))
    table = metrics.table()
    assert (table["count"], table["made"]) == (12, 5)
    assert [labels.tolist() for labels in seen] == [[1, 2, 0, 4]] * 4 + [[1]] * 4


def test_report_shows_samples_by_class_and_the_way_from_noise(tmp_path: Path) -> None:
    found = dict(make_task().pictures(make_net(), None, tmp_path))
    sizes = []
    for path in found.values():
        with Image.open(path) as picture:
            sizes.append(np.asarray(picture).shape)
    assert sizes == [(12 * 42 - 2, 5 * 42 - 2), (6 * 42 - 2, 10 * 42 - 2)]


def test_data_without_classes_or_texts_are_refused() -> None:
    examples = TensorExamples({"image": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)})
    for condition in ("class", "caption"):
        task = ImageGeneration(parse(ImageGenerationConfig, {"condition": condition}))
        with pytest.raises(DataError, match=f"condition={condition}"):
            task.bind(Splits(train=examples))


def test_options_of_the_walk_are_for_models_that_walk(tmp_path: Path) -> None:
    task = ImageGeneration(ImageGenerationConfig())
    gan = DCGAN(GANS["dcgan-tiny"])
    with pytest.raises(ConfigError, match="step by step"):
        task.generate(gan, prompt=None, count=1, seed=0, out=tmp_path / "x.png", options=PictureOptions(steps=3))


def test_a_model_without_a_class_for_none_takes_no_guidance() -> None:
    net = UNet(parse(type(PRESETS["ddpm-tiny"]), {**vars(PRESETS["ddpm-tiny"]), "null_class": False}))
    labels: Tensor = torch.tensor([1])
    with pytest.raises(ConfigError, match="guidance"):
        make_predictor(net, Conditions(wanted=labels, unwanted=labels, guidance=2.0))
